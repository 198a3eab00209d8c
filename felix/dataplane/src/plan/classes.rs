//! Which classes are in the ruleset, and what for.

use std::collections::{BTreeMap, BTreeSet};

use margay_policy::node_policy::RuleListId;

use super::{Before, Changed, Planner};
use crate::local::address_sides;
use crate::lower::class::{Class, class, only_allows};
use crate::lower::{SetId, lists, pod_elements, source_key};
use crate::names;
use crate::ruleset::{ChainName, Family, KeyValue, SetName};

pub(super) type ClassId = (RuleListId, Family);

/// A rule list that judges some address.
#[derive(Clone, Debug)]
pub(super) struct ClassUse {
    /// How many addresses it judges.
    pub(super) addresses: usize,
    /// Then a member more permits more, never less.
    pub(super) only_allows: bool,
    pub(super) sets: BTreeSet<SetId>,
    chains: BTreeSet<ChainName>,
    pub(super) ranges: BTreeSet<SetName>,
}

impl Planner {
    /// Brings classes and the elements of the addresses up to date.
    pub(super) fn update(&mut self, before: &[Before], changed: &Changed) {
        let mut classes: BTreeMap<ClassId, (usize, usize)> = BTreeMap::new();
        for Before {
            address,
            sides,
            source,
        } in before
        {
            let family = Family::of(address);
            let claims = self.owners.get(address);
            let after = address_sides(&self.policy, claims);
            for list in sides.iter().flat_map(lists) {
                classes.entry((list, family)).or_default().0 += 1;
            }
            for list in after.iter().flat_map(lists) {
                classes.entry((list, family)).or_default().1 += 1;
            }
            let key = || vec![KeyValue::Address(*address)];
            let old: BTreeMap<_, _> = sides
                .iter()
                .flat_map(|sides| pod_elements(*address, sides))
                .collect();
            let new: BTreeMap<_, _> = after
                .iter()
                .flat_map(|sides| pod_elements(*address, sides))
                .collect();
            for set in old.keys().filter(|set| !new.contains_key(*set)) {
                self.draft.element(set, key(), None);
            }
            for (set, verdict) in new {
                self.draft.element(set, key(), Some(Some(verdict)));
            }
            let now = source_key(&self.policy, &self.local, claims, *address);
            if *source != now {
                for (key, value) in [(source.clone(), None), (now, Some(None))] {
                    if let Some(key) = key {
                        self.draft.element(names::pod_source(family), key, value);
                    }
                }
            }
        }
        // A pod may have no address while its list changes: then there is no class either.
        let mut unused = Vec::new();
        for (id, (less, more)) in classes {
            let old = self.classes.remove(&id);
            let addresses = old.as_ref().map_or(0, |class| class.addresses) + more - less;
            let new = match old {
                Some(old) if addresses > 0 && !changed.lists.contains_key(&id.0) => {
                    Some(ClassUse { addresses, ..old })
                }
                old => {
                    let new = (addresses > 0).then(|| self.enter(id, addresses, old.as_ref()));
                    if let Some(old) = old {
                        unused.push((id, old));
                    }
                    new
                }
            };
            if let Some(new) = new {
                self.classes.insert(id, new);
            }
        }
        for (id, old) in unused {
            self.leave(id, &old);
        }
    }

    pub(super) fn lower_class(&self, (id, family): ClassId, addresses: usize) -> (ClassUse, Class) {
        let list = self.policy.rule_lists.get(&id);
        let list = list.expect("sides name only lists that exist");
        let class = class(id, list, family);
        let used = ClassUse {
            addresses,
            only_allows: only_allows(list),
            sets: class.sets().collect(),
            chains: class.chains.keys().cloned().collect(),
            ranges: class.ranges.keys().cloned().collect(),
        };
        (used, class)
    }

    /// Puts a class into the ruleset, over an old one of its name.
    fn enter(&mut self, id: ClassId, addresses: usize, old: Option<&ClassUse>) -> ClassUse {
        let (used, Class { chains, ranges, .. }) = self.lower_class(id, addresses);
        let (list, family) = id;
        for set in &used.sets {
            let users = self.users.entry((*set, family)).or_default();
            let first = users.is_empty();
            users.insert(list);
            if first {
                for key in set.keys(&self.policy, family) {
                    self.draft.element(set.set_name(family), key, Some(None));
                }
            }
        }
        for (name, chain) in chains {
            self.draft.chain(&name, Some(chain));
        }
        for (name, set) in ranges {
            if old.is_some_and(|old| old.ranges.contains(&name)) {
                continue;
            }
            let users = self.ranges.entry(name.clone()).or_default();
            *users += 1;
            if *users == 1 {
                self.draft.set(&name, Some(set));
            }
        }
        used
    }

    /// Removes what a class had and the one now in its place has not.
    fn leave(&mut self, (id, family): ClassId, old: &ClassUse) {
        let new = self.classes.get(&(id, family));
        let without = |keeps: &dyn Fn(&ClassUse) -> bool| !new.is_some_and(keeps);
        let sets: Vec<SetId> = old
            .sets
            .iter()
            .copied()
            .filter(|set| without(&|new| new.sets.contains(set)))
            .collect();
        let chains = old
            .chains
            .iter()
            .filter(|name| without(&|new| new.chains.contains(*name)));
        let ranges = old
            .ranges
            .iter()
            .filter(|name| without(&|new| new.ranges.contains(*name)));
        for name in chains {
            self.draft.chain(name, None);
        }
        for name in ranges {
            let users = self.ranges.get_mut(name).expect("counted on entering");
            *users -= 1;
            if *users == 0 {
                self.ranges.remove(name);
                self.draft.set(name, None);
            }
        }
        for set in sets {
            let users = self
                .users
                .get_mut(&(set, family))
                .expect("noted on entering");
            users.remove(&id);
            if users.is_empty() {
                self.users.remove(&(set, family));
                for key in set.keys(&self.policy, family) {
                    self.draft.element(set.set_name(family), key, None);
                }
            }
        }
    }
}
