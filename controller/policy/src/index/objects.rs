//! What follows from a change of one object.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Index, PodState, PolicyState, Reported, owner};
use crate::model::{Namespace, NodeName, Pod, PodId, PodSelector, Policy, PolicyId};
use crate::node_policy::AddressSetId;
use crate::rules::PolicyRules;
use crate::selector::{self, Selection};

impl Index {
    pub(super) fn set_namespace(&mut self, name: &str, namespace: Option<Namespace>) {
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
        let pods = selector::pods_of(&self.cluster, name)
            .map(|(id, _)| id.clone())
            .collect();
        self.refresh(pods);
    }

    pub(super) fn set_report(&mut self, node: NodeName, pods: BTreeMap<PodId, Reported>) {
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

    pub(super) fn set_pod(&mut self, id: &PodId, mut pod: Option<Pod>) {
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

    pub(super) fn set_policy(&mut self, id: &PolicyId, policy: Option<Policy>) {
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
            let selected = selector::selected(&self.cluster, subject).map(|(id, _, _)| id.clone());
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
            for (pod, _, selection) in selector::selected(&self.cluster, selector) {
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
                let labels = selector::namespace_labels(&self.cluster.namespaces, pod_id);
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
            let labels = selector::namespace_labels(&self.cluster.namespaces, id);
            let members = definition.members(id, pod, labels, &state.owned);
            if !members.is_empty() {
                state.services.insert(*set, members);
            }
        }
        state
    }
}
