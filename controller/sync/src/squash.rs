//! Merging pending changes per object, for a reader that is behind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_policy::model::PodId;
use margay_policy::node_policy::{
    AddressSetId, Endpoint, PolicyChange, RuleList, RuleListId, Service, ServiceSetId,
};

use crate::message::Change;

/// As many changes as objects were touched, with the effect of all of `changes` one after another,
/// in the order of [`PolicyChange`].
///
/// A set that was deleted and came back is deleted and patched again, so that members from before
/// do not survive.
pub fn squash<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Change> {
    let mut pending = Pending::default();
    for change in changes {
        pending.add(change);
    }
    pending.into_changes()
}

/// What happened to a set.
enum SetFate<T> {
    Patched {
        add: BTreeSet<T>,
        remove: BTreeSet<T>,
    },
    Deleted,
    /// Deleted, and made anew with these members.
    Replaced(BTreeSet<T>),
}

/// The last word on each object; `None` = deleted.
#[derive(Default)]
struct Pending {
    address_sets: BTreeMap<AddressSetId, SetFate<IpAddr>>,
    service_sets: BTreeMap<ServiceSetId, SetFate<Service>>,
    rule_lists: BTreeMap<RuleListId, Option<RuleList>>,
    endpoints: BTreeMap<PodId, Option<Endpoint>>,
    /// The last [`Change::Network`], if there was one.
    network: Option<Change>,
}

impl Pending {
    fn add(&mut self, change: &Change) {
        let change = match change {
            Change::Network(_) => {
                self.network = Some(change.clone());
                return;
            }
            Change::Policy(change) => change,
        };
        match change {
            PolicyChange::PatchAddressSet { id, add, remove } => {
                patch(&mut self.address_sets, *id, add, remove);
            }
            PolicyChange::DeleteAddressSet { id } => {
                self.address_sets.insert(*id, SetFate::Deleted);
            }
            PolicyChange::PatchServiceSet { id, add, remove } => {
                patch(&mut self.service_sets, *id, add, remove);
            }
            PolicyChange::DeleteServiceSet { id } => {
                self.service_sets.insert(*id, SetFate::Deleted);
            }
            PolicyChange::PutRuleList { id, list } => {
                self.rule_lists.insert(*id, Some(list.clone()));
            }
            PolicyChange::DeleteRuleList { id } => {
                self.rule_lists.insert(*id, None);
            }
            PolicyChange::PutEndpoint { pod, endpoint } => {
                self.endpoints.insert(pod.clone(), Some(endpoint.clone()));
            }
            PolicyChange::DeleteEndpoint { pod } => {
                self.endpoints.insert(pod.clone(), None);
            }
        }
    }

    fn into_changes(self) -> Vec<Change> {
        let Self {
            address_sets,
            service_sets,
            rule_lists,
            endpoints,
            network,
        } = self;
        let mut puts: Vec<PolicyChange> = Vec::new();
        let mut deletions: Vec<PolicyChange> = Vec::new();
        for (id, fate) in address_sets {
            let delete = PolicyChange::DeleteAddressSet { id };
            match fate {
                SetFate::Deleted => deletions.push(delete),
                SetFate::Patched { add, remove } => {
                    puts.push(PolicyChange::PatchAddressSet { id, add, remove });
                }
                SetFate::Replaced(add) => {
                    let remove = BTreeSet::new();
                    puts.extend([delete, PolicyChange::PatchAddressSet { id, add, remove }]);
                }
            }
        }
        for (id, fate) in service_sets {
            let delete = PolicyChange::DeleteServiceSet { id };
            match fate {
                SetFate::Deleted => deletions.push(delete),
                SetFate::Patched { add, remove } => {
                    puts.push(PolicyChange::PatchServiceSet { id, add, remove });
                }
                SetFate::Replaced(add) => {
                    let remove = BTreeSet::new();
                    puts.extend([delete, PolicyChange::PatchServiceSet { id, add, remove }]);
                }
            }
        }
        for (id, list) in rule_lists {
            match list {
                Some(list) => puts.push(PolicyChange::PutRuleList { id, list }),
                None => deletions.push(PolicyChange::DeleteRuleList { id }),
            }
        }
        for (pod, endpoint) in endpoints {
            match endpoint {
                Some(endpoint) => puts.push(PolicyChange::PutEndpoint { pod, endpoint }),
                None => deletions.push(PolicyChange::DeleteEndpoint { pod }),
            }
        }
        // Deletions run the other way round: endpoints, rule lists, sets.
        let policy = puts.into_iter().chain(deletions.into_iter().rev());
        network
            .into_iter()
            .chain(policy.map(Change::Policy))
            .collect()
    }
}

fn patch<K: Ord, T: Ord + Copy>(
    sets: &mut BTreeMap<K, SetFate<T>>,
    id: K,
    add: &BTreeSet<T>,
    remove: &BTreeSet<T>,
) {
    let fate = sets.entry(id).or_insert_with(|| SetFate::Patched {
        add: BTreeSet::new(),
        remove: BTreeSet::new(),
    });
    match fate {
        SetFate::Patched {
            add: added,
            remove: removed,
        } => {
            added.retain(|member| !remove.contains(member));
            removed.extend(remove);
            added.extend(add);
            removed.retain(|member| !add.contains(member));
        }
        SetFate::Deleted => *fate = SetFate::Replaced(add.clone()),
        SetFate::Replaced(members) => {
            members.retain(|member| !remove.contains(member));
            members.extend(add);
        }
    }
}

#[cfg(test)]
mod tests;
