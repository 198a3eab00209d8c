//! What nodes have to be told.

use std::collections::BTreeMap;

use super::nodes::NodeIndex;
use super::sets::SetChange;
use super::{Index, Updates};
use crate::node_policy::PolicyChange;

/// The changes of a node by kind, since their order must be safe to apply one by one.
#[derive(Default)]
struct NodeUpdate {
    patches: Vec<PolicyChange>,
    lists: Vec<PolicyChange>,
    endpoints: Vec<PolicyChange>,
    unused_lists: Vec<PolicyChange>,
    unused_sets: Vec<PolicyChange>,
}

impl NodeUpdate {
    fn into_changes(self) -> Vec<PolicyChange> {
        let Self {
            mut patches,
            lists,
            endpoints,
            unused_lists,
            unused_sets,
        } = self;
        for mut later in [lists, endpoints, unused_lists, unused_sets] {
            patches.append(&mut later);
        }
        patches
    }
}

impl Index {
    /// What is other for nodes than the last time.
    pub(super) fn updates(&mut self) -> Updates {
        let mut updates: BTreeMap<NodeIndex, NodeUpdate> = BTreeMap::new();
        self.sets.flush(|node, id, change| {
            let update = updates.entry(node).or_default();
            match change {
                SetChange::Patch { add, remove } => {
                    update
                        .patches
                        .push(PolicyChange::PatchAddressSet { id, add, remove });
                }
                SetChange::Delete => update
                    .unused_sets
                    .push(PolicyChange::DeleteAddressSet { id }),
            }
        });
        self.services.flush(|node, id, change| {
            let update = updates.entry(node).or_default();
            match change {
                SetChange::Patch { add, remove } => {
                    update
                        .patches
                        .push(PolicyChange::PatchServiceSet { id, add, remove });
                }
                SetChange::Delete => update
                    .unused_sets
                    .push(PolicyChange::DeleteServiceSet { id }),
            }
        });
        self.lists.flush(|node, id, list| {
            let update = updates.entry(node).or_default();
            match list {
                Some(list) => update.lists.push(PolicyChange::PutRuleList {
                    id,
                    list: list.clone(),
                }),
                None => update
                    .unused_lists
                    .push(PolicyChange::DeleteRuleList { id }),
            }
        });
        let mut before = std::mem::take(&mut self.before);
        before.sort_by(|(a_node, a, _), (b_node, b, _)| (a_node, a).cmp(&(b_node, b)));
        before.dedup_by(|(a_node, a, _), (b_node, b, _)| (a_node, a) == (b_node, b));
        for (node, pod, before) in before {
            let placed = self.pods.get(&pod).and_then(|state| state.placed.as_ref());
            let now = placed
                .filter(|placed| placed.node == node)
                .map(|placed| &placed.endpoint);
            if now == before.as_ref() {
                continue;
            }
            let change = match now {
                Some(endpoint) => PolicyChange::PutEndpoint {
                    pod,
                    endpoint: endpoint.clone(),
                },
                None => PolicyChange::DeleteEndpoint { pod },
            };
            updates.entry(node).or_default().endpoints.push(change);
        }
        let named = updates.into_iter();
        let named = named
            .map(|(node, update)| (self.nodes.name(node).clone(), update.into_changes()))
            .collect();
        let endpoints = &self.endpoints;
        self.nodes.retain(|node| endpoints.contains_key(&node));
        named
    }
}
