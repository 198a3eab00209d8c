//! What a node says of itself: shown by `margayctl`, posted to the controller, later a CRD's status.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use margay_policy::model::{NodeName, PodId};
use serde::{Deserialize, Serialize};

use crate::message::Revision;

/// State of one node, by its felix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's name, as the controller has it; `None` before the controller told.
    #[serde(default)]
    pub node: Option<NodeName>,
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

/// State of the controller (`GET /status` of its unix socket).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// The controller's version.
    pub version: String,
    /// Its run, as in [`Revision::run`].
    pub run: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The folder it watches.
    pub folder: String,
    /// Objects in force, by kind.
    pub objects: BTreeMap<String, u32>,
    /// Documents that are refused at present.
    pub refused: u32,
    /// Objects in force that have problems.
    pub problems: u32,
    /// Nodes with a `Node` object.
    pub nodes: u32,
    /// Nodes whose stream is open.
    pub connected: u32,
    /// Policies that every node they concern has in its kernel.
    pub realised: u32,
    /// Policies.
    pub policies: u32,
    /// How much is held of what grows with the cluster, by what it is: entries, or for `stream-logs`
    /// changes and members in them.
    #[serde(default)]
    pub held: BTreeMap<String, u64>,
}

/// All nodes that the controller knows of, by object or by stream (`GET /nodes`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodesPage {
    /// By name.
    pub nodes: BTreeMap<NodeName, NodeView>,
}

/// A node as the controller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Whether a `Node` object of that name is in force.
    pub object: bool,
    /// The stream to its felix.
    pub stream: Link,
    /// Where its stream stands here; what felix has is in its report.
    pub revision: Option<Revision>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its blocks.
    pub blocks: BTreeSet<IpNet>,
    /// What felix last said, if it did in this run of the controller.
    pub report: Option<NodeStatus>,
    /// Seconds since then.
    pub report_age_seconds: Option<u64>,
}

/// What the source holds (`GET /objects`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsPage {
    /// Objects in force, by kind, namespace and name.
    pub objects: Vec<ObjectStatus>,
    /// Documents that are refused, by file and line.
    pub refused: Vec<RefusedDocument>,
}

/// An object in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectStatus {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The file that holds it, relative to the folder.
    pub file: String,
    /// The line its document begins at, from 1.
    pub line: usize,
    /// The file now holds something refused in its place, so what was accepted before counts.
    pub kept: bool,
    /// Values that fail closed, other files that hold it too, kinds that are skipped: sentences.
    pub problems: Vec<String>,
}

/// A document that was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RefusedDocument {
    /// The file, relative to the folder.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// Why, in words.
    pub reason: String,
    /// What of an earlier version stays in force: `Kind namespace/name`.
    pub in_force: BTreeSet<String>,
}

/// Pools and blocks (`GET /ipam`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamPage {
    /// Pools, by address.
    pub pools: Vec<PoolStatus>,
    /// Claimed blocks.
    pub blocks: BTreeMap<IpNet, BlockStatus>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its range.
    pub cidr: IpNet,
    /// Prefix length of its blocks.
    pub block_size: u8,
    /// New addresses are not taken from it.
    pub disabled: bool,
    /// The older pool that has a part of its range; then no new addresses are taken from this one either.
    #[serde(default)]
    pub overlaps: Option<String>,
    /// If it is for the pods of some namespaces alone: these.
    #[serde(default)]
    pub namespaces: Option<BTreeSet<String>>,
    /// Addresses of its pods are masqueraded outside the pools.
    pub nat_outgoing: bool,
    /// Blocks it has room for (`u64::MAX` if more).
    pub blocks: u64,
    /// Blocks of it that are claimed.
    pub claimed: u64,
    /// Addresses of it in use, as the nodes reported.
    pub used: u64,
}

/// A claimed block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockStatus {
    /// Whose it is.
    pub node: NodeName,
    /// Addresses in it (`u64::MAX` if more).
    pub size: u64,
    /// Addresses in use, as the node reported; `None` if it has not.
    pub used: Option<u32>,
}

/// How far each policy has got (`GET /policy`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyPage {
    /// By `Kind namespace/name`.
    pub policies: BTreeMap<String, PolicyStatus>,
}

/// A policy is realised on n of m nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Nodes whose kernel has its present version.
    pub realised: u32,
    /// Nodes that have pods which it selects.
    pub nodes: u32,
    /// Those that do not have it yet.
    pub waiting: BTreeSet<NodeName>,
    /// Values in it that fail closed: sentences.
    pub problems: Vec<String>,
}
