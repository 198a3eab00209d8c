//! The kinds that we read.

use std::borrow::Cow;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::Key;
use crate::v1;

/// Where objects of a kind live, and so which names they may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// No namespace; the name is a subdomain.
    Cluster,
    /// No namespace; the name is a label.
    Namespace,
    /// In a namespace; the name is a subdomain.
    Namespaced,
}

/// Kinds that we read, with their `apiVersion`.
const KINDS: [(&str, &str, Scope); 9] = [
    ("v1", "Node", Scope::Cluster),
    ("v1", "Namespace", Scope::Namespace),
    ("v1", "Pod", Scope::Namespaced),
    ("networking.k8s.io/v1", "NetworkPolicy", Scope::Namespaced),
    ("v1", "Secret", Scope::Namespaced),
    (v1::API_VERSION, "IPPool", Scope::Cluster),
    (v1::API_VERSION, "BGPPeer", Scope::Cluster),
    (v1::API_VERSION, "BGPFilter", Scope::Cluster),
    (v1::API_VERSION, "NetworkConfig", Scope::Cluster),
];

/// The kind of ours that a document is or was meant to be.
fn alike(api_version: &str, kind: &str) -> Option<(&'static str, &'static str, Scope)> {
    let ours = matches!(
        group(api_version),
        "" | "networking.k8s.io" | "extensions" | "margay.io"
    );
    KINDS
        .into_iter()
        .find(|(_, known, _)| ours && known.eq_ignore_ascii_case(kind))
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// What to write instead, if this is one of our kinds with the wrong version, or a kind of our own
/// group that there is not: an object that seems to be in force and is not.
pub(super) fn misnamed(api_version: &str, kind: &str) -> Option<String> {
    match alike(api_version, kind) {
        Some((version, known, _)) => Some(format!(
            "there is no {kind} in {api_version}; write `apiVersion: {version}`, `kind: {known}`"
        )),
        None if group(api_version) == "margay.io" => Some(format!(
            "there is no {kind} in {api_version}; {} has IPPool, BGPPeer, BGPFilter and NetworkConfig",
            v1::API_VERSION
        )),
        None => None,
    }
}

/// The object that a document is, or was meant to be; empty where it does not say.
pub(super) fn key(api_version: &str, kind: String, namespace: String, name: String) -> Key {
    match alike(api_version, &kind) {
        Some((_, known, Scope::Cluster | Scope::Namespace)) => Key {
            kind: known.to_owned(),
            namespace: String::new(),
            name,
        },
        Some((_, known, Scope::Namespaced)) => {
            let namespace = if namespace.is_empty() {
                "default".to_owned()
            } else {
                namespace
            };
            Key {
                kind: known.to_owned(),
                namespace,
                name,
            }
        }
        None => Key {
            kind,
            namespace,
            name,
        },
    }
}

/// The document as an API server would complete it: a `NetworkConfig` without `spec` has all defaults.
pub(super) fn defaulted(raw: &Value) -> Cow<'_, Value> {
    let text = |field: &str| raw.get(field).and_then(Value::as_str);
    let ours = text("apiVersion") == Some(v1::API_VERSION) && text("kind") == Some("NetworkConfig");
    match raw {
        Value::Object(fields) if ours && fields.get("spec").is_none_or(Value::is_null) => {
            let mut fields = fields.clone();
            fields.insert("spec".to_owned(), json!({}));
            Cow::Owned(Value::Object(fields))
        }
        Value::Object(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => Cow::Borrowed(raw),
    }
}

/// A Secret as an API server stores it: what is written as text stands among the data.
pub(super) fn merged(mut secret: Box<Secret>) -> Box<Secret> {
    let texts = secret.string_data.take().unwrap_or_default();
    let data = secret.data.get_or_insert_default();
    let texts = texts.into_iter();
    data.extend(texts.map(|(key, text)| (key, ByteString(text.into_bytes()))));
    secret
}
