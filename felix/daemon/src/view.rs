//! What felix knows of itself, for whoever shows or reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use margay_ipam::Source;
use margay_sync::message::{Family, NodeNetwork, PodReport, Report, Revision};
use margay_sync::status::{Drift, Link, NodeStatus, PeerStatus, PodStatus};

use crate::journal::Record;

/// The core's present state; replaced as a whole when something changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Last revision received.
    pub(crate) received: Option<Revision>,
    /// Last revision that the kernel has.
    pub(crate) realised: Option<Revision>,
    /// Addresses, pools, BGP.
    pub(crate) network: Option<Arc<NodeNetwork>>,
    /// Own blocks with their use, also those just claimed.
    pub(crate) blocks: BTreeMap<IpNet, u32>,
    /// Sources of which a block is to be claimed.
    pub(crate) wants: BTreeSet<Source>,
    /// Attached pods.
    pub(crate) pods: Arc<[Arc<Record>]>,
    /// Addresses outside of the blocks, to be announced on their own.
    pub(crate) outside: BTreeSet<IpNet>,
    /// Repairs, newest last.
    pub(crate) drift: Vec<Drift>,
    /// Why the kernel has not the rules that it should have; `None` if it has.
    pub(crate) trouble: Option<String>,
}

impl View {
    /// Why no pod can be attached; `None` if one can.
    pub(crate) fn unable(&self) -> Option<String> {
        if self.trouble.is_some() {
            self.trouble.clone()
        } else if self.received.is_none() {
            let why = "nothing is known from the controller yet, and no snapshot is on disk";
            Some(why.to_owned())
        } else {
            None
        }
    }
}

/// The node's status, put together.
pub(crate) fn status(
    view: &View,
    controller: &Link,
    bgp: &margay_bgpd::Status,
    now: Instant,
) -> NodeStatus {
    NodeStatus {
        node: view.network.as_ref().map(|network| network.node.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        controller: controller.clone(),
        received: view.received.clone(),
        realised: view.realised.clone(),
        blocks: view.blocks.clone(),
        peers: bgp
            .peers
            .iter()
            .map(|(name, peer)| (name.to_string(), peer_status(peer, bgp, now)))
            .collect(),
        pods: view
            .pods
            .iter()
            .map(|attached| {
                let status = PodStatus {
                    link: attached.link.clone(),
                    addresses: attached.addresses.clone(),
                };
                (attached.pod.clone(), status)
            })
            .collect(),
        drift: view.drift.clone(),
    }
}

/// What the controller is told.
pub(crate) fn report(view: &View, status: NodeStatus) -> Report {
    let pods = view.pods.iter().map(|attached| {
        let report = PodReport {
            uid: attached.uid.clone(),
            addresses: attached.addresses.clone(),
        };
        (attached.pod.clone(), report)
    });
    Report {
        pods: pods.collect(),
        status,
    }
}

fn peer_status(
    peer: &margay_bgpd::PeerStatus,
    bgp: &margay_bgpd::Status,
    now: Instant,
) -> PeerStatus {
    // Of a session that is up there may be notes (a family without next hop, refused routes).
    let mut hint = if peer.hint.is_empty() {
        peer.notes.join("; ")
    } else {
        peer.hint.clone()
    };
    // A session may be down because we do not listen.
    for reason in bgp
        .listeners
        .values()
        .filter_map(|place| place.as_ref().err())
    {
        if hint.is_empty() && !peer.reason.is_empty() {
            hint.clone_from(reason);
        }
    }
    PeerStatus {
        address: peer.address,
        asn: peer.asn.0,
        state: peer.state.to_string(),
        reason: peer.reason.clone(),
        hint,
        since_seconds: now.saturating_duration_since(peer.since).as_secs(),
        received: peer.received,
        announced: peer.announced,
        families: peer
            .families
            .iter()
            .map(|family| match family {
                margay_bgpd::Family::Ipv4 => Family::V4,
                margay_bgpd::Family::Ipv6 => Family::V6,
            })
            .collect(),
    }
}
