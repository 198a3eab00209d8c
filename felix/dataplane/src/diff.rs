//! From what the kernel has to what it should have.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{
    Action, Chain, ChainName, Hook, Key, KeyType, Match, Rule, Ruleset, Set, SetKind, SetName,
    Verdict,
};

/// The table as read back from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Sets and maps.
    pub sets: BTreeMap<SetName, ActualSet>,
    /// Chains.
    pub chains: BTreeMap<ChainName, ActualChain>,
}

/// A set in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActualSet {
    /// One that we could have made.
    Known(Set),
    /// One with a type, a flag or an element that we never make.
    Foreign,
}

/// A chain in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActualChain {
    /// Where packets enter.
    pub base: ActualBase,
    /// Rules in order.
    pub rules: Vec<ActualRule>,
}

/// How a chain in the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActualBase {
    /// As we could have made it; `None` for a chain that is only jumped to.
    Known(Option<Hook>),
    /// A hook, type, priority or default verdict that we never use.
    Foreign,
}

/// A rule in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActualRule {
    /// One that we could have made.
    Known(Rule),
    /// Any other.
    Foreign,
}

/// A step of a batch. All steps of a batch come into force at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Removes all rules of a chain.
    FlushChain {
        /// The chain.
        chain: ChainName,
    },
    /// Removes elements.
    DeleteElements {
        /// The set or map.
        set: SetName,
        /// Keys of elements that exist.
        keys: Vec<Key>,
    },
    /// Removes a set with all elements.
    DeleteSet {
        /// The set or map; no rule names it any more.
        set: SetName,
    },
    /// Removes a chain.
    DeleteChain {
        /// The chain: empty, and nothing jumps to it any more.
        chain: ChainName,
    },
    /// Creates an empty set.
    AddSet {
        /// The new set or map.
        set: SetName,
        /// Fields of its key.
        key: Vec<KeyType>,
        /// What its elements are.
        kind: SetKind,
        /// How many it has room for; `None` if it grows with them.
        room: Option<u32>,
    },
    /// Creates an empty chain.
    AddChain {
        /// The new chain.
        chain: ChainName,
        /// Where packets enter.
        hook: Option<Hook>,
    },
    /// Appends a rule.
    AddRule {
        /// The chain.
        chain: ChainName,
        /// The rule.
        rule: Rule,
    },
    /// Adds elements.
    AddElements {
        /// The set or map.
        set: SetName,
        /// Elements whose keys do not exist.
        elements: Vec<(Key, Option<Verdict>)>,
    },
}

/// The operations that make `desired` of `actual`; none if it is so already.
///
/// A chain whose rules differ is flushed and filled again: within one batch no packet sees it empty,
/// and so no operation needs a rule's handle. What is equal stays untouched.
pub fn diff(actual: &Actual, desired: &Ruleset) -> Vec<Operation> {
    let mut batch = Batch::default();
    // Sets that must be made anew take the chains with them that look into them.
    let mut remade = BTreeSet::new();
    for (name, set) in &actual.sets {
        match (set, desired.sets.get(name)) {
            (_, None) => batch.delete_set(name),
            (ActualSet::Known(old), Some(new)) if same_type(old, new) => {
                batch.elements(name, &old.elements, &new.elements);
            }
            (ActualSet::Known(_) | ActualSet::Foreign, Some(new)) => {
                remade.insert(name.as_str());
                batch.delete_set(name);
                batch.add_set(name, new);
            }
        }
    }
    for (name, set) in &desired.sets {
        if !actual.sets.contains_key(name) {
            batch.add_set(name, set);
        }
    }
    for (name, chain) in &actual.chains {
        match desired.chains.get(name) {
            None => {
                batch.flush(name);
                batch.delete_chain(name);
            }
            Some(new) if chain.base != ActualBase::Known(new.hook) => {
                batch.flush(name);
                batch.delete_chain(name);
                batch.add_chain(name, new);
            }
            Some(new) => {
                let same = chain.rules.len() == new.rules.len()
                    && chain
                        .rules
                        .iter()
                        .zip(&new.rules)
                        .all(|(old, new)| match old {
                            ActualRule::Known(old) => old == new,
                            ActualRule::Foreign => false,
                        });
                if !same || looks_into(new, &remade) {
                    batch.flush(name);
                    batch.rules(name, new);
                }
            }
        }
    }
    for (name, chain) in &desired.chains {
        if !actual.chains.contains_key(name) {
            batch.add_chain(name, chain);
        }
    }
    batch.into_operations()
}

fn same_type(old: &Set, new: &Set) -> bool {
    old.key == new.key && old.kind == new.kind && old.room == new.room
}

/// Whether a chain looks into one of `sets`.
pub(crate) fn looks_into(chain: &Chain, sets: &BTreeSet<&str>) -> bool {
    let mut names = chain.rules.iter().flat_map(set_names);
    names.any(|name| sets.contains(name.as_str()))
}

/// The sets that a rule looks into.
pub(crate) fn set_names(rule: &Rule) -> impl Iterator<Item = &SetName> {
    let map = match &rule.action {
        Action::Map(_, name) => Some(name),
        Action::Verdict(_) | Action::Stamp(_) | Action::Masquerade => None,
    };
    let matches = rule.matches.iter().filter_map(|matches| match matches {
        Match::In(_, name, _) => Some(name),
        Match::OurLink(..)
        | Match::Family(_)
        | Match::Protocol(_)
        | Match::Icmp6Types(_)
        | Match::CtStates(_)
        | Match::Direction(_)
        | Match::ServerPort(..)
        | Match::Address(..) => None,
    });
    matches.chain(map)
}

/// Operations by the phases in which the kernel takes them: references go before what they refer to, and
/// come after it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    flush: Vec<Operation>,
    delete_elements: Vec<Operation>,
    delete_sets: Vec<Operation>,
    delete_chains: Vec<Operation>,
    add_sets: Vec<Operation>,
    add_chains: Vec<Operation>,
    add_rules: Vec<Operation>,
    add_elements: Vec<Operation>,
}

impl Batch {
    pub(crate) fn flush(&mut self, chain: &str) {
        self.flush.push(Operation::FlushChain {
            chain: chain.to_owned(),
        });
    }

    pub(crate) fn delete_set(&mut self, set: &str) {
        self.delete_sets.push(Operation::DeleteSet {
            set: set.to_owned(),
        });
    }

    pub(crate) fn add_set(&mut self, name: &str, set: &Set) {
        let Set {
            key,
            kind,
            room,
            elements,
        } = set;
        self.add_sets.push(Operation::AddSet {
            set: name.to_owned(),
            key: key.clone(),
            kind: *kind,
            room: *room,
        });
        self.element_changes(
            name,
            Vec::new(),
            elements
                .iter()
                .map(|(key, verdict)| (key.clone(), verdict.clone()))
                .collect(),
        );
    }

    /// Elements of a set that stays.
    pub(crate) fn elements(
        &mut self,
        name: &str,
        old: &BTreeMap<Key, Option<Verdict>>,
        new: &BTreeMap<Key, Option<Verdict>>,
    ) {
        if old == new {
            return;
        }
        let gone = old
            .iter()
            .filter(|(key, verdict)| new.get(*key) != Some(*verdict));
        let come = new
            .iter()
            .filter(|(key, verdict)| old.get(*key) != Some(*verdict));
        let come = come
            .map(|(key, verdict)| (key.clone(), verdict.clone()))
            .collect();
        self.element_changes(name, gone.map(|(key, _)| key.clone()).collect(), come);
    }

    pub(crate) fn element_changes(
        &mut self,
        name: &str,
        gone: Vec<Key>,
        come: Vec<(Key, Option<Verdict>)>,
    ) {
        if !gone.is_empty() {
            self.delete_elements.push(Operation::DeleteElements {
                set: name.to_owned(),
                keys: gone,
            });
        }
        if !come.is_empty() {
            self.add_elements.push(Operation::AddElements {
                set: name.to_owned(),
                elements: come,
            });
        }
    }

    pub(crate) fn delete_chain(&mut self, chain: &str) {
        self.delete_chains.push(Operation::DeleteChain {
            chain: chain.to_owned(),
        });
    }

    pub(crate) fn add_chain(&mut self, name: &str, chain: &Chain) {
        self.add_chains.push(Operation::AddChain {
            chain: name.to_owned(),
            hook: chain.hook,
        });
        self.rules(name, chain);
    }

    /// Rules for an empty chain.
    pub(crate) fn rules(&mut self, name: &str, chain: &Chain) {
        let rule = |rule: &Rule| Operation::AddRule {
            chain: name.to_owned(),
            rule: rule.clone(),
        };
        self.add_rules.extend(chain.rules.iter().map(rule));
    }

    pub(crate) fn into_operations(self) -> Vec<Operation> {
        let Self {
            flush,
            delete_elements,
            delete_sets,
            delete_chains,
            add_sets,
            add_chains,
            add_rules,
            add_elements,
        } = self;
        [
            flush,
            delete_elements,
            delete_sets,
            delete_chains,
            add_sets,
            add_chains,
            add_rules,
            add_elements,
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl From<&Ruleset> for Actual {
    /// The kernel after it took `ruleset`.
    fn from(ruleset: &Ruleset) -> Self {
        let sets = ruleset
            .sets
            .iter()
            .map(|(name, set)| (name.clone(), ActualSet::Known(set.clone())));
        let chains = ruleset.chains.iter().map(|(name, chain)| {
            let rules = chain.rules.iter().cloned().map(ActualRule::Known).collect();
            (
                name.clone(),
                ActualChain {
                    base: ActualBase::Known(chain.hook),
                    rules,
                },
            )
        });
        Self {
            sets: sets.collect(),
            chains: chains.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
