//! The naive evaluator: what the API's text says about one flow.
//!
//! It is the oracle of the compiler and the base of `explain`. It walks the objects for every flow
//! and shares nothing with [`crate::compile`] beyond the model.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::flow::{End, Family, Flow, Transport};
use crate::model::{
    Action, Cluster, Direction, LabelSelector, Labels, NamespaceScope, NodeName, PeerSelector, Pod,
    PodId, PodSelector, Policy, PolicyId, PortSelector, Requirement, Rule, Tier, TierEnd,
};
use crate::node_policy::Origin;

#[cfg(test)]
mod tests;

/// What becomes of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Allowed by both ends.
    pub allow: bool,
    /// The client's policies; `None` if the client is no pod that policy can concern.
    pub egress: Option<Judgement>,
    /// The server's policies; `None` if the server is no pod that policy can concern.
    pub ingress: Option<Judgement>,
}

/// The verdict of one pod's policies in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The pod.
    pub pod: PodId,
    /// The direction.
    pub direction: Direction,
    /// The verdict.
    pub allow: bool,
    /// How it came to that: the tiers that selected the pod, up to the one that decided.
    pub chain: Vec<Step>,
    /// What decided.
    pub reason: Reason,
}

/// What one tier did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The tier's name.
    pub tier: String,
    /// The policies in it that select the pod in this direction, in order.
    pub policies: Vec<PolicyId>,
    /// The rule that matched; `None`: the end of the tier.
    pub rule: Option<(Origin, Action)>,
}

/// What decided a direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No policy selects the pod in this direction.
    NotIsolated,
    /// The pod's own node sent it (DESIGN §3.2 row 6).
    OwnNode,
    /// A rule.
    Rule {
        /// Which.
        origin: Origin,
        /// Its tier.
        tier: String,
    },
    /// No rule matched, and the tier that selected the pod ends in deny.
    EndOfTier {
        /// The tier.
        tier: String,
        /// The policies that isolate the pod.
        policies: Vec<PolicyId>,
    },
    /// Every tier that selected the pod passed it on.
    Passed,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allow { "allow" } else { "deny" };
        write!(f, "{} of {}: {verdict}, ", self.direction, self.pod)?;
        match &self.reason {
            Reason::NotIsolated => f.write_str("nothing selects it"),
            Reason::OwnNode => f.write_str("its own node sent it"),
            Reason::Rule { origin, tier } => write!(f, "{origin} (tier {tier})"),
            Reason::EndOfTier { tier, policies } => {
                write!(f, "end of tier {tier}, isolated by ")?;
                for (index, policy) in policies.iter().enumerate() {
                    write!(f, "{}{policy}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Reason::Passed => f.write_str("every tier passed it on"),
        }
    }
}

impl fmt::Display for Verdict {
    /// The judgements of both ends, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.egress, &self.ingress) {
            (Some(egress), Some(ingress)) => write!(f, "{egress}; {ingress}"),
            (Some(one), None) | (None, Some(one)) => write!(f, "{one}"),
            (None, None) => f.write_str("no end is a pod that policy can concern"),
        }
    }
}

/// A flow that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// There is no such pod.
    #[error("there is no pod {0}")]
    UnknownPod(PodId),
    /// There is no such node.
    #[error("there is no node {0}")]
    UnknownNode(NodeName),
    /// A `hostNetwork` pod without a node has no traffic.
    #[error("pod {0} is not on a node yet")]
    Unscheduled(PodId),
    /// The pod has ended.
    #[error("pod {0} has finished and lost its addresses")]
    Finished(PodId),
    /// The pod or node has no address of the flow's family.
    #[error("{end} has no {family} address")]
    NoAddress {
        /// The pod or node.
        end: End,
        /// The family.
        family: Family,
    },
    /// Another pod owns all of the pod's addresses of the flow's family.
    #[error("the {family} address of pod {pod} belongs to the newer pod {owner}")]
    Superseded {
        /// The pod.
        pod: PodId,
        /// The family.
        family: Family,
        /// The newer one.
        owner: PodId,
    },
    /// An end is an address of the other family.
    #[error("{address} is not an {family} address")]
    WrongFamily {
        /// The address.
        address: IpAddr,
        /// The flow's family.
        family: Family,
    },
}

/// The verdict on one flow. For many flows keep an [`Evaluator`].
///
/// # Errors
/// [`FlowError`] if there can be no such flow.
pub fn verdict(cluster: &Cluster, flow: &Flow) -> Result<Verdict, FlowError> {
    Evaluator::new(cluster).verdict(flow)
}

/// Judges flows in one cluster.
#[derive(Clone, Debug)]
pub struct Evaluator<'a> {
    cluster: &'a Cluster,
    /// Which live pod an address is.
    owners: HashMap<IpAddr, &'a PodId>,
    /// All policies by tier, order and id.
    policies: Vec<(&'a PolicyId, &'a Policy)>,
}

/// An end of a flow, found in the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party<'a> {
    /// The address on the wire.
    pub(crate) address: IpAddr,
    /// The workload that has it.
    pub(crate) pod: Option<(&'a PodId, &'a Pod)>,
    /// The node whose own process it is.
    node: Option<&'a NodeName>,
}

impl<'a> Evaluator<'a> {
    /// Prepares for the flows of `cluster`.
    pub fn new(cluster: &'a Cluster) -> Self {
        let mut owners: HashMap<IpAddr, &'a PodId> = HashMap::new();
        for (id, pod) in &cluster.pods {
            for address in pod.claims() {
                let owner = owners.entry(*address).or_insert(id);
                if pod.age(id) > cluster.pods[*owner].age(owner) {
                    *owner = id;
                }
            }
        }
        let mut policies: Vec<_> = cluster.policies.iter().collect();
        policies.sort_by(|(a_id, a), (b_id, b)| {
            (&a.tier, a.order, a_id).cmp(&(&b.tier, b.order, b_id))
        });
        Self {
            cluster,
            owners,
            policies,
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The live pod that owns an address.
    pub fn owner(&self, address: IpAddr) -> Option<&'a PodId> {
        self.owners.get(&address).copied()
    }

    /// The verdict on one flow.
    ///
    /// # Errors
    /// [`FlowError`] if there can be no such flow.
    pub fn verdict(&self, flow: &Flow) -> Result<Verdict, FlowError> {
        let (client, server) = self.parties(flow)?;
        let egress = client
            .pod
            .map(|pod| self.judge(pod, Direction::Egress, flow, &client, &server));
        let ingress = server.pod.map(|pod| {
            if client.node.is_some() && client.node == pod.1.node.as_ref() {
                return Judgement {
                    pod: pod.0.clone(),
                    direction: Direction::Ingress,
                    allow: true,
                    chain: Vec::new(),
                    reason: Reason::OwnNode,
                };
            }
            self.judge(pod, Direction::Ingress, flow, &client, &server)
        });
        let allow = [&egress, &ingress]
            .into_iter()
            .flatten()
            .all(|judgement| judgement.allow);
        Ok(Verdict {
            allow,
            egress,
            ingress,
        })
    }

    /// Who the ends of a flow are: client and server.
    pub(crate) fn parties(&self, flow: &Flow) -> Result<(Party<'a>, Party<'a>), FlowError> {
        Ok((
            self.party(&flow.from, flow.family)?,
            self.party(&flow.to, flow.family)?,
        ))
    }

    fn party(&self, end: &End, family: Family) -> Result<Party<'a>, FlowError> {
        match end {
            End::Address(address) if Family::of(*address) != family => {
                Err(FlowError::WrongFamily {
                    address: *address,
                    family,
                })
            }
            End::Address(address) => {
                let pod = self.owner(*address).map(|id| (id, &self.cluster.pods[id]));
                Ok(Party {
                    address: *address,
                    pod,
                    node: None,
                })
            }
            End::Node(name) => self.node(name, family, end),
            End::Pod(id) => {
                let Some((id, pod)) = self.cluster.pods.get_key_value(id) else {
                    return Err(FlowError::UnknownPod(id.clone()));
                };
                if pod.finished {
                    return Err(FlowError::Finished(id.clone()));
                }
                if pod.host_network {
                    let node = pod
                        .node
                        .as_ref()
                        .ok_or_else(|| FlowError::Unscheduled(id.clone()))?;
                    return self.node(node, family, end);
                }
                let mut newer = None;
                for address in pod
                    .claims()
                    .iter()
                    .filter(|address| Family::of(**address) == family)
                {
                    match self.owner(*address) {
                        Some(owner) if owner != id => newer = Some(owner),
                        Some(_) | None => {
                            return Ok(Party {
                                address: *address,
                                pod: Some((id, pod)),
                                node: None,
                            });
                        }
                    }
                }
                Err(match newer {
                    Some(owner) => FlowError::Superseded {
                        pod: id.clone(),
                        family,
                        owner: owner.clone(),
                    },
                    None => FlowError::NoAddress {
                        end: end.clone(),
                        family,
                    },
                })
            }
        }
    }

    fn node(&self, name: &NodeName, family: Family, end: &End) -> Result<Party<'a>, FlowError> {
        let Some((name, node)) = self.cluster.nodes.get_key_value(name) else {
            return Err(FlowError::UnknownNode(name.clone()));
        };
        let address = node
            .addresses
            .iter()
            .find(|address| Family::of(**address) == family);
        match address {
            Some(address) => Ok(Party {
                address: *address,
                pod: None,
                node: Some(name),
            }),
            None => Err(FlowError::NoAddress {
                end: end.clone(),
                family,
            }),
        }
    }

    fn judge(
        &self,
        (id, pod): (&'a PodId, &'a Pod),
        direction: Direction,
        flow: &Flow,
        client: &Party<'a>,
        server: &Party<'a>,
    ) -> Judgement {
        let peer = match direction {
            Direction::Ingress => client,
            Direction::Egress => server,
        };
        let mut chain = Vec::new();
        let outcome = |allow, chain, reason| Judgement {
            pod: id.clone(),
            direction,
            allow,
            chain,
            reason,
        };
        for (tier, policies) in self.tiers(id, pod, direction) {
            let mut step = Step {
                tier: tier.name.clone(),
                policies: policies
                    .iter()
                    .map(|(policy, _, _)| (*policy).clone())
                    .collect(),
                rule: None,
            };
            step.rule = policies.iter().find_map(|(policy_id, policy, selected)| {
                let rules = policy.rules(direction).unwrap_or_default();
                rules.iter().enumerate().find_map(|(index, rule)| {
                    let action = self.matches(rule, *selected, flow, peer, server)?;
                    let origin = Origin {
                        policy: (*policy_id).clone(),
                        direction,
                        rule: index,
                    };
                    Some((origin, action))
                })
            });
            chain.push(step.clone());
            match step.rule {
                Some((origin, action @ (Action::Allow | Action::Deny))) => {
                    let reason = Reason::Rule {
                        origin,
                        tier: tier.name.clone(),
                    };
                    return outcome(action == Action::Allow, chain, reason);
                }
                Some((_, Action::Pass)) => {}
                None => match tier.end {
                    TierEnd::Deny => {
                        let reason = Reason::EndOfTier {
                            tier: tier.name.clone(),
                            policies: step.policies,
                        };
                        return outcome(false, chain, reason);
                    }
                    TierEnd::NextTier => {}
                },
            }
        }
        let reason = if chain.is_empty() {
            Reason::NotIsolated
        } else {
            Reason::Passed
        };
        outcome(true, chain, reason)
    }

    /// The tiers that select the pod, each with its policies that do, in order.
    pub(crate) fn tiers(
        &self,
        id: &PodId,
        pod: &Pod,
        direction: Direction,
    ) -> Vec<(&'a Tier, Vec<Selecting<'a>>)> {
        let mut tiers: Vec<(&Tier, Vec<_>)> = Vec::new();
        for (policy_id, policy) in &self.policies {
            if policy.rules(direction).is_none() {
                continue;
            }
            let selected = self.selects(&policy.subject, id, pod);
            if selected == Selected::No {
                continue;
            }
            match tiers.last_mut() {
                Some((tier, list)) if *tier == &policy.tier => {
                    list.push((*policy_id, *policy, selected));
                }
                Some(_) | None => tiers.push((&policy.tier, vec![(*policy_id, *policy, selected)])),
            }
        }
        tiers
    }

    /// What the rule does with the flow; `None` if it does not match.
    fn matches(
        &self,
        rule: &Rule,
        selected: Selected,
        flow: &Flow,
        peer: &Party<'a>,
        server: &Party<'a>,
    ) -> Option<Action> {
        let understood = selected == Selected::Yes && understood(rule);
        match rule.action {
            Action::Allow if selected != Selected::Yes => None,
            // What a deny or pass would have let by is unknown, so nothing passes.
            Action::Deny | Action::Pass if !understood => Some(Action::Deny),
            action @ (Action::Allow | Action::Deny | Action::Pass) => {
                let peers = rule.peers.as_ref();
                let ports = rule.ports.as_ref();
                let matches = peers
                    .is_none_or(|peers| peers.iter().any(|item| self.peer_matches(item, peer)))
                    && ports.is_none_or(|ports| {
                        ports.iter().any(|item| port_matches(item, flow, server))
                    });
                matches.then_some(action)
            }
        }
    }

    pub(crate) fn peer_matches(&self, selector: &PeerSelector, peer: &Party<'a>) -> bool {
        match selector {
            PeerSelector::Pods(selector) => peer
                .pod
                .is_some_and(|(id, pod)| self.selects(selector, id, pod) == Selected::Yes),
            PeerSelector::Cidr { cidr, except } => {
                in_block(cidr, peer.address)
                    && !except.iter().any(|hole| in_block(hole, peer.address))
            }
            PeerSelector::Unusable(_) => false,
        }
    }

    fn selects(&self, selector: &PodSelector, id: &PodId, pod: &Pod) -> Selected {
        let namespace = match &selector.namespaces {
            NamespaceScope::Named(name) if *name == id.namespace => Selected::Yes,
            NamespaceScope::Named(_) => Selected::No,
            NamespaceScope::Matching(selector) => self.namespace_selected(selector, &id.namespace),
        };
        namespace.min(labels_selected(&selector.pods, &pod.labels))
    }

    /// Whether a selector of namespaces takes this one: unknown ones only if it takes all.
    pub(crate) fn namespace_selected(&self, selector: &LabelSelector, namespace: &str) -> Selected {
        if selector.requirements.is_empty() {
            return Selected::Yes;
        }
        self.cluster
            .namespaces
            .get(namespace)
            .map_or(Selected::No, |namespace| {
                labels_selected(selector, &namespace.labels)
            })
    }
}

/// A policy that selects a pod.
pub(crate) type Selecting<'a> = (&'a PolicyId, &'a Policy, Selected);

/// Whether a selector takes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Selected {
    /// No.
    No,
    /// It would, were it not for a requirement that cannot be understood.
    Unclear,
    /// Yes.
    Yes,
}

pub(crate) fn labels_selected(selector: &LabelSelector, labels: &Labels) -> Selected {
    let requirements = selector.requirements.iter();
    requirements
        .map(|requirement| requirement_holds(requirement, labels))
        .min()
        .unwrap_or(Selected::Yes)
}

pub(crate) fn requirement_holds(requirement: &Requirement, labels: &Labels) -> Selected {
    let holds = match requirement {
        Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
        Requirement::NotIn(key, values) => {
            labels.get(key).is_none_or(|value| !values.contains(value))
        }
        Requirement::Exists(key) => labels.contains_key(key),
        Requirement::DoesNotExist(key) => !labels.contains_key(key),
        Requirement::Unusable(_) => return Selected::Unclear,
    };
    if holds { Selected::Yes } else { Selected::No }
}

/// Whether every part of the rule can be understood.
fn understood(rule: &Rule) -> bool {
    let clear = |selector: &LabelSelector| {
        !selector
            .requirements
            .iter()
            .any(|requirement| matches!(requirement, Requirement::Unusable(_)))
    };
    let peers = rule.peers.iter().flatten().all(|peer| match peer {
        PeerSelector::Pods(PodSelector { namespaces, pods }) => {
            clear(pods)
                && match namespaces {
                    NamespaceScope::Named(_) => true,
                    NamespaceScope::Matching(selector) => clear(selector),
                }
        }
        PeerSelector::Cidr { .. } => true,
        PeerSelector::Unusable(_) => false,
    });
    peers
        && !rule
            .ports
            .iter()
            .flatten()
            .any(|port| matches!(port, PortSelector::Unusable(_)))
}

fn in_block(block: &IpNet, address: IpAddr) -> bool {
    match (block, address) {
        (IpNet::V4(block), IpAddr::V4(address)) => block.contains(&address),
        (IpNet::V6(block), IpAddr::V6(address)) => block.contains(&address),
        (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => false,
    }
}

pub(crate) fn port_matches(selector: &PortSelector, flow: &Flow, server: &Party<'_>) -> bool {
    let Transport::Port(protocol) = flow.protocol else {
        return false;
    };
    match selector {
        PortSelector::Protocol(wanted) => *wanted == protocol,
        PortSelector::Range(wanted, first, last) => {
            *wanted == protocol && (*first..=*last).contains(&flow.port)
        }
        PortSelector::Named(wanted, name) => {
            *wanted == protocol
                && server.pod.is_some_and(|(_, pod)| {
                    pod.ports.iter().any(|port| {
                        port.name.as_ref() == Some(name)
                            && port.protocol == protocol
                            && port.number == flow.port
                    })
                })
        }
        PortSelector::Unusable(_) => false,
    }
}
