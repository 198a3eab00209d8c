//! Keeps up which namespaces have pods on which nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use margay_api::load::Key;
use margay_policy::model::{NodeName, PodId};
use margay_sync::message::Change;

use super::{Changes, Task};
use crate::network::{self, Plan, Tenants};

/// What a batch of events is about.
#[derive(Debug, Default)]
pub(super) struct Touched {
    namespaces: BTreeSet<String>,
    /// Pods, and where they were before.
    pods: BTreeMap<PodId, Option<NodeName>>,
}

impl Task {
    /// Notes that something will happen to an object.
    pub(super) fn touch(&self, key: &Key, touched: &mut Touched) {
        let Key {
            kind,
            namespace,
            name,
        } = key;
        match kind.as_str() {
            "Namespace" => drop(touched.namespaces.insert(name.clone())),
            "Pod" => {
                let id = PodId::new(namespace, name);
                let place = self.place(&id);
                touched.pods.entry(id).or_insert(place);
            }
            _ => {}
        }
    }

    /// Takes over what has happened to them; the nodes that have other namespaces now, or namespaces with other labels.
    pub(super) fn tenants_changed(&mut self, touched: Touched) -> BTreeSet<NodeName> {
        let Touched { namespaces, pods } = touched;
        let now = pods.into_iter();
        let now: Vec<_> = now
            .map(|(id, before)| (self.place(&id), id, before))
            .filter(|(now, _, before)| now != before)
            .collect();
        let mut concerned = BTreeSet::new();
        if now.is_empty() && namespaces.is_empty() {
            return concerned;
        }
        let tenants: &mut Tenants = Arc::make_mut(&mut self.inputs.tenants);
        for name in namespaces {
            let object = self.index.cluster().namespaces.get(&name);
            concerned.extend(tenants.namespace(&name, object.map(|object| &object.labels)));
        }
        for (now, id, before) in now {
            concerned.extend(tenants.pod(&id.namespace, before.as_ref(), now.as_ref()));
        }
        concerned
    }

    /// Works out these nodes' networks anew, because of their namespaces, and adds what changed.
    pub(super) fn renew_networks(&mut self, changes: &mut Changes, concerned: &BTreeSet<NodeName>) {
        if concerned.is_empty() || !network::are_for_namespaces(&self.inputs) {
            return;
        }
        let plan = Plan::of(&self.inputs);
        for name in concerned {
            let Some(node) = self.nodes.get_mut(name) else {
                continue;
            };
            let network = network::network(&self.inputs, &plan, name);
            if network != node.network {
                let change = Change::Network(network.clone());
                changes.entry(name.clone()).or_default().push(change);
                node.network = network;
            }
        }
    }

    /// The node that a pod has traffic of its own on.
    fn place(&self, id: &PodId) -> Option<NodeName> {
        let pod = self.index.cluster().pods.get(id)?;
        pod.node.clone().filter(|_| pod.is_workload())
    }
}
