//! Changes of policy, and whom they concern.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_policy::model::PodId;
use margay_policy::node_policy::{AddressSetId, PolicyChange, RuleListId, Service, ServiceSetId};

use super::draft::Element;
use super::{Changed, Planner};
use crate::lower::{SetId, member_key, service_key};
use crate::names;
use crate::ruleset::Family;
use crate::touched::{Membership, service_member};

impl Planner {
    /// Addresses that changes may have judged differently, by themselves and not by members of sets.
    pub(super) fn affected(&self, changes: &[PolicyChange]) -> BTreeSet<IpAddr> {
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

    /// One change of policy; members of sets in use go to the ruleset at once.
    pub(super) fn change(&mut self, change: &PolicyChange, changed: &mut Changed) {
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
