//! YAML documents in, checked objects out: what an API server does with `kubectl apply`.
//!
//! A document that does not parse as its kind (YAML, field types, name) is refused with its place.
//! A well-formed one is accepted; values in it that cannot be used fail closed (DESIGN §3.2 row 8)
//! and, like unknown fields, are told by [`Document::warnings`].

use std::fmt;
use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::strict::Step;
use crate::{convert, names, strict, v1};

mod kinds;
mod lines;

use kinds::Scope;
use lines::Lines;

#[cfg(test)]
mod tests;

/// One accepted document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The file it stands in, as the caller named it.
    pub file: String,
    /// The line where it begins, from 1.
    pub line: usize,
    /// The object.
    pub object: Object,
    /// The document as it was written, before defaulting.
    pub raw: Value,
    warnings: Vec<String>,
}

impl Document {
    /// In words: unknown fields, and values that cannot be used and so fail closed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// A refused document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{file}:{line}: {reason}")]
pub struct DocumentError {
    /// The file it stands in, as the caller named it.
    pub file: String,
    /// The line of the error, or where the document begins; from 1.
    pub line: usize,
    /// What is wrong, for people.
    pub reason: String,
    /// The object that it is, or was meant to be, as far as the document says.
    pub key: Option<Box<Key>>,
}

/// An object of a kind that we read, or the name of any other.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `v1` Node.
    Node(Box<Node>),
    /// `v1` Namespace.
    Namespace(Box<Namespace>),
    /// `v1` Pod.
    Pod(Box<Pod>),
    /// `networking.k8s.io/v1` `NetworkPolicy`.
    NetworkPolicy(Box<NetworkPolicy>),
    /// `v1` Secret: BGP's passwords.
    Secret(Box<Secret>),
    /// `margay.io/v1alpha1` `IPPool`.
    IpPool(Box<v1::IpPool>),
    /// `margay.io/v1alpha1` `BGPPeer`.
    BgpPeer(Box<v1::BgpPeer>),
    /// `margay.io/v1alpha1` `BGPFilter`.
    BgpFilter(Box<v1::BgpFilter>),
    /// `margay.io/v1alpha1` `NetworkConfig`.
    NetworkConfig(Box<v1::NetworkConfig>),
    /// Anything else: to be reported and skipped.
    Other {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
        /// `metadata.namespace`, empty if absent.
        namespace: String,
        /// `metadata.name`, empty if absent.
        name: String,
    },
}

/// Names one object among all kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// `kind`; with its `apiVersion` in front for kinds that we do not read.
    pub kind: String,
    /// `metadata.namespace`; empty for cluster-scoped kinds.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl Object {
    /// Checks what the types of our own kinds cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::IpPool(pool) => pool.spec.check(),
            Self::BgpPeer(peer) => peer.spec.check(),
            Self::BgpFilter(filter) => filter.spec.check(),
            Self::NetworkConfig(config) => config.check(),
            Self::Node(_)
            | Self::Namespace(_)
            | Self::Pod(_)
            | Self::NetworkPolicy(_)
            | Self::Secret(_)
            | Self::Other { .. } => Ok(()),
        }
    }

    /// The object's key.
    pub fn key(&self) -> Key {
        let (kind, metadata) = match self {
            Self::Node(object) => ("Node", &object.metadata),
            Self::Namespace(object) => ("Namespace", &object.metadata),
            Self::Pod(object) => ("Pod", &object.metadata),
            Self::NetworkPolicy(object) => ("NetworkPolicy", &object.metadata),
            Self::Secret(object) => ("Secret", &object.metadata),
            Self::IpPool(object) => ("IPPool", &object.metadata),
            Self::BgpPeer(object) => ("BGPPeer", &object.metadata),
            Self::BgpFilter(object) => ("BGPFilter", &object.metadata),
            Self::NetworkConfig(object) => ("NetworkConfig", &object.metadata),
            Self::Other {
                api_version,
                kind,
                namespace,
                name,
            } => {
                return Key {
                    kind: format!("{api_version} {kind}"),
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
            }
        };
        Key {
            kind: kind.to_owned(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// Reads all documents of `text`; those of a `List` count one by one, empty ones not at all.
///
/// `file` is only a name, for messages. One broken document does not touch the others.
pub fn documents(file: impl AsRef<Path>, text: &str) -> Vec<Result<Document, DocumentError>> {
    let file = file.as_ref().display().to_string();
    let mut results = Vec::new();
    for chunk in chunks(text) {
        match serde_saphyr::from_str::<Value>(&chunk.text) {
            Ok(Value::Null) => {}
            Ok(value) => flatten(value, &file, &chunk, &mut Vec::new(), &mut results),
            Err(error) => {
                let at = error.location().map_or(1, |location| location.line());
                results.push(Err(DocumentError {
                    file: file.clone(),
                    line: chunk.first + usize::try_from(at).unwrap_or(1).max(1) - 1,
                    reason: format!("not YAML: {}", one_line(&error)),
                    key: None,
                }));
            }
        }
    }
    results
}

/// A document's text and place.
struct Chunk {
    text: String,
    /// Line of its first line, from 1.
    first: usize,
    /// Line of its first content, from 1.
    content: usize,
}

/// Splits at `---` and `...` lines, as kubectl does, so that a broken document ends at the next.
fn chunks(text: &str) -> Vec<Chunk> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut current = Chunk {
        text: String::new(),
        first: 1,
        content: 0,
    };
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let marker = ["---", "..."]
            .iter()
            .find_map(|marker| line.strip_prefix(marker))
            .filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        let line = if let Some(rest) = marker {
            let next = Chunk {
                text: String::new(),
                first: number,
                content: 0,
            };
            chunks.push(std::mem::replace(&mut current, next));
            rest
        } else {
            line
        };
        let trimmed = line.trim();
        if current.content == 0 && !trimmed.is_empty() && !trimmed.starts_with(['#', '%']) {
            current.content = number;
        }
        // A directive belongs to the stream, not to a document.
        if current.content != 0 || !trimmed.starts_with('%') {
            current.text.push_str(line);
        }
        current.text.push('\n');
    }
    chunks.push(current);
    chunks.retain(|chunk| chunk.content != 0);
    chunks
}

/// Adds the object, or of a list each item; `place` leads from the document to it.
fn flatten(
    value: Value,
    file: &str,
    chunk: &Chunk,
    place: &mut Vec<Step>,
    results: &mut Vec<Result<Document, DocumentError>>,
) {
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match value.get("items") {
        Some(Value::Array(items)) if kind.ends_with("List") => {
            place.push(Step::Key("items".to_owned()));
            for (index, item) in items.iter().enumerate() {
                place.push(Step::Index(index));
                flatten(item.clone(), file, chunk, place, results);
                place.pop();
            }
            place.pop();
        }
        Some(_) | None => results.push(object(value, file, chunk, place)),
    }
}

fn object(
    raw: Value,
    file: &str,
    chunk: &Chunk,
    place: &[Step],
) -> Result<Document, DocumentError> {
    let text = |path: &str| {
        raw.pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let key = kinds::key(
        &api_version,
        kind.clone(),
        text("/metadata/namespace"),
        text("/metadata/name"),
    );
    let refuse = |line: usize, reason: String| DocumentError {
        file: file.to_owned(),
        line,
        reason: if kind.is_empty() || key.name.is_empty() {
            reason
        } else {
            format!("{key}: {reason}")
        },
        key: (!key.kind.is_empty() && !key.name.is_empty()).then(|| Box::new(key.clone())),
    };
    if !raw.is_object() {
        return Err(refuse(
            chunk.content,
            "not an object: a document has apiVersion, kind and metadata".to_owned(),
        ));
    }
    for (field, value) in [("apiVersion", &api_version), ("kind", &kind)] {
        if value.is_empty() {
            return Err(refuse(
                chunk.content,
                format!("{field} is missing or not a string"),
            ));
        }
    }
    let read = Read {
        raw: &raw,
        chunk,
        place,
    };
    let result = read.object(&api_version, &kind, &key);
    let (object, unknown) = result.map_err(|(line, reason)| refuse(line, reason))?;
    let mut warnings: Vec<String> = unknown
        .into_iter()
        .map(|path| format!("{path}: unknown field, ignored"))
        .collect();
    warnings.extend(convert::warnings(&object));
    Ok(Document {
        file: file.to_owned(),
        line: chunk.content,
        object,
        raw,
        warnings,
    })
}

/// Why a document is refused, and the line if it is known better than the document's.
type Refusal = (usize, String);

struct Read<'a> {
    raw: &'a Value,
    chunk: &'a Chunk,
    /// The way from the chunk's document to it: it may be a list's item.
    place: &'a [Step],
}

impl Read<'_> {
    /// Reads the document as its kind, and finds the fields that the kind does not have.
    fn object(
        &self,
        api_version: &str,
        kind: &str,
        key: &Key,
    ) -> Result<(Object, Vec<String>), Refusal> {
        match (api_version, kind) {
            ("v1", "Node") => self.typed(
                Scope::Cluster,
                |o: &mut Node| &mut o.metadata,
                |o| Ok(Object::Node(o)),
            ),
            ("v1", "Namespace") => self.typed(
                Scope::Namespace,
                |o: &mut Namespace| &mut o.metadata,
                |o| Ok(Object::Namespace(o)),
            ),
            ("v1", "Pod") => self.typed(
                Scope::Namespaced,
                |o: &mut Pod| &mut o.metadata,
                |o| Ok(Object::Pod(o)),
            ),
            ("networking.k8s.io/v1", "NetworkPolicy") => self.typed(
                Scope::Namespaced,
                |o: &mut NetworkPolicy| &mut o.metadata,
                |o| Ok(Object::NetworkPolicy(o)),
            ),
            ("v1", "Secret") => self.typed(
                Scope::Namespaced,
                |o: &mut Secret| &mut o.metadata,
                |o| Ok(Object::Secret(kinds::merged(o))),
            ),
            (v1::API_VERSION, "BGPFilter") => self.typed(
                Scope::Cluster,
                |o: &mut v1::BgpFilter| &mut o.metadata,
                |o| checked(Object::BgpFilter(o)),
            ),
            (v1::API_VERSION, "IPPool") => self.typed(
                Scope::Cluster,
                |o: &mut v1::IpPool| &mut o.metadata,
                |o| checked(Object::IpPool(o)),
            ),
            (v1::API_VERSION, "BGPPeer") => self.typed(
                Scope::Cluster,
                |o: &mut v1::BgpPeer| &mut o.metadata,
                |o| checked(Object::BgpPeer(o)),
            ),
            (v1::API_VERSION, "NetworkConfig") => self.typed(
                Scope::Cluster,
                |o: &mut v1::NetworkConfig| &mut o.metadata,
                |o| checked(Object::NetworkConfig(o)),
            ),
            _ => {
                if let Some(reason) = kinds::misnamed(api_version, kind) {
                    return Err((self.chunk.content, reason));
                }
                let other = Object::Other {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                };
                Ok((other, Vec::new()))
            }
        }
    }

    /// Reads, defaults and checks an object, and finds the fields that its kind does not have.
    fn typed<T: DeserializeOwned + Serialize>(
        &self,
        scope: Scope,
        metadata: impl Fn(&mut T) -> &mut ObjectMeta,
        wrap: impl Fn(Box<T>) -> Result<Object, String>,
    ) -> Result<(Object, Vec<String>), Refusal> {
        let here = |reason: String| (self.chunk.content, reason);
        let raw = kinds::defaulted(self.raw);
        let mut object: Box<T> = Box::new(strict::typed(&raw).map_err(|(path, reason)| {
            let path: Vec<Step> = self.place.iter().cloned().chain(path).collect();
            let line = Lines::of(&self.chunk.text).and_then(|lines| lines.at(&path));
            let line = line.map_or(self.chunk.content, |line| self.chunk.first + line - 1);
            (line, reason)
        })?);
        let mut unknown = strict::unknown_fields(self.raw, &*object);
        // Our own kinds do not hold these two.
        unknown.retain(|path| path != "apiVersion" && path != "kind");
        let metadata = metadata(&mut object);
        let name = metadata.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Err(here("metadata.name is missing".to_owned()));
        }
        let checked = match scope {
            Scope::Namespace => names::label(name),
            Scope::Cluster | Scope::Namespaced => names::subdomain(name),
        };
        checked.map_err(|reason| here(format!("metadata.name: {reason}")))?;
        match scope {
            Scope::Cluster | Scope::Namespace => metadata.namespace = None,
            Scope::Namespaced => {
                let namespace = metadata.namespace.get_or_insert_default();
                if namespace.is_empty() {
                    "default".clone_into(namespace);
                }
                names::label(namespace)
                    .map_err(|reason| here(format!("metadata.namespace: {reason}")))?;
            }
        }
        Ok((wrap(object).map_err(here)?, unknown))
    }
}

fn checked(object: Object) -> Result<Object, String> {
    object.check().map(|()| object)
}

/// The parser's words without its place, which counts from the document's begin, and without its
/// hints to programmers.
fn one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let text = text
        .rfind(" at line ")
        .map_or(text.as_str(), |place| &text[..place]);
    text.split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or_default()
        .to_owned()
}
