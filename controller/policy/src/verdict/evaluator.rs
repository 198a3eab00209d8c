//! Walks the objects for every flow.

use std::collections::HashMap;
use std::net::IpAddr;

use super::matching::{Selected, in_block, labels_selected, port_matches, understood};
use super::{FlowError, Judgement, Reason, Step, Verdict};
use crate::flow::{End, Family, Flow};
use crate::model::{
    Action, Cluster, Direction, LabelSelector, NamespaceScope, NodeName, PeerSelector, Pod, PodId,
    PodSelector, Policy, PolicyId, Rule, Tier, TierEnd,
};
use crate::node_policy::Origin;

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
        if namespace == Selected::No {
            return Selected::No;
        }
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
