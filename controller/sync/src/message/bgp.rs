//! What felix' speaker is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use margay_policy::model::NodeName;
use serde::{Deserialize, Serialize};

use super::Family;

/// The speaker's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bgp {
    /// Own AS number.
    pub asn: u32,
    /// Port to listen on and to dial other nodes at; normally 179.
    pub port: u16,
    /// The cluster that this node reflects for (RFC 4456 §7), if it is not named by the node's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<Ipv4Addr>,
    /// Another text whenever nodes are to pair otherwise, and not because one came or went: sessions that a node has and
    /// is to have no more are then kept until what takes their place is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topology: String,
    /// Peers by a name for people (`node-n2`, or the name of the `BGPPeer` object).
    pub peers: BTreeMap<String, BgpPeer>,
    /// Communities of own prefixes, by where these lie.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Communities>,
    /// Prefixes that are announced as long as an own one lies inside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aggregates: BTreeMap<IpNet, Aggregate>,
    /// Addresses of Services to announce from this node, beside its blocks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<IpNet>,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpPeer {
    /// Its address; `::` for whoever is the router on its `interface`.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its AS number; equal to ours for iBGP.
    pub asn: u32,
    /// Hold time to propose, in seconds.
    pub hold_time: u16,
    /// The node that it is, if it is one of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// What need not be said of most peers.
    #[serde(flatten)]
    pub details: Details,
}

impl BgpPeer {
    /// A router with the usual settings.
    pub fn new(address: IpAddr, asn: u32) -> Self {
        Self {
            address,
            port: 179,
            asn,
            hold_time: 90,
            node: None,
            details: Details::default(),
        }
    }
}

/// Settings of a peer that have a usual value; on the wire only where they differ from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, as the operator writes it"
)]
pub struct Details {
    /// Which own address to dial from.
    #[serde(skip_serializing_if = "is_usual")]
    pub source: Source,
    /// The link of a link-local address, or of a peer without address.
    #[serde(skip_serializing_if = "is_usual")]
    pub interface: Option<String>,
    /// Signs segments (RFC 2385).
    #[serde(skip_serializing_if = "is_usual")]
    pub password: Option<Password>,
    /// Whether the peer alone dials.
    #[serde(skip_serializing_if = "is_usual")]
    pub passive: bool,
    /// Families to speak; both if empty.
    #[serde(skip_serializing_if = "is_usual")]
    pub families: BTreeSet<Family>,
    /// What it is told.
    #[serde(skip_serializing_if = "is_usual")]
    pub export: Export,
    /// Which next hop it is told.
    #[serde(skip_serializing_if = "is_usual")]
    pub next_hop: NextHop,
    /// Whether it is a client of ours (RFC 4456).
    #[serde(skip_serializing_if = "is_usual")]
    pub reflector_client: bool,
    /// How far it may be.
    #[serde(skip_serializing_if = "is_usual")]
    pub distance: Distance,
    /// BFD beside the session.
    #[serde(skip_serializing_if = "is_usual")]
    pub bfd: Option<Bfd>,
    /// Another AS number to show to it.
    #[serde(skip_serializing_if = "is_usual")]
    pub local_as: Option<LocalAs>,
    /// How often our AS may stand in its routes.
    #[serde(skip_serializing_if = "is_usual")]
    pub allow_own_as: u8,
    /// Whether its own AS is replaced by ours.
    #[serde(skip_serializing_if = "is_usual")]
    pub as_override: bool,
    /// What becomes of private AS numbers.
    #[serde(skip_serializing_if = "is_usual")]
    pub private_as: PrivateAs,
    /// Several paths.
    #[serde(skip_serializing_if = "is_usual")]
    pub add_path: AddPath,
    /// Graceful restart.
    #[serde(skip_serializing_if = "is_usual")]
    pub restart: Restart,
    /// Limits of what it may announce.
    #[serde(skip_serializing_if = "is_usual")]
    pub limits: BTreeMap<Family, Limit>,
    /// Rules for its routes; what none decides passes.
    #[serde(skip_serializing_if = "is_usual")]
    pub import: Vec<Rule>,
    /// Rules for what it is told; what none decides passes.
    #[serde(skip_serializing_if = "is_usual")]
    pub export_rules: Vec<Rule>,
    /// Why the session is to be down, if it is.
    #[serde(skip_serializing_if = "is_usual")]
    pub shutdown: Option<String>,
    /// Whether it is asked to prefer others (RFC 8326).
    #[serde(skip_serializing_if = "is_usual")]
    pub graceful_shutdown: bool,
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which own address a session has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The node's, of the peer's family.
    #[default]
    Node,
    /// The kernel's choice.
    Any,
}

/// A password, or where it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Password {
    /// It.
    Text(String),
    /// A file of the node.
    File(String),
    /// It is wanted and not to be had: why.
    Missing(String),
}

impl fmt::Debug for Password {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Missing(why) => f.debug_tuple("Missing").field(why).finish(),
        }
    }
}

/// What a peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Export {
    /// Own prefixes.
    #[default]
    Own,
    /// Also what other peers of our AS told us: what a reflector tells.
    Internal,
    /// Also what anybody else told us.
    All,
}

/// Which next hop a peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHop {
    /// As BGP does.
    #[default]
    Auto,
    /// Ourselves.
    Own,
    /// What the route has.
    Keep,
}

/// How far a peer may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// As far as packets go.
    #[default]
    Any,
    /// So many hops.
    Hops(u8),
    /// So many hops, and nobody farther away gets a packet in (RFC 5082).
    Security(u8),
}

/// BFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bfd {
    /// Between packets, in milliseconds.
    pub interval: u32,
    /// How many may be missing.
    pub multiplier: u8,
}

/// Another AS number to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAs {
    /// It.
    pub asn: u32,
    /// Whether the real one is not shown beside it.
    pub hide_real: bool,
}

/// What becomes of private AS numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivateAs {
    /// They stay.
    #[default]
    Keep,
    /// They are taken out.
    Remove,
    /// Ours stands there.
    Replace,
}

/// Several paths to one prefix (RFC 7911).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddPath {
    /// Whether to take several.
    pub receive: bool,
    /// How many to tell; 0 for the best alone.
    pub send: u8,
}

/// Graceful restart (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Whether there is any.
    pub enabled: bool,
    /// Within how many seconds we are back.
    pub time: u16,
    /// After a NOTIFICATION too (RFC 8538).
    pub notification: bool,
    /// How long stale routes are kept at last, in seconds (RFC 9494).
    pub long_lived: Option<u32>,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            enabled: true,
            time: 120,
            notification: false,
            long_lived: None,
        }
    }
}

/// How many prefixes of a family a peer may announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// So many.
    pub max: u32,
    /// When the status warns, in percent of that.
    pub warn_percent: u8,
    /// What happens above.
    pub action: LimitAction,
}

/// What happens above a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitAction {
    /// The status says so.
    Warn,
    /// Further prefixes are not taken.
    Block,
    /// The session ends, and begins anew after so many seconds; if none, when the limit changes.
    TearDown(Option<u32>),
}

/// Communities of own prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Communities {
    /// Own prefixes inside this one have them.
    pub within: IpNet,
    /// Standard ones.
    pub standard: BTreeSet<u32>,
    /// Large ones.
    pub large: BTreeSet<[u32; 3]>,
}

/// A prefix that stands for those inside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Whether peers of other ASes are no longer told of these.
    pub suppress: bool,
    /// Standard communities of the aggregate.
    pub standard: BTreeSet<u32>,
    /// Large ones.
    pub large: BTreeSet<[u32; 3]>,
}

/// A rule of a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// All must hold.
    pub when: Vec<Condition>,
    /// What is changed, in order.
    pub changes: Vec<Change>,
    /// What then; `None` goes on to the next rule.
    pub then: Option<Decision>,
}

/// Whether a route passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It does.
    Accept,
    /// It does not.
    Reject,
}

/// Something that holds of a route, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The prefix is one of these.
    Prefix(Vec<PrefixMatch>),
    /// It is none of these.
    NotPrefix(Vec<PrefixMatch>),
    /// It is of this family.
    Family(Family),
    /// Where it comes from.
    Source(RouteSource),
    /// It has one of these standard communities, or of these large ones.
    Community(Vec<u32>, Vec<[u32; 3]>),
    /// Its `AS_PATH` fits: ranges of numbers, and `None` for any numbers, also none.
    AsPath(Vec<Option<(u32, u32)>>),
    /// Its next hop is in one of these.
    NextHop(Vec<IpNet>),
    /// Its `LOCAL_PREF` is from one to the other.
    LocalPref(u32, u32),
    /// Its MED is.
    Med(u32, u32),
}

/// Prefixes inside a prefix, by length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixMatch {
    /// It.
    pub within: IpNet,
    /// The shortest.
    pub ge: u8,
    /// The longest.
    pub le: u8,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteSource {
    /// We announce it.
    Own,
    /// An aggregate of ours.
    Aggregate,
    /// A peer of another AS.
    External,
    /// A peer of our AS.
    Internal,
}

/// What a rule does to a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Sets `LOCAL_PREF`.
    LocalPref(u32),
    /// Sets the MED.
    Med(u32),
    /// Puts our AS number in front so many times.
    Prepend(u8),
    /// Sets the next hop.
    NextHop(IpAddr),
    /// Takes a standard community out.
    RemoveCommunity(u32),
    /// Takes a large one out.
    RemoveLarge([u32; 3]),
    /// Adds a standard one.
    AddCommunity(u32),
    /// Adds a large one.
    AddLarge([u32; 3]),
}

#[cfg(test)]
mod tests;
