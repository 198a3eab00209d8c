//! What changed between two states.

use std::collections::{BTreeMap, BTreeSet};

use margay_policy::node_policy::PolicyChange;

use crate::message::{Change, NodeState};

/// The changes that make `new` out of `old`, in the order of [`PolicyChange`]: applied one by one,
/// whatever refers to something finds it. Nothing if they are equal.
pub fn diff(old: &NodeState, new: &NodeState) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.network != new.network {
        changes.push(Change::Network(new.network.clone()));
    }
    let (NodeState { policy: old, .. }, NodeState { policy: new, .. }) = (old, new);
    let mut policy: Vec<PolicyChange> = Vec::new();
    policy.extend(
        patches(&old.address_sets, &new.address_sets)
            .map(|(id, add, remove)| PolicyChange::PatchAddressSet { id, add, remove }),
    );
    policy.extend(
        patches(&old.service_sets, &new.service_sets)
            .map(|(id, add, remove)| PolicyChange::PatchServiceSet { id, add, remove }),
    );
    policy.extend(
        puts(&old.rule_lists, &new.rule_lists)
            .map(|(id, list)| PolicyChange::PutRuleList { id, list }),
    );
    policy.extend(
        puts(&old.endpoints, &new.endpoints)
            .map(|(pod, endpoint)| PolicyChange::PutEndpoint { pod, endpoint }),
    );
    policy.extend(
        gone(&old.endpoints, &new.endpoints).map(|pod| PolicyChange::DeleteEndpoint { pod }),
    );
    policy.extend(
        gone(&old.rule_lists, &new.rule_lists).map(|id| PolicyChange::DeleteRuleList { id }),
    );
    policy.extend(
        gone(&old.service_sets, &new.service_sets).map(|id| PolicyChange::DeleteServiceSet { id }),
    );
    policy.extend(
        gone(&old.address_sets, &new.address_sets).map(|id| PolicyChange::DeleteAddressSet { id }),
    );
    changes.extend(policy.into_iter().map(Change::Policy));
    changes
}

/// Sets that are new or have other members: what comes and what goes.
fn patches<K: Ord + Copy, T: Ord + Copy>(
    old: &BTreeMap<K, BTreeSet<T>>,
    new: &BTreeMap<K, BTreeSet<T>>,
) -> impl Iterator<Item = (K, BTreeSet<T>, BTreeSet<T>)> {
    new.iter().filter_map(|(id, members)| match old.get(id) {
        None => Some((*id, members.clone(), BTreeSet::new())),
        Some(before) if before == members => None,
        Some(before) => {
            let add = members.difference(before).copied().collect();
            let remove = before.difference(members).copied().collect();
            Some((*id, add, remove))
        }
    })
}

/// Entries that are new or differ.
fn puts<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> impl Iterator<Item = (K, V)> {
    let changed = new
        .iter()
        .filter(|(key, value)| old.get(key) != Some(value));
    changed.map(|(key, value)| (key.clone(), value.clone()))
}

/// Keys that are no longer there.
fn gone<K: Ord + Clone, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> impl Iterator<Item = K> {
    old.keys().filter(|key| !new.contains_key(key)).cloned()
}

#[cfg(test)]
mod tests;
