//! Pages for people.

use std::collections::{BTreeMap, BTreeSet};

use margay_policy::index::Sizes;
use margay_policy::model::{NamespaceScope, NodeName, PodId, Policy, PolicyId};
use margay_policy::selector::{Selection, pod_matches};
use margay_sync::status::{
    ControllerStatus, Link, NodeStatus, NodeView, NodesPage, PolicyPage, PolicyStatus,
};

use super::{Node, Task};
use crate::clock;
use crate::network;

impl Task {
    /// All but what only the source knows.
    pub(super) fn status(&self) -> ControllerStatus {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let connected = self
            .nodes
            .values()
            .filter(|node| node.wake.receiver_count() > 0);
        let policies = self.policy_page().policies;
        ControllerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run: self.run.clone(),
            uptime_seconds: clock::now().duration_since(self.since).as_secs(),
            folder: self.folder.clone(),
            nodes: count(self.inputs.nodes.len()),
            connected: count(connected.count()),
            realised: count(
                policies
                    .values()
                    .filter(|policy| policy.waiting.is_empty())
                    .count(),
            ),
            policies: count(policies.len()),
            held: self.held(),
            ..ControllerStatus::default()
        }
    }

    /// How much is held of what grows with the cluster.
    pub(super) fn held(&self) -> BTreeMap<String, u64> {
        let Sizes {
            pods,
            policies,
            address_sets,
            service_sets,
            rule_lists,
            addresses,
        } = self.index.sizes();
        let logs = self
            .nodes
            .values()
            .map(|node| node.sequencer.weight())
            .sum();
        let reported = self.reports.nodes().values().map(BTreeMap::len).sum();
        let held = [
            ("pods", pods),
            ("policies", policies),
            ("address-sets", address_sets),
            ("service-sets", service_sets),
            ("rule-lists", rule_lists),
            ("addresses", addresses),
            ("nodes", self.nodes.len()),
            ("claims", self.inputs.claims.len()),
            ("tenants", self.inputs.tenants.size()),
            ("reported-pods", reported),
            ("stream-logs", logs),
        ];
        let held = held.into_iter();
        held.map(|(name, size)| (name.to_owned(), size.try_into().unwrap_or(u64::MAX)))
            .collect()
    }

    pub(super) fn nodes_page(&self) -> NodesPage {
        let views = self
            .nodes
            .iter()
            .map(|(name, node)| (name.clone(), self.view(name, node)));
        NodesPage {
            nodes: views.collect(),
        }
    }

    fn view(&self, name: &NodeName, node: &Node) -> NodeView {
        let stream = match (node.wake.receiver_count() > 0, node.was_connected) {
            (true, _) => Link::Up,
            (false, false) => Link::Unknown,
            (false, true) => Link::Down {
                reason: "felix closed the stream or cannot be reached".to_owned(),
            },
        };
        let object = self.inputs.nodes.get(name);
        let claimed = self
            .inputs
            .claims
            .iter()
            .filter(|(_, owner)| *owner == name)
            .map(|(block, _)| block);
        let blocks = claimed.chain(network::pod_cidrs(&self.inputs, name));
        NodeView {
            object: object.is_some(),
            stream,
            revision: Some(node.sequencer.revision().clone()),
            addresses: object
                .map(|node| node.addresses.clone())
                .unwrap_or_default(),
            blocks: blocks.copied().collect(),
            report: node.report.as_ref().map(|(status, _)| status.clone()),
            report_age_seconds: node
                .report
                .as_ref()
                .map(|(_, at)| clock::now().duration_since(*at).as_secs()),
        }
    }

    /// What each node's felix said last.
    pub(super) fn statuses(&self) -> BTreeMap<NodeName, &NodeStatus> {
        let reported = self.nodes.iter().filter_map(|(name, node)| {
            let (status, _) = node.report.as_ref()?;
            Some((name.clone(), status))
        });
        reported.collect()
    }

    /// All but what only the source knows.
    pub(super) fn policy_page(&self) -> PolicyPage {
        let mut page = PolicyPage::default();
        for (id, policy) in &self.index.cluster().policies {
            let nodes = self.subject_nodes(policy);
            let waiting: BTreeSet<NodeName> = nodes
                .iter()
                .filter(|node| !self.is_realised(id, node))
                .cloned()
                .collect();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let status = PolicyStatus {
                realised: count(nodes.len() - waiting.len()),
                nodes: count(nodes.len()),
                waiting,
                problems: Vec::new(),
            };
            page.policies.insert(id.to_string(), status);
        }
        page
    }

    /// The nodes with pods that a policy selects.
    fn subject_nodes(&self, policy: &Policy) -> BTreeSet<NodeName> {
        let cluster = self.index.cluster();
        let (from, named) = match &policy.subject.namespaces {
            NamespaceScope::Named(name) => (PodId::new(name, ""), Some(name)),
            NamespaceScope::Matching(_) => (PodId::new("", ""), None),
        };
        let inside = cluster.pods.range(from..);
        let inside = inside.take_while(|(id, _)| named.is_none_or(|name| id.namespace == *name));
        let pods = inside.filter(|(id, pod)| {
            let labels = cluster
                .namespaces
                .get(&id.namespace)
                .map(|namespace| &namespace.labels);
            let selection = pod_matches(&policy.subject, &id.namespace, labels, pod);
            pod.is_workload() && selection != Selection::No
        });
        pods.filter_map(|(_, pod)| pod.node.clone()).collect()
    }

    /// Whether a node's kernel has what the last change of a policy meant for it.
    fn is_realised(&self, id: &PolicyId, node: &NodeName) -> bool {
        let Some(node) = self.nodes.get(node) else {
            return false;
        };
        let changed = self.policy_counts.get(id).copied().unwrap_or_default();
        let reported = node
            .report
            .as_ref()
            .and_then(|(status, _)| status.realised.as_ref());
        reported.is_some_and(|reported| {
            reported.run == self.run && !node.sequencer.changed_between(reported.count, changed)
        })
    }
}
