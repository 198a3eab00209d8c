//! Why a flow has its verdict, and how far each rule was from deciding otherwise: words for people.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::flow::Flow;
use crate::model::{
    Action, Direction, Labels, NodeName, PeerSelector, Pod, PodId, PolicyId, PortSelector, Rule,
};
use crate::verdict::{
    Evaluator, FlowError, Judgement, Party, Reason, Selected, Verdict, port_matches,
};

mod words;

#[cfg(test)]
mod tests;

/// A verdict with all that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The flow.
    pub flow: Flow,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The client, as it was found in the cluster.
    pub client: Who,
    /// The server.
    pub server: Who,
    /// The client's policies, up to the rule that decided; empty if it is no pod or not isolated.
    pub egress: Vec<Tried>,
    /// The server's policies, up to the rule that decided; empty if it is no pod or not isolated.
    pub ingress: Vec<Tried>,
}

/// An end of the flow, found in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its address in this flow.
    pub address: IpAddr,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What an end of a flow is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// A pod that policy can concern.
    Pod {
        /// Its name.
        pod: PodId,
        /// Its node.
        node: Option<NodeName>,
        /// Its labels.
        labels: Labels,
        /// Its namespace's labels; `None` if that is not known.
        namespace_labels: Option<Labels>,
    },
    /// A node's own process, or a pod with `hostNetwork`: no selector ever takes it.
    Node {
        /// The node.
        node: NodeName,
    },
    /// Outside the cluster: only address blocks, and rules for everyone, take it.
    External,
}

/// A policy that selects the pod, and what became of each of its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The policy.
    pub policy: PolicyId,
    /// Its tier.
    pub tier: String,
    /// It selects the pod only by a requirement that cannot be understood, so its rules allow nothing.
    pub unclear: bool,
    /// Its rules in order, the last one maybe the one that decided.
    pub rules: Vec<Trial>,
}

/// A rule against a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Index in its direction's list, from 0.
    pub rule: usize,
    /// What it does where it matches.
    pub action: Action,
    /// The other end against its peers.
    pub peer: Check,
    /// The port against its ports.
    pub port: Check,
}

impl Trial {
    /// Whether peer and port both match.
    pub fn matches(&self) -> bool {
        self.peer.misses.is_empty() && self.port.misses.is_empty()
    }

    /// How many things would have to be different for a match.
    pub fn distance(&self) -> usize {
        self.peer.misses.len() + self.port.misses.len()
    }
}

/// What a rule wants of one side of a flow, and what is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it wants, in words.
    pub wants: String,
    /// What is in the way, one sentence each, by the alternative that comes closest; empty: it matches.
    pub misses: Vec<String>,
}

impl Evaluator<'_> {
    /// The verdict on one flow, with every rule that was tried and how far it missed.
    ///
    /// # Errors
    /// [`FlowError`] if there can be no such flow.
    pub fn explain(&self, flow: &Flow) -> Result<Explanation, FlowError> {
        let verdict = self.verdict(flow)?;
        let (client, server) = self.parties(flow)?;
        let tried = |judgement: &Option<Judgement>, own: &Party<'_>, peer: &Party<'_>| match (
            judgement, own.pod,
        ) {
            (Some(judgement), Some(pod)) if judgement.reason != Reason::OwnNode => {
                self.tried(judgement, pod, flow, peer, &server)
            }
            _ => Vec::new(),
        };
        Ok(Explanation {
            flow: flow.clone(),
            client: self.who(&client, &flow.from),
            server: self.who(&server, &flow.to),
            egress: tried(&verdict.egress, &client, &server),
            ingress: tried(&verdict.ingress, &server, &client),
            verdict,
        })
    }

    fn tried(
        &self,
        judgement: &Judgement,
        (id, pod): (&PodId, &Pod),
        flow: &Flow,
        peer: &Party<'_>,
        server: &Party<'_>,
    ) -> Vec<Tried> {
        let direction = judgement.direction;
        let decided = match &judgement.reason {
            Reason::Rule { origin, .. } => Some(origin),
            Reason::NotIsolated | Reason::OwnNode | Reason::EndOfTier { .. } | Reason::Passed => {
                None
            }
        };
        let mut all = Vec::new();
        for (tier, policies) in self.tiers(id, pod, direction) {
            for (policy_id, policy, selected) in policies {
                let rules = policy.rules(direction).unwrap_or_default();
                let end = match decided {
                    Some(origin) if origin.policy == *policy_id => origin.rule + 1,
                    Some(_) | None => rules.len(),
                };
                all.push(Tried {
                    policy: policy_id.clone(),
                    tier: tier.name.clone(),
                    unclear: selected != Selected::Yes,
                    rules: rules[..end]
                        .iter()
                        .enumerate()
                        .map(|(index, rule)| Trial {
                            rule: index,
                            action: rule.action,
                            peer: self.check_peer(rule, direction, peer),
                            port: check_port(rule, flow, server),
                        })
                        .collect(),
                });
                if decided.is_some_and(|origin| origin.policy == *policy_id) {
                    return all;
                }
            }
        }
        all
    }

    fn check_peer(&self, rule: &Rule, direction: Direction, peer: &Party<'_>) -> Check {
        let Some(peers) = &rule.peers else {
            let wants = match direction {
                Direction::Ingress => "from anyone",
                Direction::Egress => "to anyone",
            };
            return Check {
                wants: wants.to_owned(),
                misses: Vec::new(),
            };
        };
        let preposition = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let wanted: Vec<String> = peers.iter().map(words::peer).collect();
        let misses = peers
            .iter()
            .map(|selector| self.peer_misses(selector, peer));
        let closest = misses.min_by_key(Vec::len);
        Check {
            wants: match wanted.as_slice() {
                [] => format!("{preposition} nobody"),
                _ => format!("{preposition} {}", wanted.join(", or ")),
            },
            misses: closest.unwrap_or_else(|| vec!["it names nobody".to_owned()]),
        }
    }

    /// What keeps a peer selector from taking this end; empty if nothing does.
    fn peer_misses(&self, selector: &PeerSelector, peer: &Party<'_>) -> Vec<String> {
        if self.peer_matches(selector, peer) {
            return Vec::new();
        }
        match (selector, peer.pod) {
            (PeerSelector::Unusable(reason), _) => {
                vec![format!("it cannot be understood: {reason}")]
            }
            (PeerSelector::Cidr { cidr, except }, _) => {
                vec![words::outside(peer.address, cidr, except)]
            }
            (PeerSelector::Pods(_), None) => {
                vec![format!(
                    "{} is no pod that a selector can take",
                    peer.address
                )]
            }
            (PeerSelector::Pods(selector), Some((id, pod))) => {
                let namespace = self.cluster().namespaces.get(&id.namespace);
                words::unselected(
                    selector,
                    id,
                    pod,
                    namespace.map(|namespace| &namespace.labels),
                )
            }
        }
    }

    fn who(&self, party: &Party<'_>, end: &crate::flow::End) -> Who {
        let cluster = self.cluster();
        let kind = match (party.pod, end) {
            (Some((id, pod)), _) => Kind::Pod {
                pod: id.clone(),
                node: pod.node.clone(),
                labels: pod.labels.clone(),
                namespace_labels: cluster
                    .namespaces
                    .get(&id.namespace)
                    .map(|namespace| namespace.labels.clone()),
            },
            (None, crate::flow::End::Node(node)) => Kind::Node { node: node.clone() },
            (None, _) => {
                let owner = cluster
                    .nodes
                    .iter()
                    .find(|(_, node)| node.addresses.contains(&party.address));
                owner.map_or(Kind::External, |(node, _)| Kind::Node {
                    node: node.clone(),
                })
            }
        };
        Who {
            address: party.address,
            kind,
        }
    }
}

fn check_port(rule: &Rule, flow: &Flow, server: &Party<'_>) -> Check {
    let Some(ports) = &rule.ports else {
        return Check {
            wants: "any port and protocol".to_owned(),
            misses: Vec::new(),
        };
    };
    let wants = match ports.as_slice() {
        [] => "no port".to_owned(),
        ports => ports
            .iter()
            .map(words::port)
            .collect::<Vec<_>>()
            .join(" or "),
    };
    if ports.iter().any(|port| port_matches(port, flow, server)) {
        return Check {
            wants,
            misses: Vec::new(),
        };
    }
    // One thing is wrong with the port, whatever the number of alternatives; the named ones say more.
    let named: Vec<String> = ports
        .iter()
        .filter_map(|port| match port {
            PortSelector::Named(protocol, name) => Some(words::named(
                *protocol,
                name,
                server.pod.map(|(_, pod)| pod),
            )),
            PortSelector::Unusable(reason) => {
                Some(format!("one port cannot be understood: {reason}"))
            }
            PortSelector::Protocol(_) | PortSelector::Range(..) => None,
        })
        .collect();
    let tried = words::transport(flow);
    let miss = match named.as_slice() {
        [] => format!("{tried} is not {wants}"),
        named => format!("{tried} is not {wants} ({})", named.join("; ")),
    };
    Check {
        wants,
        misses: vec![miss],
    }
}
