//! A ruleset that remembers what changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::{Batch, Operation, looks_into};
use crate::ruleset::{Chain, ChainName, Key, Ruleset, Set, SetName, Verdict};

/// A ruleset, and what it was before in the places that changed since the last [`Draft::commit`].
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    ruleset: Ruleset,
    elements: BTreeMap<SetName, Elements>,
    sets: BTreeMap<SetName, Option<Set>>,
    chains: BTreeMap<ChainName, Option<Chain>>,
    /// Fixed sets that are made anew.
    outgrown: BTreeSet<&'static str>,
}

/// An element of a set, or of a map with its verdict.
pub(super) type Element = Option<Verdict>;

/// What keys of a set had before.
type Elements = BTreeMap<Key, Option<Element>>;

impl Draft {
    pub(super) fn new(ruleset: Ruleset) -> Self {
        Self {
            ruleset,
            ..Self::default()
        }
    }

    pub(super) fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// Puts an element into a fixed set, or removes it.
    pub(super) fn element(&mut self, set: &str, key: Key, value: Option<Element>) {
        let elements = &mut self
            .ruleset
            .sets
            .get_mut(set)
            .expect("fixed sets are always there")
            .elements;
        let before = match value {
            Some(verdict) => elements.insert(key.clone(), verdict),
            None => elements.remove(&key),
        };
        match self.elements.get_mut(set) {
            Some(log) => log.entry(key).or_insert(before),
            None => self
                .elements
                .entry(set.to_owned())
                .or_default()
                .entry(key)
                .or_insert(before),
        };
    }

    /// Gives a fixed set other room: it is made anew.
    pub(super) fn room(&mut self, set: &'static str, room: u32) {
        self.ruleset
            .sets
            .get_mut(set)
            .expect("fixed sets are always there")
            .room = Some(room);
        self.outgrown.insert(set);
    }

    /// Puts a set that comes and goes as a whole, or removes it.
    pub(super) fn set(&mut self, name: &str, set: Option<Set>) {
        let before = match set {
            Some(set) => self.ruleset.sets.insert(name.to_owned(), set),
            None => self.ruleset.sets.remove(name),
        };
        self.sets.entry(name.to_owned()).or_insert(before);
    }

    /// Puts a chain, or removes it.
    pub(super) fn chain(&mut self, name: &str, chain: Option<Chain>) {
        let before = match chain {
            Some(chain) => self.ruleset.chains.insert(name.to_owned(), chain),
            None => self.ruleset.chains.remove(name),
        };
        self.chains.entry(name.to_owned()).or_insert(before);
    }

    /// The operations since the last commit: the same that [`diff`](crate::diff::diff) would find.
    pub(super) fn commit(&mut self) -> Vec<Operation> {
        let mut batch = Batch::default();
        let mut elements = std::mem::take(&mut self.elements);
        let sets = std::mem::take(&mut self.sets);
        let outgrown = std::mem::take(&mut self.outgrown);
        let names = elements.keys().chain(sets.keys()).map(String::as_str);
        let names: BTreeSet<SetName> = names
            .chain(outgrown.iter().copied())
            .map(str::to_owned)
            .collect();
        for name in &names {
            match (sets.get(name), self.ruleset.sets.get(name)) {
                (None, Some(set)) if outgrown.contains(name.as_str()) => {
                    batch.delete_set(name);
                    batch.add_set(name, set);
                }
                (None, Some(set)) => {
                    let log = elements.remove(name).unwrap_or_default();
                    let (gone, come) = changes(log, set);
                    batch.element_changes(name, gone, come);
                }
                (Some(Some(old)), Some(new)) => batch.elements(name, &old.elements, &new.elements),
                (Some(Some(_)), None) => batch.delete_set(name),
                (Some(None) | None, _) => {}
            }
        }
        for name in names
            .iter()
            .filter(|name| matches!(sets.get(*name), Some(None)))
        {
            if let Some(set) = self.ruleset.sets.get(name) {
                batch.add_set(name, set);
            }
        }
        let mut chains = std::mem::take(&mut self.chains);
        if !outgrown.is_empty() {
            for (name, chain) in &self.ruleset.chains {
                if looks_into(chain, &outgrown) && !chains.contains_key(name) {
                    chains.insert(name.clone(), Some(chain.clone()));
                }
            }
        }
        for (name, before) in &chains {
            match (before, self.ruleset.chains.get(name)) {
                (Some(_), None) => {
                    batch.flush(name);
                    batch.delete_chain(name);
                }
                (Some(old), Some(new)) if old != new || looks_into(new, &outgrown) => {
                    batch.flush(name);
                    batch.rules(name, new);
                }
                (Some(_), Some(_)) | (None, _) => {}
            }
        }
        for (name, before) in &chains {
            if let (None, Some(new)) = (before, self.ruleset.chains.get(name)) {
                batch.add_chain(name, new);
            }
        }
        batch.into_operations()
    }
}

/// Keys to remove and elements to add.
fn changes(log: Elements, set: &Set) -> (Vec<Key>, Vec<(Key, Option<Verdict>)>) {
    let mut gone = Vec::new();
    let mut come = Vec::new();
    for (key, before) in log {
        let now = set.elements.get(&key);
        if before.as_ref() == now {
            continue;
        }
        if let Some(verdict) = now {
            come.push((key.clone(), verdict.clone()));
        }
        if before.is_some() {
            gone.push(key);
        }
    }
    (gone, come)
}
