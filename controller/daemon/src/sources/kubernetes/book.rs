//! What is known of the API's objects: enough to see what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use margay_api::convert;
use margay_api::load::{Key, Object};
use margay_policy::model::NodeName;
use margay_sync::status::{ObjectStatus, ObjectsPage, RefusedDocument};

use super::reduce::{Content, Item};
use super::watch::Notice;
use super::{Kind, Subject, Trouble};
use crate::sources::ObjectEvent;

/// Namespace and name.
type Name = (String, String);

/// All kinds.
#[derive(Debug, Default)]
pub(super) struct Book {
    kinds: BTreeMap<Kind, Chapter>,
}

/// One kind.
#[derive(Debug, Default)]
struct Chapter {
    entries: BTreeMap<Name, Entry>,
    /// While it is listed: what was not listed yet and was known before.
    unseen: Option<BTreeSet<Name>>,
    /// It was listed whole at least once.
    listed: bool,
}

/// One object.
#[derive(Debug, Default)]
struct Entry {
    uid: Box<str>,
    /// What is in force of it.
    held: Option<Held>,
    /// What fails closed in it.
    problems: Vec<String>,
    /// Why its present content is not in force.
    refused: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Held {
    /// An object with this content.
    Object(u64),
    /// A block of a node.
    Block(IpNet, NodeName),
}

/// What changes by a notice.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// An object.
    Object(ObjectEvent),
    /// A block, and whose it is now.
    Block(IpNet, Option<NodeName>),
}

impl Book {
    /// Takes a notice in.
    pub(super) fn note(&mut self, kind: Kind, notice: Notice) -> Vec<Output> {
        let chapter = self.kinds.entry(kind).or_default();
        match notice {
            Notice::Begin => {
                chapter.unseen = Some(chapter.entries.keys().cloned().collect());
                Vec::new()
            }
            Notice::Listed(item) | Notice::Apply(item) => chapter.apply(item),
            Notice::Delete { namespace, name } => chapter.delete(kind, &(namespace, name)),
            Notice::End => {
                chapter.listed = true;
                let gone = chapter.unseen.take().unwrap_or_default();
                gone.iter()
                    .flat_map(|name| chapter.delete(kind, name))
                    .collect()
            }
        }
    }

    /// Whether a kind was listed whole.
    pub(super) fn is_listed(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(|chapter| chapter.listed)
    }

    /// Objects with problems.
    pub(super) fn troubled(&self) -> Vec<Trouble> {
        let mut troubled = Vec::new();
        for (kind, chapter) in &self.kinds {
            for ((namespace, name), entry) in &chapter.entries {
                if entry.problems.is_empty() && entry.refused.is_none() {
                    continue;
                }
                troubled.push(Trouble {
                    kind: kind.name(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    uid: entry.uid.to_string(),
                    refused: entry.refused.clone(),
                    problems: entry.problems.clone(),
                });
            }
        }
        troubled
    }

    /// The uids of these objects, as far as they are known.
    pub(super) fn uids(&self, wanted: BTreeSet<Subject>) -> BTreeMap<Subject, String> {
        let known = wanted.into_iter().filter_map(|(kind, namespace, name)| {
            let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
            let place = (namespace, name);
            let uid = self.kinds.get(&kind)?.entries.get(&place)?.uid.to_string();
            Some(((kind.name(), place.0, place.1), uid))
        });
        known.collect()
    }

    /// How many objects are known.
    pub(super) fn len(&self) -> usize {
        self.kinds
            .values()
            .map(|chapter| chapter.entries.len())
            .sum()
    }

    /// What is known, for people.
    pub(super) fn page(&self) -> ObjectsPage {
        let mut page = ObjectsPage::default();
        for (kind, chapter) in &self.kinds {
            for ((namespace, name), entry) in &chapter.entries {
                let Entry {
                    uid: _,
                    held,
                    problems,
                    refused,
                } = entry;
                let key = key(*kind, namespace, name);
                if let Some(reason) = refused {
                    page.refused.push(RefusedDocument {
                        file: String::new(),
                        line: 0,
                        reason: format!("{key}: {reason}"),
                        in_force: held.iter().map(|_| key.to_string()).collect(),
                    });
                }
                if held.is_some() {
                    page.objects.push(ObjectStatus {
                        kind: key.kind,
                        namespace: key.namespace,
                        name: key.name,
                        file: String::new(),
                        line: 0,
                        kept: refused.is_some(),
                        problems: problems.clone(),
                    });
                }
            }
        }
        page.objects.sort();
        page
    }
}

impl Chapter {
    fn apply(&mut self, item: Item) -> Vec<Output> {
        let Item {
            namespace,
            name,
            uid,
            content,
        } = item;
        let name = (namespace, name);
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&name);
        }
        let entry = self.entries.entry(name).or_default();
        entry.uid = uid.into();
        match content {
            Content::Refused(reason) => {
                entry.refused = Some(reason);
                Vec::new()
            }
            Content::Object(object, hash) => {
                entry.refused = None;
                let held = Some(Held::Object(hash));
                if entry.held == held {
                    return Vec::new();
                }
                entry.held = held;
                entry.problems = convert::warnings(&object);
                vec![applied(object)]
            }
            Content::Block(block, node) => {
                entry.refused = None;
                let held = Held::Block(block, node.clone());
                let old = entry.held.replace(held);
                if old == entry.held {
                    return Vec::new();
                }
                // The range is in the name, so an old one is the same.
                vec![Output::Block(block, Some(node))]
            }
        }
    }

    fn delete(&mut self, kind: Kind, name: &Name) -> Vec<Output> {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(name);
        }
        let held = self.entries.remove(name).and_then(|entry| entry.held);
        match held {
            None => Vec::new(),
            Some(Held::Object(_)) => {
                let key = key(kind, &name.0, &name.1);
                vec![Output::Object(ObjectEvent::Delete(key))]
            }
            Some(Held::Block(block, _)) => vec![Output::Block(block, None)],
        }
    }
}

fn applied(object: Object) -> Output {
    Output::Object(ObjectEvent::Apply(Arc::new(object)))
}

fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    Key {
        kind: kind.name().to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
