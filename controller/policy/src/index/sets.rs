//! Sets of addresses or services, and which nodes know them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use super::idhash::IdMap;
use super::nodes::NodeIndex;

/// Sets of `T` by id, each with its definition.
#[derive(Debug)]
pub(super) struct Sets<Id, Definition, T> {
    entries: IdMap<Id, Entry<Definition, T>>,
    /// Members touched since the last flush: whether nodes know them. Only of sets that nodes know.
    members: BTreeMap<Id, BTreeMap<T, bool>>,
    /// Whether a node knows a set, for those touched since the last flush; the first entry counts.
    touched: Vec<(NodeIndex, Id, bool)>,
    /// Sets forgotten since the last flush: how many nodes know them.
    forgotten: IdMap<Id, usize>,
}

#[derive(Debug)]
struct Entry<Definition, T> {
    definition: Definition,
    /// How many policies name it.
    policies: usize,
    members: BTreeSet<T>,
    /// How many rule lists of a node use it.
    users: BTreeMap<NodeIndex, usize>,
    /// How many nodes knew it at the last flush.
    known: usize,
}

/// How a set changes for a node.
pub(super) enum SetChange<T> {
    /// The set exists, and these come and go.
    Patch {
        /// New members; all of them if the node did not know the set.
        add: BTreeSet<T>,
        /// Members that leave.
        remove: BTreeSet<T>,
    },
    /// The node has no use for it.
    Delete,
}

impl<Id, Definition, T> Default for Sets<Id, Definition, T> {
    fn default() -> Self {
        Self {
            entries: IdMap::default(),
            members: BTreeMap::new(),
            touched: Vec::new(),
            forgotten: IdMap::default(),
        }
    }
}

impl<Id: Copy + Ord + Hash, Definition: Clone, T: Copy + Ord> Sets<Id, Definition, T> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn definition(&self, id: Id) -> Option<&Definition> {
        self.entries.get(&id).map(|entry| &entry.definition)
    }

    pub(super) fn members(&self, id: Id) -> Option<&BTreeSet<T>> {
        self.entries.get(&id).map(|entry| &entry.members)
    }

    /// One more policy names the set; whether it is new, and so without its members.
    pub(super) fn declare(&mut self, id: Id, definition: &Definition) -> bool {
        let mut new = false;
        let entry = self.entries.entry(id).or_insert_with(|| {
            new = true;
            Entry {
                definition: definition.clone(),
                policies: 0,
                members: BTreeSet::new(),
                users: BTreeMap::new(),
                known: self.forgotten.remove(&id).unwrap_or_default(),
            }
        });
        entry.policies += 1;
        new
    }

    /// One policy less names the set; its members if that was the last.
    pub(super) fn retire(&mut self, id: Id) -> Option<BTreeSet<T>> {
        let entry = self.entries.get_mut(&id)?;
        entry.policies -= 1;
        if entry.policies > 0 {
            return None;
        }
        let entry = self.entries.remove(&id)?;
        if entry.known > 0 {
            // It may come back before the nodes hear of this.
            self.forgotten.insert(id, entry.known);
            let touched = self.members.entry(id).or_default();
            for member in &entry.members {
                touched.entry(*member).or_insert(true);
            }
        }
        Some(entry.members)
    }

    pub(super) fn insert(&mut self, id: Id, member: T) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.members.insert(member)
            && entry.known > 0
        {
            self.members
                .entry(id)
                .or_default()
                .entry(member)
                .or_insert(false);
        }
    }

    pub(super) fn remove(&mut self, id: Id, member: &T) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.members.remove(member)
            && entry.known > 0
        {
            self.members
                .entry(id)
                .or_default()
                .entry(*member)
                .or_insert(true);
        }
    }

    /// One more list of `node` uses the set.
    pub(super) fn acquire(&mut self, id: Id, node: NodeIndex) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let count = entry.users.entry(node).or_default();
            *count += 1;
            if *count == 1 {
                self.touched.push((node, id, false));
            }
        }
    }

    /// One list of `node` less uses the set.
    pub(super) fn release(&mut self, id: Id, node: NodeIndex) {
        if let Some(entry) = self.entries.get_mut(&id)
            && let Some(count) = entry.users.get_mut(&node)
        {
            *count -= 1;
            if *count == 0 {
                entry.users.remove(&node);
                self.touched.push((node, id, true));
            }
        }
    }

    /// Tells what is other for nodes than at the last flush.
    pub(super) fn flush(&mut self, mut tell: impl FnMut(NodeIndex, Id, SetChange<T>)) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_by_key(|(node, id, _)| (*node, *id));
        touched.dedup_by_key(|(node, id, _)| (*node, *id));
        self.forgotten.clear();
        for (node, id, knew) in &touched {
            let entry = self.entries.get_mut(id);
            let uses = entry
                .as_ref()
                .is_some_and(|entry| entry.users.contains_key(node));
            match (knew, uses, entry) {
                (false, true, Some(entry)) => {
                    entry.known += 1;
                    let add = entry.members.clone();
                    tell(
                        *node,
                        *id,
                        SetChange::Patch {
                            add,
                            remove: BTreeSet::new(),
                        },
                    );
                }
                (true, false, entry) => {
                    if let Some(entry) = entry {
                        entry.known -= 1;
                    }
                    tell(*node, *id, SetChange::Delete);
                }
                (false, _, _) | (true, true, _) => {}
            }
        }
        for (id, members) in std::mem::take(&mut self.members) {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            let (mut add, mut remove) = (BTreeSet::new(), BTreeSet::new());
            for (member, knew) in members {
                match (knew, entry.members.contains(&member)) {
                    (false, true) => drop(add.insert(member)),
                    (true, false) => drop(remove.insert(member)),
                    (false, false) | (true, true) => {}
                }
            }
            if add.is_empty() && remove.is_empty() {
                continue;
            }
            for node in entry.users.keys() {
                // A node to which the set is new has been told all of it.
                let place =
                    touched.binary_search_by_key(&(*node, id), |(node, id, _)| (*node, *id));
                if place.is_ok_and(|place| !touched[place].2) {
                    continue;
                }
                tell(
                    *node,
                    id,
                    SetChange::Patch {
                        add: add.clone(),
                        remove: remove.clone(),
                    },
                );
            }
        }
    }
}
