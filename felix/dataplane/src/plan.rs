//! The ruleset kept up to date, change by change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_policy::model::PodId;
use margay_policy::node_policy::{
    AddressSetId, NodePolicy, PolicyChange, RuleList, RuleListId, Service, ServiceSetId,
};

use crate::diff::{Actual, Operation, diff};
use crate::epochs::{Sweep, Touched};
use crate::local::{Attachment, Local, Nat, Owners, Sides, address_sides, owners};
use crate::lower::class::{Class, class, only_allows};
use crate::lower::{SetId, base, lists, lower, member_key, pod_elements, service_key, source_key};
use crate::names;
use crate::ruleset::{Chain, ChainName, Family, Key, KeyValue, Ruleset, SetName};
use crate::touched::{Membership, SetChange, Touch, service_member, touched};

mod draft;

use draft::{Draft, Element};

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

type ClassId = (RuleListId, Family);

/// A rule list that judges some address.
#[derive(Clone, Debug)]
struct ClassUse {
    /// How many addresses it judges.
    addresses: usize,
    /// See [`SetChange`].
    only_allows: bool,
    sets: BTreeSet<SetId>,
    chains: BTreeSet<ChainName>,
    ranges: BTreeSet<SetName>,
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

    /// Addresses that changes may have judged differently, by themselves and not by members of sets.
    fn affected(&self, changes: &[PolicyChange]) -> BTreeSet<IpAddr> {
        let mut pods: BTreeSet<&PodId> = BTreeSet::new();
        let mut lists: BTreeSet<RuleListId> = BTreeSet::new();
        for change in changes {
            match change {
                PolicyChange::PutEndpoint { pod, .. } | PolicyChange::DeleteEndpoint { pod } => {
                    pods.insert(pod);
                }
                PolicyChange::PutRuleList { id, .. } | PolicyChange::DeleteRuleList { id } => {
                    lists.insert(*id);
                }
                PolicyChange::PatchAddressSet { .. }
                | PolicyChange::DeleteAddressSet { .. }
                | PolicyChange::PatchServiceSet { .. }
                | PolicyChange::DeleteServiceSet { .. } => {}
            }
        }
        if !lists.is_empty() {
            // Endpoints that come to a list by these changes are among `pods` already.
            let uses = |list: Option<RuleListId>| list.is_some_and(|list| lists.contains(&list));
            let judged = self.policy.endpoints.iter();
            let judged = judged.filter(|(_, end)| uses(end.ingress) || uses(end.egress));
            pods.extend(judged.map(|(pod, _)| pod));
        }
        let attachments = pods
            .into_iter()
            .filter_map(|pod| self.local.attachments.get(pod));
        attachments
            .flat_map(|attachment| &attachment.addresses)
            .copied()
            .collect()
    }

    fn before(&self, addresses: BTreeSet<IpAddr>) -> Vec<Before> {
        let before = |address| {
            let claims = self.owners.get(&address);
            let sides = address_sides(&self.policy, claims);
            let source =
                claims.and_then(|claims| source_key(&self.policy, &self.local, claims, address));
            Before {
                address,
                sides,
                source,
            }
        };
        addresses.into_iter().map(before).collect()
    }

    /// One change of policy; members of sets in use go to the ruleset at once.
    fn change(&mut self, change: &PolicyChange, changed: &mut Changed) {
        match change {
            PolicyChange::PatchAddressSet { id, add, remove } => {
                self.patch_addresses(*id, add, remove, changed);
            }
            PolicyChange::DeleteAddressSet { id } => {
                let members = self
                    .policy
                    .address_sets
                    .get(id)
                    .cloned()
                    .unwrap_or_default();
                self.patch_addresses(*id, &BTreeSet::new(), &members, changed);
                self.policy.apply(change);
            }
            PolicyChange::PatchServiceSet { id, add, remove } => {
                self.patch_services(*id, add, remove, changed);
            }
            PolicyChange::DeleteServiceSet { id } => {
                let members = self
                    .policy
                    .service_sets
                    .get(id)
                    .cloned()
                    .unwrap_or_default();
                self.patch_services(*id, &BTreeSet::new(), &members, changed);
                self.policy.apply(change);
            }
            PolicyChange::PutRuleList { id, .. } | PolicyChange::DeleteRuleList { id } => {
                let before = self.policy.rule_lists.remove(id);
                self.policy.apply(change);
                changed.lists.entry(*id).or_insert(before);
            }
            PolicyChange::PutEndpoint { .. } | PolicyChange::DeleteEndpoint { .. } => {
                self.policy.apply(change);
            }
        }
    }

    fn patch_addresses(
        &mut self,
        id: AddressSetId,
        add: &BTreeSet<IpAddr>,
        remove: &BTreeSet<IpAddr>,
        changed: &mut Changed,
    ) {
        let members = self.policy.address_sets.entry(id).or_default();
        let set = SetId::Addresses(id);
        let note = changed.sets.entry(set).or_default();
        for (address, kind) in patch(members, add, remove) {
            note.one((address, None), kind);
            let family = Family::of(&address);
            if self.users.contains_key(&(set, family)) {
                let key = member_key(id, address);
                self.draft.element(names::members(family), key, plain(kind));
            }
        }
    }

    fn patch_services(
        &mut self,
        id: ServiceSetId,
        add: &BTreeSet<Service>,
        remove: &BTreeSet<Service>,
        changed: &mut Changed,
    ) {
        let members = self.policy.service_sets.entry(id).or_default();
        let set = SetId::Services(id);
        let note = changed.sets.entry(set).or_default();
        for (service, kind) in patch(members, add, remove) {
            note.one(service_member(&service), kind);
            let family = Family::of(&service.address);
            if self.users.contains_key(&(set, family)) {
                let key = service_key(id, service);
                self.draft
                    .element(names::services(family), key, plain(kind));
            }
        }
    }

    /// What was touched, the new epoch, the ruleset.
    fn finish(&mut self, before: &[Before], changed: &Changed) -> Plan {
        let touched = self.touched(before, changed);
        let sweep = self.turn(&touched);
        self.update(before, changed);
        Plan {
            sweep,
            operations: self.draft.commit(),
        }
    }

    /// The same as [`touched`] of before and now. The classes are still those of before.
    fn touched(&self, before: &[Before], changed: &Changed) -> Touched {
        let mut touch = Touch::default();
        let mut leaving: BTreeMap<ClassId, usize> = BTreeMap::new();
        for Before { address, sides, .. } in before {
            let after = address_sides(&self.policy, self.owners.get(address));
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

    /// Brings classes and the elements of the addresses up to date.
    fn update(&mut self, before: &[Before], changed: &Changed) {
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
            let now =
                claims.and_then(|claims| source_key(&self.policy, &self.local, claims, *address));
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

    fn lower_class(&self, (id, family): ClassId, addresses: usize) -> (ClassUse, Class) {
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

/// Changes a set of members; gives those that came or went. What is both added and removed stays.
fn patch<T: Copy + Ord>(
    members: &mut BTreeSet<T>,
    add: &BTreeSet<T>,
    remove: &BTreeSet<T>,
) -> Vec<(T, Membership)> {
    let mut changes = Vec::new();
    for member in remove.difference(add) {
        if members.remove(member) {
            changes.push((*member, Membership::Lost));
        }
    }
    for member in add {
        if members.insert(*member) {
            changes.push((*member, Membership::Gained));
        }
    }
    changes
}

/// The value of a set's element.
fn plain(kind: Membership) -> Option<Element> {
    match kind {
        Membership::Gained => Some(None),
        Membership::Lost => None,
    }
}

#[cfg(test)]
mod tests;
