//! What a node says of itself: shown by `margayctl`, posted to the controller, later a CRD's status.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use margay_policy::model::PodId;
use serde::{Deserialize, Serialize};

use crate::message::Revision;

/// State of one node, by its felix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// felix' version.
    pub version: String,
    /// Whether the stream to the controller is up; the reason if not.
    pub controller: Link,
    /// Last revision received.
    pub received: Option<Revision>,
    /// Last revision that the kernel has.
    pub realised: Option<Revision>,
    /// Blocks in use, with how many addresses of each are taken.
    pub blocks: BTreeMap<IpNet, u32>,
    /// BGP peers by name.
    pub peers: BTreeMap<String, PeerStatus>,
    /// Attached pods.
    pub pods: BTreeMap<PodId, PodStatus>,
    /// The last repairs of what others changed in the kernel, newest last (bounded).
    pub drift: Vec<Drift>,
}

/// A connection that is up, or the reason why not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Link {
    /// Not tried yet.
    #[default]
    Unknown,
    /// Up.
    Up,
    /// Down.
    Down {
        /// Why, in words for people.
        reason: String,
    },
}

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's AS number as configured.
    pub asn: u32,
    /// RFC 4271 state: `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm`, `Established`.
    pub state: String,
    /// Why the session is not established, in words; empty when it is.
    pub reason: String,
    /// What to look at, if there is something to say.
    pub hint: String,
    /// Seconds in the present state.
    pub since_seconds: u64,
    /// Prefixes accepted from the peer.
    pub received: u32,
    /// Prefixes announced to the peer.
    pub announced: u32,
    /// Families that both sides speak.
    pub families: BTreeSet<crate::message::Family>,
}

/// An attached pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Its link on the host.
    pub link: String,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// Something of ours that somebody else changed and felix repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// When, RFC 3339 UTC.
    pub at: String,
    /// `table`, `chain`, `rule`, `set`, `route`, `link`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// Who, if the kernel told (`nft (pid 123)`); empty if not.
    pub by: String,
    /// From noticing to repaired, in microseconds.
    pub repair_microseconds: u64,
}

/// A route as felix wants it or BGP learned it (`margayctl routes`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Destination.
    pub prefix: IpNet,
    /// Next hops; empty for blackholes and links.
    pub next_hops: BTreeSet<IpAddr>,
    /// `pod LINK`, `block` (blackhole), or `bgp PEER`.
    pub source: String,
}
