//! What files hold, and what of it is in force.
//!
//! Values in, values out: the thread in `folder` does the reading. As an API server would, a refused
//! document leaves in force what was accepted of it before. Which object it is may be unclear; then
//! everything that its file held before and does not hold now stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use margay_api::load::{self, Document, DocumentError, Key, Object};
use margay_sync::status::{ObjectStatus, ObjectsPage, RefusedDocument};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ObjectEvent;

/// All files.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By path relative to the folder.
    files: BTreeMap<String, File>,
    /// The files that hold an object.
    holders: BTreeMap<Key, BTreeSet<String>>,
}

/// One file.
#[derive(Debug, Default)]
struct File {
    entries: BTreeMap<Key, Entry>,
    refused: Vec<RefusedDocument>,
}

/// An accepted object in a file.
#[derive(Debug)]
struct Entry {
    object: Arc<Object>,
    raw: Arc<Value>,
    line: usize,
    problems: Vec<String>,
    /// The line of another document of the file with this object, which does not count.
    earlier: Option<usize>,
    /// The file holds something refused in its place.
    kept: bool,
}

/// What came out of reading a file.
#[derive(Debug)]
pub(super) enum Reading {
    /// Its text.
    Text(String),
    /// It is there but cannot be read: why.
    Unreadable(String),
    /// It is gone.
    Gone,
}

/// An accepted document, to be written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Accepted {
    /// Its line.
    pub(super) line: usize,
    /// The document.
    pub(super) raw: Arc<Value>,
}

impl Ledger {
    /// Takes what was accepted of a file in an earlier run; it counts as kept until the file is read.
    pub(super) fn restore(&mut self, file: &str, documents: Vec<Accepted>) -> Vec<ObjectEvent> {
        let mut book = File::default();
        for Accepted { line, raw } in documents {
            for document in load::documents(file, &raw.to_string())
                .into_iter()
                .flatten()
            {
                let mut entry = Entry::new(document);
                (entry.line, entry.kept) = (line, true);
                book.entries.insert(entry.object.key(), entry);
            }
        }
        self.replace(BTreeMap::from([(file.to_owned(), Some(book))]))
    }

    /// Takes what files hold now and says what changes by it, all at once: an object that moves from
    /// one to another is not gone in between.
    pub(super) fn read(&mut self, readings: BTreeMap<String, Reading>) -> Vec<ObjectEvent> {
        let nothing = File::default();
        let mut books = BTreeMap::new();
        for (name, reading) in readings {
            let old = self.files.get(&name).unwrap_or(&nothing);
            let book = match reading {
                Reading::Gone => None,
                Reading::Text(text) => Some(File::parse(&name, &text, old)),
                Reading::Unreadable(reason) => Some(File::unreadable(&name, reason, old)),
            };
            books.insert(name, book);
        }
        self.replace(books)
    }

    /// Paths of all files inside a folder; the empty path is the whole folder.
    pub(super) fn files_in<'a>(&'a self, folder: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let from = self.files.range(prefix.clone()..);
        from.map(|(file, _)| file.as_str())
            .take_while(move |file| file.starts_with(&prefix))
    }

    /// What is accepted of a file; `None` if there is no such file.
    pub(super) fn accepted(&self, file: &str) -> Option<Vec<Accepted>> {
        let book = self.files.get(file)?;
        let entries = book.entries.values().filter(|entry| entry.is_known());
        Some(
            entries
                .map(|entry| Accepted {
                    line: entry.line,
                    raw: Arc::clone(&entry.raw),
                })
                .collect(),
        )
    }

    /// What is refused of a file.
    pub(super) fn refused(&self, file: &str) -> &[RefusedDocument] {
        self.files.get(file).map_or(&[], |book| &book.refused)
    }

    /// Everything, for people.
    pub(super) fn page(&self) -> ObjectsPage {
        let mut page = ObjectsPage::default();
        for (key, files) in &self.holders {
            let Some((file, entry)) = self.winner(key) else {
                continue;
            };
            let mut problems = entry.problems.clone();
            problems.extend(
                entry
                    .earlier
                    .map(|line| format!("stands already in line {line}, which is ignored")),
            );
            for other in files.iter().filter(|other| *other != file) {
                problems.push(format!("stands also in {other}, which is ignored"));
            }
            let Key {
                kind,
                namespace,
                name,
            } = key.clone();
            page.objects.push(ObjectStatus {
                kind,
                namespace,
                name,
                file: file.to_owned(),
                line: entry.line,
                kept: entry.kept,
                problems,
            });
        }
        page.refused = self
            .files
            .values()
            .flat_map(|file| file.refused.clone())
            .collect();
        page
    }

    fn replace(&mut self, books: BTreeMap<String, Option<File>>) -> Vec<ObjectEvent> {
        let mut touched: BTreeSet<Key> = BTreeSet::new();
        for (name, book) in &books {
            let old = self.files.get(name).into_iter();
            let keys = old
                .chain(book)
                .flat_map(|book| book.entries.keys().cloned());
            touched.extend(keys);
        }
        let before: Vec<(Key, Option<Arc<Object>>)> = touched
            .into_iter()
            .map(|key| {
                let object = self
                    .winner(&key)
                    .map(|(_, entry)| Arc::clone(&entry.object));
                (key, object)
            })
            .collect();
        for (name, book) in books {
            let old = self.files.remove(&name).unwrap_or_default();
            for key in old.entries.keys() {
                if let Some(files) = self.holders.get_mut(key) {
                    files.remove(&name);
                    if files.is_empty() {
                        self.holders.remove(key);
                    }
                }
            }
            if let Some(book) = book {
                for key in book.entries.keys() {
                    self.holders
                        .entry(key.clone())
                        .or_default()
                        .insert(name.clone());
                }
                self.files.insert(name, book);
            }
        }
        let changed = before.into_iter().filter_map(|(key, before)| {
            match (before, self.winner(&key).map(|(_, entry)| &entry.object)) {
                (Some(before), Some(after)) if before == *after => None,
                (_, Some(after)) => Some(ObjectEvent::Apply(Arc::clone(after))),
                (Some(_), None) => Some(ObjectEvent::Delete(key)),
                (None, None) => None,
            }
        });
        changed.collect()
    }

    /// Of several files that hold an object the last by name counts, as it would after
    /// `kubectl apply -f` of the folder; what is only kept counts less than what stands in a file.
    fn winner(&self, key: &Key) -> Option<(&str, &Entry)> {
        let files = self.holders.get(key)?;
        let entries = files.iter().filter_map(|name| {
            let entry = self.files.get(name)?.entries.get(key)?;
            Some((name.as_str(), entry))
        });
        entries.max_by_key(|(name, entry)| (!entry.kept, *name))
    }
}

impl File {
    fn parse(name: &str, text: &str, old: &Self) -> Self {
        let mut book = Self::default();
        let mut refused: Vec<DocumentError> = Vec::new();
        for result in load::documents(name, text) {
            match result {
                Ok(document) => book.accept(document),
                Err(error) => refused.push(error),
            }
        }
        refused.extend(book.impostors(name, old));
        for error in refused {
            let mut in_force = BTreeSet::new();
            for key in old.affected(&error, &book) {
                in_force.insert(key.to_string());
                book.keep(&key, old);
            }
            let DocumentError {
                file,
                line,
                reason,
                key: _,
            } = error;
            book.refused.push(RefusedDocument {
                file,
                line,
                reason,
                in_force,
            });
        }
        book
    }

    fn unreadable(name: &str, reason: String, old: &Self) -> Self {
        let mut book = Self::default();
        for key in old.entries.keys() {
            book.keep(key, old);
        }
        let in_force = book.entries.keys().map(Key::to_string).collect();
        book.refused.push(RefusedDocument {
            file: name.to_owned(),
            line: 1,
            reason,
            in_force,
        });
        book
    }

    fn accept(&mut self, document: Document) {
        let mut entry = Entry::new(document);
        let key = entry.object.key();
        entry.earlier = self.entries.get(&key).map(|earlier| earlier.line);
        self.entries.insert(key, entry);
    }

    /// Documents of a kind that we do not know where an object of the same name was: a misspelled kind
    /// must not end a policy.
    fn impostors(&mut self, file: &str, old: &Self) -> Vec<DocumentError> {
        let mut impostors = Vec::new();
        for (key, entry) in &self.entries {
            let Object::Other {
                api_version,
                kind,
                name,
                ..
            } = entry.object.as_ref()
            else {
                continue;
            };
            let ours = ["v1", "networking.k8s.io/", "margay.io/"];
            let before = old.entries.iter().find(|(before, entry)| {
                entry.is_known() && before.name == *name && !self.entries.contains_key(before)
            });
            if let Some((before, _)) = before
                && ours.iter().any(|prefix| api_version.starts_with(prefix))
            {
                impostors.push((key.clone(), DocumentError {
                    file: file.to_owned(),
                    line: entry.line,
                    reason: format!("{before}: the kind is now `{kind}` of `{api_version}`, which is not known"),
                    key: Some(Box::new(before.clone())),
                }));
            }
        }
        for (key, _) in &impostors {
            self.entries.remove(key);
        }
        impostors.into_iter().map(|(_, error)| error).collect()
    }

    /// What of this file a refused document of its next version may be: the object it names, if that was
    /// here and stands nowhere else in the new version; else it may be anything that was here. Reading the same again
    /// must give the same.
    fn affected(&self, error: &DocumentError, new: &Self) -> Vec<Key> {
        let missing = |key: &Key| new.entries.get(key).is_none_or(|entry| entry.kept);
        let known = self.entries.iter().filter(|(_, entry)| entry.is_known());
        let missing: Vec<&Key> = known
            .map(|(key, _)| key)
            .filter(|key| missing(key))
            .collect();
        let is_named = |key: &Key| error.key.as_ref().is_some_and(|named| same(key, named));
        let any_named = missing.iter().any(|key| is_named(key));
        let affected = missing
            .into_iter()
            .filter(|key| !any_named || is_named(key));
        affected.cloned().collect()
    }

    fn keep(&mut self, key: &Key, old: &Self) {
        if let Some(entry) = old.entries.get(key).filter(|entry| entry.is_known()) {
            let kept = Entry {
                object: Arc::clone(&entry.object),
                raw: Arc::clone(&entry.raw),
                line: entry.line,
                problems: entry.problems.clone(),
                earlier: None,
                kept: true,
            };
            self.entries.insert(key.clone(), kept);
        }
    }
}

impl Entry {
    /// Whether it is of a kind that we read: others are named, and that is all.
    fn is_known(&self) -> bool {
        !matches!(self.object.as_ref(), Object::Other { .. })
    }

    fn new(document: Document) -> Self {
        let mut problems = document.warnings().to_vec();
        let Document {
            line, object, raw, ..
        } = document;
        // Every API server makes ServiceAccounts; pods name them.
        if let Object::Other { kind, .. } = &object
            && kind != "ServiceAccount"
        {
            problems.push("kind not known, skipped".to_owned());
        }
        Self {
            object: Arc::new(object),
            raw: Arc::new(raw),
            line,
            problems,
            earlier: None,
            kept: false,
        }
    }
}

/// Whether a key as far as a refused document says it names an accepted object.
fn same(key: &Key, named: &Key) -> bool {
    let Key {
        kind,
        namespace,
        name,
    } = named;
    let namespaces =
        key.namespace == *namespace || (namespace.is_empty() && key.namespace == "default");
    key.kind == *kind && key.name == *name && (namespaces || key.namespace.is_empty())
}

#[cfg(test)]
mod tests;
