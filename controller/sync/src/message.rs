//! What is said on the stream, and what felix posts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
pub use margay_ipam::Family;
use margay_policy::model::{NodeName, PodId};
use margay_policy::node_policy::{NodePolicy, PolicyChange};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub mod bgp;
mod sources;

pub use bgp::{Bgp, BgpPeer};
pub use sources::NoSource;

/// Everything the controller tells one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Policy for the node's pods.
    pub policy: NodePolicy,
    /// Addresses, routes and BGP; `None` while the node object is unknown.
    pub network: Option<NodeNetwork>,
}

impl NodeState {
    /// Names this state: equal states have equal digests, on every controller and agent.
    ///
    /// Programs of different versions may write a state differently and so differ in its digest; a reader is then told
    /// all of it, which is always right. `None` if it cannot be written down: then it equals no other.
    pub fn digest(&self) -> Option<String> {
        let mut hasher = Sha256::new();
        serde_json::to_writer(&mut hasher, self).ok()?;
        Some(hex(&hasher.finalize()))
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// What a node needs besides policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNetwork {
    /// The node.
    pub node: NodeName,
    /// Its own addresses, the one to speak BGP with first.
    pub addresses: Vec<IpAddr>,
    /// All pools of the cluster.
    pub pools: Vec<Pool>,
    /// Namespaces that have pods here and are known: only of these it is known which pools select them. Empty where no
    /// pool is for namespaces.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub namespaces: BTreeSet<String>,
    /// Blocks that this node has claimed.
    pub blocks: BTreeSet<IpNet>,
    /// The speaker's settings.
    pub bgp: Bgp,
}

/// A pool as felix needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The pool's range.
    pub cidr: IpNet,
    /// Masquerade what its pods send out of all pools.
    pub nat_outgoing: bool,
    /// Whether this node may take new addresses from it.
    pub usable: bool,
    /// Whether it is the node's own `podCIDR`: a subnet to others, so that its ends are not handed out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subnet: bool,
    /// If it is for the pods of some namespaces alone: those of [`NodeNetwork::namespaces`] that it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<BTreeSet<String>>,
}

/// A place in the stream of one node: which run of the controller counted, and how far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Random per run of a controller: revisions of different runs do not compare.
    pub run: String,
    /// Counts the changes of the node's state in that run.
    pub count: u64,
}

/// One line of the stream, controller to felix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Message {
    /// The whole state; what was known before is replaced.
    Snapshot {
        /// Where the stream stands after it.
        revision: Revision,
        /// The state.
        state: Box<NodeState>,
    },
    /// What the reader has, from another run, is what there is: the place alone is new.
    Same {
        /// Where the stream stands.
        revision: Revision,
    },
    /// Changes on top of an earlier state.
    Delta {
        /// The count of the state that the changes build upon, in the same run: a receiver that
        /// stands elsewhere has missed something.
        since: u64,
        /// Where the stream stands after it.
        revision: Revision,
        /// The changes, in an order that is safe to apply one by one.
        changes: Vec<Change>,
    },
    /// Nothing more is known now; also sent as a sign of life.
    InSync {
        /// Where the stream stands.
        revision: Revision,
    },
}

/// One change of a [`NodeState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Policy changed.
    Policy(PolicyChange),
    /// Addresses, pools, blocks or BGP changed: all of it.
    Network(Option<NodeNetwork>),
}

/// What felix reports of its node, whole each time (`PUT /v1/nodes/{node}/report`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Addresses of the attached pods: peers' sets learn them before any status does.
    pub pods: BTreeMap<PodId, PodReport>,
    /// The node's status.
    pub status: crate::status::NodeStatus,
}

/// An attached pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodReport {
    /// `metadata.uid` as the runtime said; empty if it did not.
    pub uid: String,
    /// The addresses in use.
    pub addresses: BTreeSet<IpAddr>,
}

/// Asks for one more block (`POST /v1/nodes/{node}/blocks`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimBlock {
    /// Of this family.
    pub family: Family,
    /// Of one of these pools; if there are none, of one that is for any namespace.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pools: BTreeSet<IpNet>,
}

/// The answer to [`ClaimBlock`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockClaimed {
    /// The block; it is the node's from now on and will stand in [`NodeNetwork::blocks`].
    pub block: IpNet,
}

/// The answer to any refused request, with a status code of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, and what to do.
    pub error: String,
}
