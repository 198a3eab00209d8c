//! The incremental compiler: one object changes, and only what depends on it is worked out again.
//!
//! For every node it has what [`crate::compile::compile`] gives, and says how that changes. It keeps
//! no history: equal objects in any order of arrival give equal results.
//!
//! What depends on what: a pod's *owned* addresses on all pods that claim them; the *sets* it is in on
//! its labels, its namespace's and the owned addresses; its *rule lists* on the policies that select
//! it. A list is kept while a pod has it, a set while a policy names it; a node is told of those that
//! its own pods' lists use.

mod idhash;
mod lists;
mod nodes;
mod objects;
mod placement;
mod scoped;
mod sets;
mod updates;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compile;
use crate::model::{Cluster, NodeName, Object, ObjectKey, PodId, PodSelector, PolicyId};
use crate::node_policy::{AddressSetId, Endpoint, NodePolicy, PolicyChange, Service, ServiceSetId};
use crate::rules::{PolicyRules, ServiceDefinition};

use lists::{ListKey, Lists};
use nodes::{NodeIndex, Nodes};
use scoped::Scoped;
use sets::Sets;

#[cfg(test)]
mod tests;

/// How the policy of nodes changes; nodes for which nothing changes do not occur.
pub type Updates = BTreeMap<NodeName, Vec<PolicyChange>>;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An object came or changed. Of a pod, `reported` is not looked at: [`Event::Report`] says it.
    Put(Object),
    /// An object is gone.
    Delete(ObjectKey),
    /// The addresses of a node's attached pods, by its agent: all of them, each time.
    Report(NodeName, BTreeMap<PodId, Reported>),
}

impl Event {
    /// What others depend on comes first.
    fn rank(&self) -> u8 {
        match self {
            Self::Put(Object::Node(..)) | Self::Delete(ObjectKey::Node(_)) => 0,
            Self::Put(Object::Namespace(..)) | Self::Delete(ObjectKey::Namespace(_)) => 1,
            Self::Put(Object::Policy(..)) | Self::Delete(ObjectKey::Policy(_)) => 2,
            Self::Report(..) => 3,
            Self::Put(Object::Pod(..)) | Self::Delete(ObjectKey::Pod(_)) => 4,
        }
    }
}

/// What an agent says of an attached pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// `metadata.uid` as the runtime said; a report with another uid than the object's is not its.
    pub uid: String,
    /// The addresses in use.
    pub addresses: BTreeSet<IpAddr>,
}

/// The incremental compiler.
#[derive(Debug, Default)]
pub struct Index {
    cluster: Cluster,
    reports: BTreeMap<NodeName, BTreeMap<PodId, Reported>>,
    /// Workloads that claim an address.
    claims: HashMap<IpAddr, Vec<PodId>>,
    pods: BTreeMap<PodId, PodState>,
    policies: HashMap<u64, PolicyState>,
    versions: BTreeMap<PolicyId, u64>,
    /// Version of the newest policy.
    version: u64,
    subjects: Scoped<u64>,
    sets: Sets<AddressSetId, PodSelector, IpAddr>,
    set_selectors: Scoped<AddressSetId>,
    services: Sets<ServiceSetId, ServiceDefinition, Service>,
    /// Service sets by a port name in their definition.
    services_by_name: HashMap<String, BTreeSet<ServiceSetId>>,
    lists: Lists,
    nodes: Nodes,
    /// Pods of each node that have an endpoint.
    endpoints: BTreeMap<NodeIndex, BTreeSet<PodId>>,
    /// Endpoints touched since the last updates, as the nodes know them; the first entry counts.
    before: Vec<(NodeIndex, PodId, Option<Endpoint>)>,
}

#[derive(Debug)]
struct PolicyState {
    id: PolicyId,
    rules: PolicyRules,
}

/// What a pod contributes and has.
#[derive(Clone, Debug, Default)]
struct PodState {
    owned: BTreeSet<IpAddr>,
    /// Empty while nothing is owned.
    sets: BTreeSet<AddressSetId>,
    services: BTreeMap<ServiceSetId, BTreeSet<Service>>,
    placed: Option<Placed>,
}

/// A workload on a node.
#[derive(Clone, Debug)]
struct Placed {
    node: NodeIndex,
    ingress: Option<Arc<ListKey>>,
    egress: Option<Arc<ListKey>>,
    endpoint: Endpoint,
}

/// How much an index holds; for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Pods.
    pub pods: usize,
    /// Policies.
    pub policies: usize,
    /// Address sets.
    pub address_sets: usize,
    /// Service sets.
    pub service_sets: usize,
    /// Rule lists.
    pub rule_lists: usize,
    /// Addresses that pods claim.
    pub addresses: usize,
}

impl Index {
    /// An index of an empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// The objects, with what agents reported.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How much it holds.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            pods: self.pods.len(),
            policies: self.policies.len(),
            address_sets: self.sets.len(),
            service_sets: self.services.len(),
            rule_lists: self.lists.len(),
            addresses: self.claims.len(),
        }
    }

    /// An object came or changed.
    pub fn apply(&mut self, object: Object) -> Updates {
        self.update([Event::Put(object)])
    }

    /// An object is gone.
    pub fn delete(&mut self, key: &ObjectKey) -> Updates {
        self.update([Event::Delete(key.clone())])
    }

    /// The cluster has exactly these objects now. Reports of agents stay.
    pub fn reset(&mut self, cluster: Cluster) -> Updates {
        let mut events = Vec::new();
        let old = &self.cluster;
        let gone = |key| Event::Delete(key);
        events.extend(
            missing(&old.pods, &cluster.pods)
                .map(ObjectKey::Pod)
                .map(gone),
        );
        events.extend(
            missing(&old.policies, &cluster.policies)
                .map(ObjectKey::Policy)
                .map(gone),
        );
        events.extend(
            missing(&old.namespaces, &cluster.namespaces)
                .map(ObjectKey::Namespace)
                .map(gone),
        );
        events.extend(
            missing(&old.nodes, &cluster.nodes)
                .map(ObjectKey::Node)
                .map(gone),
        );
        let Cluster {
            nodes,
            namespaces,
            pods,
            policies,
        } = cluster;
        events.extend(
            nodes
                .into_iter()
                .map(|(name, node)| Event::Put(Object::Node(name, node))),
        );
        events.extend(
            namespaces
                .into_iter()
                .map(|(name, it)| Event::Put(Object::Namespace(name, it))),
        );
        events.extend(
            policies
                .into_iter()
                .map(|(id, policy)| Event::Put(Object::Policy(id, policy))),
        );
        events.extend(
            pods.into_iter()
                .map(|(id, pod)| Event::Put(Object::Pod(id, pod))),
        );
        self.update(events)
    }

    /// Several things at once: nodes hear of the result only.
    ///
    /// Only events of one object must be in order; a pod is looked at once if what it depends on
    /// came with it.
    pub fn update(&mut self, events: impl IntoIterator<Item = Event>) -> Updates {
        let mut events: Vec<Event> = events.into_iter().collect();
        events.sort_by_key(Event::rank);
        for event in events {
            match event {
                Event::Put(Object::Node(name, node)) => drop(self.cluster.nodes.insert(name, node)),
                Event::Delete(ObjectKey::Node(name)) => drop(self.cluster.nodes.remove(&name)),
                Event::Put(Object::Namespace(name, namespace)) => {
                    self.set_namespace(&name, Some(namespace));
                }
                Event::Delete(ObjectKey::Namespace(name)) => self.set_namespace(&name, None),
                Event::Put(Object::Pod(id, pod)) => self.set_pod(&id, Some(pod)),
                Event::Delete(ObjectKey::Pod(id)) => self.set_pod(&id, None),
                Event::Put(Object::Policy(id, policy)) => self.set_policy(&id, Some(policy)),
                Event::Delete(ObjectKey::Policy(id)) => self.set_policy(&id, None),
                Event::Report(node, pods) => self.set_report(node, pods),
            }
        }
        self.updates()
    }

    /// Everything that policy means for a node, as [`crate::compile::compile`] gives it.
    pub fn node_policy(&self, node: &NodeName) -> NodePolicy {
        let mut result = NodePolicy::default();
        let pods = self
            .nodes
            .get(node)
            .and_then(|node| self.endpoints.get(&node));
        for id in pods.into_iter().flatten() {
            let Some(Placed { endpoint, .. }) =
                self.pods.get(id).and_then(|pod| pod.placed.as_ref())
            else {
                continue;
            };
            for list in endpoint.ingress.iter().chain(&endpoint.egress) {
                if let Some(list_) = self.lists.get(*list) {
                    result
                        .rule_lists
                        .entry(*list)
                        .or_insert_with(|| list_.clone());
                }
            }
            result.endpoints.insert(id.clone(), endpoint.clone());
        }
        let (sets, services) = compile::used(result.rule_lists.values());
        for set in sets {
            result
                .address_sets
                .insert(set, self.sets.members(set).cloned().unwrap_or_default());
        }
        for set in services {
            result
                .service_sets
                .insert(set, self.services.members(set).cloned().unwrap_or_default());
        }
        result
    }
}

/// The workload that owns an address: the newest that claims it.
fn owner<'a>(
    claims: &'a HashMap<IpAddr, Vec<PodId>>,
    cluster: &Cluster,
    address: IpAddr,
) -> Option<&'a PodId> {
    match claims.get(&address)?.as_slice() {
        [one] => Some(one),
        several => several.iter().max_by(|a, b| {
            let age = |id| cluster.pods.get(id).map(|pod| pod.age(id));
            age(*a).cmp(&age(*b))
        }),
    }
}

fn missing<'a, K: Ord + Clone, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    old.keys().filter(|key| !new.contains_key(key)).cloned()
}
