//! The incremental compiler: one object changes, and only what depends on it is worked out again.
//!
//! For every node it has what [`crate::compile::compile`] gives, and says how that changes. It keeps
//! no history: equal objects in any order of arrival give equal results.
//!
//! What depends on what: a pod's *owned* addresses on all pods that claim them; the *sets* it is in on
//! its labels, its namespace's and the owned addresses; its *rule lists* on the policies that select
//! it. A list is kept while a pod has it, a set while a policy names it; a node is told of those that
//! its own pods' lists use.

mod lists;
mod scoped;
mod sets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compile;
use crate::model::{
    Cluster, Direction, Labels, Namespace, NamespaceScope, NodeName, Object, ObjectKey, Pod, PodId,
    PodSelector, Policy, PolicyId,
};
use crate::node_policy::{
    AddressSetId, Endpoint, NodePolicy, PolicyChange, RuleList, RuleListId, Service, ServiceSetId,
};
use crate::rules::{self, PolicyRules, ServiceDefinition};
use crate::selector::{self, Selection};

use lists::{ListKey, Lists};
use scoped::Scoped;
use sets::{SetChange, Sets};

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
    /// Pods of each node that have an endpoint.
    endpoints: BTreeMap<NodeName, BTreeSet<PodId>>,
    /// Endpoints touched since the last updates, as the nodes know them.
    before: BTreeMap<NodeName, BTreeMap<PodId, Option<Endpoint>>>,
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
    node: NodeName,
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
        // Policies before pods: then every pod is looked at once.
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
    pub fn update(&mut self, events: impl IntoIterator<Item = Event>) -> Updates {
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
        for id in self.endpoints.get(node).into_iter().flatten() {
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

    fn set_namespace(&mut self, name: &str, namespace: Option<Namespace>) {
        let old = self.cluster.namespaces.get(name);
        if old == namespace.as_ref() {
            return;
        }
        let (before, after) = (
            old.map(|it| &it.labels),
            namespace.as_ref().map(|it| &it.labels),
        );
        self.subjects.namespace_changed(name, before, after);
        self.set_selectors.namespace_changed(name, before, after);
        match namespace {
            Some(namespace) => drop(self.cluster.namespaces.insert(name.to_owned(), namespace)),
            None => drop(self.cluster.namespaces.remove(name)),
        }
        let pods = pods_of(&self.cluster, name)
            .map(|(id, _)| id.clone())
            .collect();
        self.refresh(pods);
    }

    fn set_report(&mut self, node: NodeName, pods: BTreeMap<PodId, Reported>) {
        let old = if pods.is_empty() {
            self.reports.remove(&node)
        } else {
            self.reports.insert(node.clone(), pods)
        };
        let touched: BTreeSet<PodId> = old
            .iter()
            .chain(self.reports.get(&node))
            .flat_map(|pods| pods.keys())
            .cloned()
            .collect();
        for id in touched {
            let pod = self.cluster.pods.get(&id).cloned();
            self.set_pod(&id, pod);
        }
    }

    /// What the agent of the pod's node says of it.
    fn reported(&self, id: &PodId, pod: &Pod) -> BTreeSet<IpAddr> {
        let report = pod
            .node
            .as_ref()
            .and_then(|node| self.reports.get(node)?.get(id));
        let own = report.filter(|it| it.uid == pod.uid || it.uid.is_empty() || pod.uid.is_empty());
        own.map(|report| report.addresses.clone())
            .unwrap_or_default()
    }

    fn set_pod(&mut self, id: &PodId, mut pod: Option<Pod>) {
        if let Some(pod) = &mut pod {
            pod.reported = self.reported(id, pod);
        }
        let old = self.cluster.pods.get(id);
        if old == pod.as_ref() {
            return;
        }
        let mut touched = BTreeSet::from([id.clone()]);
        for address in old.into_iter().flat_map(Pod::claims) {
            if let Some(claimants) = self.claims.get_mut(address) {
                claimants.retain(|other| other != id);
                touched.extend(claimants.iter().cloned());
                if claimants.is_empty() {
                    self.claims.remove(address);
                }
            }
        }
        for address in pod.iter().flat_map(Pod::claims) {
            let claimants = self.claims.entry(*address).or_default();
            touched.extend(claimants.iter().cloned());
            claimants.push(id.clone());
        }
        match pod {
            Some(pod) => drop(self.cluster.pods.insert(id.clone(), pod)),
            None => drop(self.cluster.pods.remove(id)),
        }
        self.refresh(touched);
    }

    fn set_policy(&mut self, id: &PolicyId, policy: Option<Policy>) {
        let old = self.cluster.policies.get(id);
        if old == policy.as_ref() {
            return;
        }
        let subjects: Vec<PodSelector> = old
            .iter()
            .copied()
            .chain(&policy)
            .map(|it| it.subject.clone())
            .collect();
        let retired = old.map(|old| (self.versions.remove(id), old.subject.clone()));
        let retired = retired.and_then(|(version, subject)| Some((version?, subject)));
        if let Some((version, subject)) = &retired {
            self.subjects
                .remove(*version, subject, &self.cluster.namespaces);
        }
        match policy {
            Some(policy) => {
                let rules = PolicyRules::new(id, &policy);
                self.declare(&rules);
                self.version += 1;
                self.versions.insert(id.clone(), self.version);
                self.subjects
                    .insert(self.version, &policy.subject, &self.cluster.namespaces);
                self.policies.insert(
                    self.version,
                    PolicyState {
                        id: id.clone(),
                        rules,
                    },
                );
                self.cluster.policies.insert(id.clone(), policy);
            }
            None => drop(self.cluster.policies.remove(id)),
        }
        let mut pods = BTreeSet::new();
        for subject in &subjects {
            let selected = selected(&self.cluster, subject).map(|(id, _, _)| id.clone());
            pods.extend(selected);
        }
        self.relist(&pods);
        let retired = retired.and_then(|(version, _)| self.policies.remove(&version));
        if let Some(PolicyState { rules, .. }) = retired {
            self.retire(&rules);
        }
    }

    /// A policy names these sets now; those that are new get their members.
    fn declare(&mut self, rules: &PolicyRules) {
        for (id, selector) in &rules.sets {
            if !self.sets.declare(*id, selector) {
                continue;
            }
            self.set_selectors
                .insert(*id, selector, &self.cluster.namespaces);
            for (pod, _, selection) in selected(&self.cluster, selector) {
                let Some(state) = self.pods.get_mut(pod) else {
                    continue;
                };
                if selection == Selection::Yes && !state.owned.is_empty() {
                    state.sets.insert(*id);
                    for address in &state.owned {
                        self.sets.insert(*id, *address);
                    }
                }
            }
        }
        for (id, definition) in &rules.services {
            if !self.services.declare(*id, definition) {
                continue;
            }
            for (_, name) in &definition.names {
                self.services_by_name
                    .entry(name.clone())
                    .or_default()
                    .insert(*id);
            }
            for (pod_id, pod) in &self.cluster.pods {
                let Some(state) = self.pods.get_mut(pod_id) else {
                    continue;
                };
                let labels = labels_of(&self.cluster.namespaces, pod_id);
                let members = definition.members(pod_id, pod, labels, &state.owned);
                if !members.is_empty() {
                    for member in &members {
                        self.services.insert(*id, *member);
                    }
                    state.services.insert(*id, members);
                }
            }
        }
    }

    /// A policy names these sets no longer; those that none names are forgotten.
    fn retire(&mut self, rules: &PolicyRules) {
        for (id, selector) in &rules.sets {
            let Some(members) = self.sets.retire(*id) else {
                continue;
            };
            self.set_selectors
                .remove(*id, selector, &self.cluster.namespaces);
            for address in members {
                if let Some(state) = owner(&self.claims, &self.cluster, address)
                    .and_then(|pod| self.pods.get_mut(pod))
                {
                    state.sets.remove(id);
                }
            }
        }
        for (id, definition) in &rules.services {
            let Some(members) = self.services.retire(*id) else {
                continue;
            };
            for (_, name) in &definition.names {
                if let Some(ids) = self.services_by_name.get_mut(name) {
                    ids.remove(id);
                    if ids.is_empty() {
                        self.services_by_name.remove(name);
                    }
                }
            }
            for member in members {
                let pod = owner(&self.claims, &self.cluster, member.address);
                if let Some(state) = pod.and_then(|pod| self.pods.get_mut(pod)) {
                    state.services.remove(id);
                }
            }
        }
    }

    /// Works out anew what these pods own, contribute and have.
    fn refresh(&mut self, pods: BTreeSet<PodId>) {
        let mut states = Vec::new();
        for id in pods {
            let new = self
                .cluster
                .pods
                .get(&id)
                .map(|pod| self.observe(&id, pod))
                .unwrap_or_default();
            let old = self.pods.remove(&id).unwrap_or_default();
            states.push((id, old, new));
        }
        // All that goes before all that comes: an address may move from one pod to another.
        for (_, old, new) in &states {
            let keep = |id: &AddressSetId, address: &IpAddr| {
                new.sets.contains(id) && new.owned.contains(address)
            };
            for id in &old.sets {
                for address in old.owned.iter().filter(|address| !keep(id, address)) {
                    self.sets.remove(*id, address);
                }
            }
            for (id, members) in &old.services {
                let kept = new.services.get(id);
                for member in members
                    .iter()
                    .filter(|member| !kept.is_some_and(|kept| kept.contains(member)))
                {
                    self.services.remove(*id, member);
                }
            }
        }
        for (_, old, new) in &states {
            let known = |id: &AddressSetId, address: &IpAddr| {
                old.sets.contains(id) && old.owned.contains(address)
            };
            for id in &new.sets {
                for address in new.owned.iter().filter(|address| !known(id, address)) {
                    self.sets.insert(*id, *address);
                }
            }
            for (id, members) in &new.services {
                let known = old.services.get(id);
                for member in members
                    .iter()
                    .filter(|member| !known.is_some_and(|known| known.contains(member)))
                {
                    self.services.insert(*id, *member);
                }
            }
        }
        for (id, old, mut new) in states {
            let wanted = self.wanted(&id, &new.owned);
            new.placed = self.place(&id, old.placed, wanted);
            if self.cluster.pods.contains_key(&id) {
                self.pods.insert(id, new);
            }
        }
    }

    /// Works out anew the rule lists of these pods.
    fn relist(&mut self, pods: &BTreeSet<PodId>) {
        for id in pods {
            let Some(mut state) = self.pods.remove(id) else {
                continue;
            };
            let wanted = self.wanted(id, &state.owned);
            state.placed = self.place(id, state.placed, wanted);
            self.pods.insert(id.clone(), state);
        }
    }

    /// What a pod owns and contributes.
    fn observe(&self, id: &PodId, pod: &Pod) -> PodState {
        let mut state = PodState::default();
        let claims = pod.claims().iter();
        state.owned = claims
            .filter(|address| owner(&self.claims, &self.cluster, **address) == Some(id))
            .copied()
            .collect();
        if state.owned.is_empty() {
            return state;
        }
        for set in self.set_selectors.candidates(&id.namespace, &pod.labels) {
            // The index has looked at the namespace; sets have no unclear requirements.
            let taken = self.sets.definition(set).is_some_and(|selector| {
                selector::labels_match(&selector.pods, &pod.labels) == Selection::Yes
            });
            if taken {
                state.sets.insert(set);
            }
        }
        let names: BTreeSet<&String> = pod
            .ports
            .iter()
            .filter_map(|port| port.name.as_ref())
            .collect();
        for set in names
            .into_iter()
            .filter_map(|name| self.services_by_name.get(name))
            .flatten()
        {
            if state.services.contains_key(set) {
                continue;
            }
            let Some(definition) = self.services.definition(*set) else {
                continue;
            };
            let labels = labels_of(&self.cluster.namespaces, id);
            let members = definition.members(id, pod, labels, &state.owned);
            if !members.is_empty() {
                state.services.insert(*set, members);
            }
        }
        state
    }

    /// The endpoint that a workload on a node should have, and its lists.
    fn wanted(&self, id: &PodId, owned: &BTreeSet<IpAddr>) -> Option<Wanted> {
        let pod = self.cluster.pods.get(id).filter(|pod| pod.is_workload())?;
        let labels = labels_of(&self.cluster.namespaces, id);
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
    fn place(&mut self, id: &PodId, old: Option<Placed>, wanted: Option<Wanted>) -> Option<Placed> {
        let new = wanted.map(
            |Wanted {
                 node,
                 ingress,
                 egress,
                 uid,
                 addresses,
             }| {
                let ingress = ingress.map(|list| self.acquire(list, &node));
                let egress = egress.map(|list| self.acquire(list, &node));
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
                .map(|old| &old.endpoint);
            let touched = self.before.entry(placed.node.clone()).or_default();
            touched.entry(id.clone()).or_insert_with(|| known.cloned());
        }
        if let Some(old) = old {
            for key in old.ingress.iter().chain(&old.egress) {
                self.release(key, &old.node);
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
                .entry(new.node.clone())
                .or_default()
                .insert(id.clone());
        }
        new
    }

    fn acquire(&mut self, wanted: WantedList, node: &NodeName) -> (Arc<ListKey>, RuleListId) {
        let (key, id, uses) = self.lists.acquire(wanted.key, wanted.list, node);
        for set in uses.iter().flat_map(|uses| &uses.sets) {
            self.sets.acquire(*set, node);
        }
        for set in uses.iter().flat_map(|uses| &uses.services) {
            self.services.acquire(*set, node);
        }
        (key, id)
    }

    fn release(&mut self, key: &ListKey, node: &NodeName) {
        let uses = self.lists.release(key, node);
        for set in uses.iter().flat_map(|uses| &uses.sets) {
            self.sets.release(*set, node);
        }
        for set in uses.iter().flat_map(|uses| &uses.services) {
            self.services.release(*set, node);
        }
    }

    /// What nodes have to be told since the last time.
    fn updates(&mut self) -> Updates {
        let mut nodes: BTreeMap<NodeName, NodeUpdate> = BTreeMap::new();
        self.sets.flush(|node, id, change| {
            let update = nodes.entry(node.clone()).or_default();
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
            let update = nodes.entry(node.clone()).or_default();
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
            let update = nodes.entry(node.clone()).or_default();
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
        for (node, pods) in std::mem::take(&mut self.before) {
            for (pod, before) in pods {
                let placed = self.pods.get(&pod).and_then(|state| state.placed.as_ref());
                let now = placed
                    .filter(|placed| placed.node == node)
                    .map(|placed| &placed.endpoint);
                if now == before.as_ref() {
                    continue;
                }
                let update = nodes.entry(node.clone()).or_default();
                update.endpoints.push(match now {
                    Some(endpoint) => PolicyChange::PutEndpoint {
                        pod,
                        endpoint: endpoint.clone(),
                    },
                    None => PolicyChange::DeleteEndpoint { pod },
                });
            }
        }
        nodes
            .into_iter()
            .map(|(node, update)| (node, update.into_changes()))
            .collect()
    }
}

/// A policy that selects a pod.
struct Selecting<'a> {
    version: u64,
    state: &'a PolicyState,
    policy: &'a Policy,
    selection: Selection,
}

struct Wanted {
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
            patches,
            lists,
            endpoints,
            unused_lists,
            unused_sets,
        } = self;
        [patches, lists, endpoints, unused_lists, unused_sets].concat()
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

fn labels_of<'a>(namespaces: &'a BTreeMap<String, Namespace>, id: &PodId) -> Option<&'a Labels> {
    namespaces
        .get(&id.namespace)
        .map(|namespace| &namespace.labels)
}

fn pods_of<'a>(
    cluster: &'a Cluster,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a PodId, &'a Pod)> {
    let pods = cluster.pods.range(PodId::new(namespace, "")..);
    pods.take_while(move |(id, _)| id.namespace == namespace)
}

/// The pods that a selector takes, or would but for what cannot be understood.
fn selected<'a>(
    cluster: &'a Cluster,
    selector: &'a PodSelector,
) -> impl Iterator<Item = (&'a PodId, &'a Pod, Selection)> {
    let (one, all) = match &selector.namespaces {
        NamespaceScope::Named(name) => (Some(pods_of(cluster, name)), None),
        NamespaceScope::Matching(_) => (None, Some(cluster.pods.iter())),
    };
    let pods = one.into_iter().flatten().chain(all.into_iter().flatten());
    pods.filter_map(|(id, pod)| {
        let labels = labels_of(&cluster.namespaces, id);
        let selection = selector::pod_matches(selector, &id.namespace, labels, pod);
        (selection != Selection::No).then_some((id, pod, selection))
    })
}

fn missing<'a, K: Ord + Clone, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    old.keys().filter(|key| !new.contains_key(key)).cloned()
}
