//! What felix knows of its own node, besides policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use margay_policy::model::{Direction, PodId};
use margay_policy::node_policy::{NodePolicy, RuleListId};

use crate::epochs::Epochs;
use crate::rooms::Rooms;

/// The node's part of the ruleset's input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Pods that have a link.
    pub attachments: BTreeMap<PodId, Attachment>,
    /// What to masquerade.
    pub nat: Nat,
    /// Policy epochs.
    pub epochs: Epochs,
    /// Room of the sets of members.
    pub rooms: Rooms,
}

/// A pod's place on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the host end of the pod's link.
    pub link: String,
    /// The pod's addresses. An address that two attachments claim belongs to neither: both are cut off
    /// there until one gives it up.
    pub addresses: BTreeSet<IpAddr>,
}

/// What becomes of packets beyond policy: masquerading from `sources` to anywhere but `pools`, and `services`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// Pools with `natOutgoing`.
    pub sources: BTreeSet<IpNet>,
    /// All pools.
    pub pools: BTreeSet<IpNet>,
    /// Announced ranges of Services: whatever still has such a destination when it is forwarded is of no Service.
    pub services: BTreeSet<IpNet>,
}

/// Tiers that a rule list may have: the kernel allows 15 chains below a base chain, and the longest ways
/// are `client` and the tiers of an egress list, and the tiers of an ingress list and `stamp`.
pub const MAX_TIERS: usize = 14;

/// How connections of an address are judged, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Cut off: the pod has a link, but its policy is unknown.
    Closed,
    /// Nothing selects the pod.
    Open,
    /// By this list.
    List(RuleListId),
}

/// How connections of an address are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sides {
    /// Connections from it.
    pub(crate) egress: Side,
    /// Connections to it.
    pub(crate) ingress: Side,
}

impl Sides {
    const CLOSED: Self = Self {
        egress: Side::Closed,
        ingress: Side::Closed,
    };

    pub(crate) fn side(&self, direction: Direction) -> Side {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// How the addresses of an attached pod are judged.
pub(crate) fn sides(policy: &NodePolicy, pod: &PodId) -> Sides {
    let Some(endpoint) = policy.endpoints.get(pod) else {
        return Sides::CLOSED;
    };
    let side = |list: Option<RuleListId>, direction| match list {
        None => Side::Open,
        Some(id) => match policy.rule_lists.get(&id) {
            Some(list) if list.direction == direction && list.tiers.len() <= MAX_TIERS => {
                Side::List(id)
            }
            // A list that nobody sent, one of the other direction, or one that the kernel would refuse.
            Some(_) | None => Side::Closed,
        },
    };
    Sides {
        egress: side(endpoint.egress, Direction::Egress),
        ingress: side(endpoint.ingress, Direction::Ingress),
    }
}

/// The pods that claim each address.
pub(crate) type Owners = BTreeMap<IpAddr, BTreeSet<PodId>>;

/// The pods that claim each address.
pub(crate) fn owners(attachments: &BTreeMap<PodId, Attachment>) -> Owners {
    let mut owners = Owners::new();
    for (pod, attachment) in attachments {
        for address in &attachment.addresses {
            owners.entry(*address).or_default().insert(pod.clone());
        }
    }
    owners
}

/// How an address is judged: `None` if no attachment claims it, closed if several do.
pub(crate) fn address_sides(
    policy: &NodePolicy,
    claims: Option<&BTreeSet<PodId>>,
) -> Option<Sides> {
    let claims = claims?;
    match sole(claims) {
        Some(pod) => Some(sides(policy, pod)),
        None => Some(Sides::CLOSED),
    }
}

/// The only one of `claims`.
pub(crate) fn sole(claims: &BTreeSet<PodId>) -> Option<&PodId> {
    let mut claims = claims.iter();
    let first = claims.next();
    match claims.next() {
        None => first,
        Some(_) => None,
    }
}
