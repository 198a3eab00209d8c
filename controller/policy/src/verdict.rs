//! The naive evaluator: what the API's text says about one flow.
//!
//! It is the oracle of the compiler and the base of `explain`. It walks the objects for every flow
//! and shares nothing with [`mod@crate::compile`] beyond the model.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::flow::{End, Family, Flow};
use crate::model::{Action, Cluster, Direction, NodeName, PodId, PolicyId};
use crate::node_policy::Origin;

mod evaluator;
mod matching;
#[cfg(test)]
mod tests;

pub use evaluator::Evaluator;
pub(crate) use evaluator::Party;
pub(crate) use matching::{Selected, port_matches, requirement_holds};

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
