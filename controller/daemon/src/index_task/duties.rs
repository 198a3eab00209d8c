//! What whoever leads writes into the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use margay_api::v1::{BlockUse, NodeStatusStatus, Repair, Session};
use margay_policy::model::{
    NodeName, Pod, PodId, PodSelector, Policy, PolicyId, PortSelector, Protocol, Rule,
};
use margay_policy::selector::{Selection, pod_matches};
use margay_sync::status::{Drift, Link, NodeStatus, PeerStatus};

use super::Task;
use crate::clock;
use crate::network;

/// An agent that has said nothing for so long is away: it reports every 30 s.
const SILENT: Duration = Duration::from_secs(75);

/// What there is to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duties {
    /// Nodes that have an object.
    pub nodes: BTreeMap<NodeName, NodeDuty>,
    /// Blocks of nodes that have none.
    pub orphans: BTreeMap<IpNet, NodeName>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeDuty {
    /// `metadata.uid` of its object.
    pub uid: String,
    /// Its agent is there, and the object still says that there is no network.
    pub clear_unavailable: bool,
    /// What its agent says; `None` if it has not said anything yet.
    pub status: Option<NodeStatusStatus>,
}

/// Something that the owner of an object should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `NetworkPolicy`, `IPPool`, `BGPPeer` and the like.
    pub kind: &'static str,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A word for programs.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

impl Task {
    pub(super) fn replicas(&self, namespace: &str) -> BTreeMap<String, IpAddr> {
        let pods = &self.index.cluster().pods;
        let inside = pods
            .range(PodId::new(namespace, "")..)
            .take_while(|(id, _)| id.namespace == namespace);
        let label = |pod: &Pod, key: &str, value: &str| {
            pod.labels.get(key).is_some_and(|label| label == value)
        };
        let replicas = inside.filter(|(_, pod)| {
            !pod.finished
                && label(pod, "app.kubernetes.io/name", "margay")
                && label(pod, "app.kubernetes.io/component", "controller")
        });
        replicas
            .filter_map(|(id, pod)| Some((id.name.clone(), *pod.addresses.first()?)))
            .collect()
    }

    pub(super) fn waiting(
        &self,
        node: &NodeName,
        pools: &BTreeSet<IpNet>,
    ) -> (String, Vec<(PodId, String)>) {
        let uid = self.inputs.facts.get(node).map(|facts| facts.uid.clone());
        let pods = self.index.cluster().pods.iter();
        let waiting = pods.filter(|(_, pod)| {
            pod.node.as_ref() == Some(node) && pod.is_workload() && pod.claims().is_empty()
        });
        let network = self.nodes.get(node).and_then(|node| node.network.as_ref());
        let sources = |id: &PodId| network.and_then(|network| network.sources(&id.namespace).ok());
        let concerned = |id: &PodId| {
            let mut sources = sources(id).into_iter().flatten();
            pools.is_empty() || sources.any(|source| !source.pools().is_disjoint(pools))
        };
        let waiting = waiting.filter(|(id, _)| concerned(id));
        let waiting = waiting.map(|(id, pod)| (id.clone(), pod.uid.clone()));
        (uid.unwrap_or_default(), waiting.collect())
    }

    pub(super) fn duties(&self) -> Duties {
        let mut duties = Duties::default();
        let now = clock::now();
        for name in self.inputs.nodes.keys() {
            let facts = self.inputs.facts.get(name).cloned().unwrap_or_default();
            let report = self.nodes.get(name).and_then(|node| node.report.as_ref());
            let fresh = report.is_some_and(|(_, at)| now.saturating_duration_since(*at) < SILENT);
            let status = report.map(|(status, _)| {
                let in_step = status.realised.is_some() && status.realised == status.received;
                written(status, fresh, in_step)
            });
            let duty = NodeDuty {
                uid: facts.uid,
                clear_unavailable: facts.unavailable && fresh,
                status,
            };
            duties.nodes.insert(name.clone(), duty);
        }
        let orphans = self.inputs.claims.iter();
        duties.orphans = orphans
            .filter(|(_, owner)| !self.inputs.nodes.contains_key(owner))
            .map(|(block, owner)| (*block, owner.clone()))
            .collect();
        duties
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (id, policy) in &self.index.cluster().policies {
            self.policy_findings(id, policy, &mut findings);
        }
        findings.extend(self.contradictions());
        findings
    }

    /// What the network's objects contradict in each other, or lack.
    pub(super) fn contradictions(&self) -> Vec<Finding> {
        let problems = network::problems(&self.inputs).into_iter();
        let findings = problems.map(|(kind, name, note)| Finding {
            kind,
            namespace: String::new(),
            name,
            reason: "Contradiction",
            note,
        });
        findings.collect()
    }

    fn policy_findings(&self, id: &PolicyId, policy: &Policy, findings: &mut Vec<Finding>) {
        let finding = |reason, note| Finding {
            kind: "NetworkPolicy",
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            reason,
            note,
        };
        let subjects = self.selected(&policy.subject, Some(&id.namespace));
        if subjects.is_empty() {
            findings.push(finding(
                "SelectsNothing",
                "spec.podSelector selects no pod of this namespace, so the policy does nothing: compare it with `kubectl get pods --show-labels`".to_owned(),
            ));
        }
        let ports = |rules: &Option<Vec<Rule>>| {
            let rules = rules.iter().flatten().enumerate();
            let named = rules.flat_map(|(r, rule)| {
                let ports = rule.ports.iter().flatten().enumerate();
                ports.filter_map(move |(p, port)| match port {
                    PortSelector::Named(protocol, name) => Some((r, p, *protocol, name.clone())),
                    PortSelector::Protocol(_)
                    | PortSelector::Range(..)
                    | PortSelector::Unusable(_) => None,
                })
            });
            named.collect::<Vec<_>>()
        };
        if !subjects.is_empty() {
            for (rule, port, protocol, name) in ports(&policy.ingress) {
                if !has_port(subjects.iter().copied(), protocol, &name) {
                    findings.push(finding(
                        "UnknownPort",
                        format!("spec.ingress[{rule}].ports[{port}]: no pod that the policy selects has a {protocol} port named `{name}`: this entry allows nothing"),
                    ));
                }
            }
        }
        for (rule, port, protocol, name) in ports(&policy.egress) {
            let pods = self.index.cluster().pods.values();
            if !has_port(pods.filter(|pod| pod.is_workload()), protocol, &name) {
                findings.push(finding(
                    "UnknownPort",
                    format!("spec.egress[{rule}].ports[{port}]: no pod has a {protocol} port named `{name}`: this entry allows nothing"),
                ));
            }
        }
    }

    /// The workloads that a selector selects, in one namespace if that is known.
    fn selected(&self, selector: &PodSelector, namespace: Option<&str>) -> Vec<&Pod> {
        let cluster = self.index.cluster();
        let from = PodId::new(namespace.unwrap_or_default(), "");
        let inside = cluster
            .pods
            .range(from..)
            .take_while(|(id, _)| namespace.is_none_or(|name| id.namespace == name));
        let selected = inside.filter(|(id, pod)| {
            let labels = cluster
                .namespaces
                .get(&id.namespace)
                .map(|namespace| &namespace.labels);
            pod.is_workload() && pod_matches(selector, &id.namespace, labels, pod) != Selection::No
        });
        selected.map(|(_, pod)| pod).collect()
    }
}

fn has_port<'a>(mut pods: impl Iterator<Item = &'a Pod>, protocol: Protocol, name: &str) -> bool {
    pods.any(|pod| {
        pod.ports
            .iter()
            .any(|port| port.protocol == protocol && port.name.as_deref() == Some(name))
    })
}

/// A report as it is written into the API.
fn written(status: &NodeStatus, fresh: bool, in_step: bool) -> NodeStatusStatus {
    let NodeStatus {
        node: _,
        version,
        controller,
        received: _,
        realised,
        blocks,
        peers,
        pods,
        drift,
    } = status;
    let (agent, agent_reason) = match (fresh, controller) {
        (false, _) => (
            "Away",
            "it has not reported for more than a minute".to_owned(),
        ),
        (true, Link::Down { reason }) => ("Away", reason.clone()),
        (true, Link::Unknown | Link::Up) => ("Connected", String::new()),
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let sessions: Vec<Session> = peers
        .iter()
        .map(|(name, peer)| session(name, peer))
        .collect();
    let established = sessions
        .iter()
        .filter(|session| session.state == "Established");
    let repairs = drift.iter().map(|drift| {
        let Drift {
            at,
            what,
            name,
            by,
            repair_microseconds: _,
        } = drift;
        Repair {
            at: at.clone(),
            what: format!("{what} {name}"),
            by: by.clone(),
        }
    });
    NodeStatusStatus {
        agent: agent.to_owned(),
        agent_reason,
        version: version.clone(),
        policy: if in_step { "InStep" } else { "Behind" }.to_owned(),
        realised: realised
            .as_ref()
            .map(|revision| format!("{}/{}", revision.run, revision.count))
            .unwrap_or_default(),
        bgp: format!("{}/{}", established.count(), sessions.len()),
        pods: count(pods.len()),
        repairs: count(drift.len()),
        blocks: blocks
            .iter()
            .map(|(block, used)| BlockUse {
                cidr: block.to_string(),
                used: *used,
            })
            .collect(),
        drift: repairs.collect(),
        sessions,
    }
}

fn session(name: &str, peer: &PeerStatus) -> Session {
    let PeerStatus {
        address,
        asn,
        state,
        reason,
        hint,
        since_seconds: _,
        received,
        announced,
        families: _,
    } = peer;
    Session {
        name: name.to_owned(),
        address: address.to_string(),
        asn: *asn,
        state: state.clone(),
        reason: reason.clone(),
        hint: hint.clone(),
        received: *received,
        announced: *announced,
    }
}
