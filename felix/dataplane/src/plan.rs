//! The ruleset kept up to date, change by change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_policy::model::PodId;
use margay_policy::node_policy::{NodePolicy, PolicyChange, RuleList, RuleListId};

use crate::diff::{Actual, Operation, diff};
use crate::epochs::{Sweep, Touched};
use crate::local::{Attachment, Local, Nat, Owners, Sides, address_sides, owners};
use crate::lower::{SetId, base, lists, lower, source_key};
use crate::names;
use crate::ruleset::{Chain, Family, Key, Ruleset, SetName};
use crate::touched::{SetChange, Touch, touched};

mod change;
mod classes;
mod draft;

use classes::{ClassId, ClassUse};
use draft::Draft;

/// What to do about a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Conntrack marks to clear before the batch.
    pub sweep: Option<Sweep>,
    /// The batch.
    pub operations: Vec<Operation>,
}

/// Knows policy and node, and the ruleset that belongs to them: always `lower(policy, local)`.
///
/// A change costs what it changes, not what there is. If the kernel refuses a plan, or someone else
/// wrote to the table, [`diff`] against [`Planner::ruleset`] says how to get there.
#[derive(Clone, Debug)]
pub struct Planner {
    policy: NodePolicy,
    local: Local,
    draft: Draft,
    owners: Owners,
    classes: BTreeMap<ClassId, ClassUse>,
    /// Classes that look into a set: its members of the family are in the kernel.
    users: BTreeMap<(SetId, Family), BTreeSet<RuleListId>>,
    /// How many classes look into a set of ranges.
    ranges: BTreeMap<SetName, usize>,
}

/// What an address is before a change.
struct Before {
    address: IpAddr,
    sides: Option<Sides>,
    source: Option<Key>,
}

/// What a change of policy changed, besides endpoints.
#[derive(Default)]
struct Changed {
    /// Lists with other content: what they were.
    lists: BTreeMap<RuleListId, Option<RuleList>>,
    sets: BTreeMap<SetId, SetChange>,
}

impl Planner {
    /// The ruleset of a node as it stands now.
    pub fn new(policy: NodePolicy, local: Local) -> Self {
        let mut planner = Self {
            draft: Draft::new(lower(&policy, &local)),
            owners: owners(&local.attachments),
            policy,
            local,
            classes: BTreeMap::new(),
            users: BTreeMap::new(),
            ranges: BTreeMap::new(),
        };
        planner.local.rooms.settle(planner.draft.ruleset());
        let mut addresses: BTreeMap<ClassId, usize> = BTreeMap::new();
        for (address, claims) in &planner.owners {
            let sides = address_sides(&planner.policy, Some(claims));
            for list in sides.iter().flat_map(lists) {
                *addresses.entry((list, Family::of(address))).or_default() += 1;
            }
        }
        for (id, addresses) in addresses {
            let (used, _) = planner.lower_class(id, addresses);
            for set in &used.sets {
                planner.users.entry((*set, id.1)).or_default().insert(id.0);
            }
            for name in &used.ranges {
                *planner.ranges.entry(name.clone()).or_default() += 1;
            }
            planner.classes.insert(id, used);
        }
        planner
    }

    /// What the kernel should have.
    pub fn ruleset(&self) -> &Ruleset {
        self.draft.ruleset()
    }

    /// The policy in force.
    pub fn policy(&self) -> &NodePolicy {
        &self.policy
    }

    /// The node's part.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Changes of policy, in order, all at once.
    pub fn apply(&mut self, changes: &[PolicyChange]) -> Plan {
        let before = self.before(self.affected(changes));
        let mut history = Changed::default();
        for change in changes {
            self.change(change, &mut history);
        }
        self.finish(&before, &history)
    }

    /// Another policy.
    pub fn replace(&mut self, policy: NodePolicy) -> Plan {
        let mut local = self.local.clone();
        let touched = touched((&self.policy, &self.local), (&policy, &local));
        let sweep = local.epochs.bump(&touched);
        let old = std::mem::replace(self, Self::new(policy, local));
        Plan {
            sweep,
            operations: diff(&Actual::from(old.ruleset()), self.ruleset()),
        }
    }

    /// A pod has a link, or has other addresses.
    pub fn attach(&mut self, pod: &PodId, attachment: Attachment) -> Plan {
        self.set_attachment(pod, Some(attachment))
    }

    /// A pod has no link any more.
    pub fn detach(&mut self, pod: &PodId) -> Plan {
        self.set_attachment(pod, None)
    }

    /// Other pools.
    pub fn set_nat(&mut self, nat: Nat) -> Plan {
        let old = base::nat(&self.local.nat);
        let new = base::nat(&nat);
        self.local.nat = nat;
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            self.draft.set(name, None);
        }
        for (name, set) in new.sets {
            self.draft.set(&name, Some(set));
        }
        for name in old
            .chains
            .keys()
            .filter(|name| !new.chains.contains_key(*name))
        {
            self.draft.chain(name, None);
        }
        for (name, chain) in new.chains {
            self.draft.chain(&name, Some(chain));
        }
        Plan {
            sweep: None,
            operations: self.draft.commit(),
        }
    }

    /// Has every connection judged again: for when somebody else may have changed what we judge by.
    pub fn rejudge(&mut self) -> Plan {
        let sweep = self.turn(&Touched::Everything);
        Plan {
            sweep,
            operations: self.draft.commit(),
        }
    }

    fn set_attachment(&mut self, pod: &PodId, attachment: Option<Attachment>) -> Plan {
        let addresses = |attachment: Option<&Attachment>| {
            attachment
                .map(|attachment| attachment.addresses.clone())
                .unwrap_or_default()
        };
        let old = addresses(self.local.attachments.get(pod));
        let new = addresses(attachment.as_ref());
        let before = self.before(old.union(&new).copied().collect());
        for address in &old {
            if let Some(claims) = self.owners.get_mut(address) {
                claims.remove(pod);
                if claims.is_empty() {
                    self.owners.remove(address);
                }
            }
        }
        for address in new {
            self.owners.entry(address).or_default().insert(pod.clone());
        }
        match attachment {
            Some(attachment) => self.local.attachments.insert(pod.clone(), attachment),
            None => self.local.attachments.remove(pod),
        };
        self.finish(&before, &Changed::default())
    }

    fn before(&self, addresses: BTreeSet<IpAddr>) -> Vec<Before> {
        let before = |address| {
            let claims = self.owners.get(&address);
            let sides = address_sides(&self.policy, claims);
            let source = source_key(&self.policy, &self.local, claims, address);
            Before {
                address,
                sides,
                source,
            }
        };
        addresses.into_iter().map(before).collect()
    }

    /// What was touched, the new epoch, the ruleset.
    fn finish(&mut self, before: &[Before], changed: &Changed) -> Plan {
        let touched = self.touched(before, changed);
        let sweep = self.turn(&touched);
        self.update(before, changed);
        for (set, room) in self.local.rooms.settle(self.draft.ruleset()) {
            self.draft.room(set, room);
        }
        Plan {
            sweep,
            operations: self.draft.commit(),
        }
    }

    /// The same as [`touched`] of before and now. The classes are still those of before.
    fn touched(&self, before: &[Before], changed: &Changed) -> Touched {
        let mut touch = Touch::default();
        let mut leaving: BTreeMap<ClassId, usize> = BTreeMap::new();
        for Before {
            address,
            sides,
            source,
        } in before
        {
            let claims = self.owners.get(address);
            let after = address_sides(&self.policy, claims);
            let source_now = source_key(&self.policy, &self.local, claims, *address);
            touch.source(*address, source.as_ref(), source_now.as_ref());
            let now = |id| self.policy.rule_lists.get(&id);
            let then = |id| match changed.lists.get(&id) {
                Some(before) => before.as_ref(),
                None => now(id),
            };
            let staying = touch.address(*address, (*sides, after), then, now);
            let left = sides
                .iter()
                .flat_map(lists)
                .filter(|list| !staying.contains(list));
            for list in left {
                *leaving.entry((list, Family::of(address))).or_default() += 1;
            }
        }
        for (set, change) in &changed.sets {
            for family in Family::BOTH {
                for list in self.users.get(&(*set, family)).into_iter().flatten() {
                    let id = (*list, family);
                    let class = &self.classes[&id];
                    if class.addresses > leaving.get(&id).copied().unwrap_or_default() {
                        touch.set(change, class.only_allows, family);
                    }
                }
            }
        }
        touch.done()
    }

    fn turn(&mut self, touched: &Touched) -> Option<Sweep> {
        let old = self.local.epochs.current();
        let turn = self.local.epochs.turn(touched);
        for (set, key) in turn.remove {
            self.draft.element(set, key, None);
        }
        for (set, key) in turn.add {
            self.draft.element(set, key, Some(None));
        }
        if self.local.epochs.current() != old {
            let rules = vec![base::stamp(&self.local.epochs)];
            self.draft
                .chain(names::STAMP, Some(Chain { hook: None, rules }));
        }
        turn.sweep
    }
}

#[cfg(test)]
mod tests;
