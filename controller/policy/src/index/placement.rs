//! Endpoints: which lists a pod on a node has, and so which sets the node needs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::lists::ListKey;
use super::nodes::NodeIndex;
use super::{Index, Placed, PolicyState};
use crate::compile;
use crate::model::{Direction, NodeName, Pod, PodId, Policy};
use crate::node_policy::{Endpoint, RuleList, RuleListId};
use crate::rules;
use crate::selector::{self, Selection};

/// A policy that selects a pod.
struct Selecting<'a> {
    version: u64,
    state: &'a PolicyState,
    policy: &'a Policy,
    selection: Selection,
}

/// The endpoint that a pod should have.
pub(super) struct Wanted {
    node: NodeName,
    ingress: Option<WantedList>,
    egress: Option<WantedList>,
    uid: String,
    addresses: BTreeSet<IpAddr>,
}

struct WantedList {
    key: ListKey,
    /// The list, unless one is known by this key.
    list: Option<RuleList>,
}

impl Index {
    /// The endpoint that a workload on a node should have, and its lists.
    pub(super) fn wanted(&self, id: &PodId, owned: &BTreeSet<IpAddr>) -> Option<Wanted> {
        let pod = self.cluster.pods.get(id).filter(|pod| pod.is_workload())?;
        let labels = selector::namespace_labels(&self.cluster.namespaces, id);
        let mut selecting: Vec<Selecting<'_>> = self
            .subjects
            .candidates(&id.namespace, &pod.labels)
            .into_iter()
            .filter_map(|version| {
                let state = self.policies.get(&version)?;
                let policy = self.cluster.policies.get(&state.id)?;
                let selection = selector::pod_matches(&policy.subject, &id.namespace, labels, pod);
                (selection != Selection::No).then_some(Selecting {
                    version,
                    state,
                    policy,
                    selection,
                })
            })
            .collect();
        selecting.sort_by(|a, b| compile::order((&a.state.id, a.policy), (&b.state.id, b.policy)));
        Some(Wanted {
            node: pod.node.clone()?,
            ingress: self.wanted_list(Direction::Ingress, pod, &selecting),
            egress: self.wanted_list(Direction::Egress, pod, &selecting),
            uid: pod.uid.clone(),
            addresses: pod.addresses.intersection(owned).copied().collect(),
        })
    }

    fn wanted_list(
        &self,
        direction: Direction,
        pod: &Pod,
        selecting: &[Selecting<'_>],
    ) -> Option<WantedList> {
        let mut key = ListKey {
            direction,
            policies: Vec::new(),
            ports: BTreeMap::new(),
        };
        for Selecting {
            version,
            state,
            selection,
            ..
        } in selecting
        {
            if !state.rules.covers(direction) {
                continue;
            }
            key.policies.push((*version, *selection));
            if direction == Direction::Ingress {
                for name in &state.rules.ingress_names {
                    let numbers = rules::resolve(&pod.ports, name);
                    if !numbers.is_empty() {
                        key.ports.insert(name.clone(), numbers);
                    }
                }
            }
        }
        if key.policies.is_empty() {
            return None;
        }
        if self.lists.knows(&key) {
            return Some(WantedList { key, list: None });
        }
        let selecting: Vec<_> = selecting
            .iter()
            .map(|it| (it.policy, &it.state.rules, it.selection))
            .collect();
        let list = compile::rule_list(direction, pod, &selecting);
        Some(WantedList { key, list })
    }

    /// Gives a pod the endpoint that it should have; what the new one shares with the old is kept.
    pub(super) fn place(
        &mut self,
        id: &PodId,
        old: Option<Placed>,
        wanted: Option<Wanted>,
    ) -> Option<Placed> {
        let new = wanted.map(
            |Wanted {
                 node,
                 ingress,
                 egress,
                 uid,
                 addresses,
             }| {
                let node = self.nodes.number(&node);
                let ingress = ingress.map(|list| self.acquire(list, node));
                let egress = egress.map(|list| self.acquire(list, node));
                let list = |acquired: &Option<(Arc<ListKey>, RuleListId)>| {
                    acquired.as_ref().map(|(_, id)| *id)
                };
                let endpoint = Endpoint {
                    uid,
                    addresses,
                    ingress: list(&ingress),
                    egress: list(&egress),
                };
                Placed {
                    node,
                    ingress: ingress.map(|(key, _)| key),
                    egress: egress.map(|(key, _)| key),
                    endpoint,
                }
            },
        );
        for placed in old.iter().chain(&new) {
            let known = old
                .as_ref()
                .filter(|old| old.node == placed.node)
                .map(|old| old.endpoint.clone());
            self.before.push((placed.node, id.clone(), known));
        }
        if let Some(old) = old {
            for key in old.ingress.iter().chain(&old.egress) {
                self.release(key, old.node);
            }
            if let Some(pods) = self.endpoints.get_mut(&old.node) {
                pods.remove(id);
                if pods.is_empty() {
                    self.endpoints.remove(&old.node);
                }
            }
        }
        if let Some(new) = &new {
            self.endpoints
                .entry(new.node)
                .or_default()
                .insert(id.clone());
        }
        new
    }

    fn acquire(&mut self, wanted: WantedList, node: NodeIndex) -> (Arc<ListKey>, RuleListId) {
        let (key, id, uses) = self.lists.acquire(wanted.key, wanted.list, node);
        for set in uses.iter().flat_map(|uses| &uses.sets) {
            self.sets.acquire(*set, node);
        }
        for set in uses.iter().flat_map(|uses| &uses.services) {
            self.services.acquire(*set, node);
        }
        (key, id)
    }

    fn release(&mut self, key: &ListKey, node: NodeIndex) {
        let uses = self.lists.release(key, node);
        for set in uses.iter().flat_map(|uses| &uses.sets) {
            self.sets.release(*set, node);
        }
        for set in uses.iter().flat_map(|uses| &uses.services) {
            self.services.release(*set, node);
        }
    }
}
