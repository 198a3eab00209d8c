//! `BGPPeer`: who nodes speak BGP with: a router by its address, or other nodes by their labels.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bgp::{Bfd, PasswordSource};
use super::schema;

/// Settings.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "margay.io",
    version = "v1alpha1",
    kind = "BGPPeer",
    root = "BgpPeer",
    plural = "bgppeers",
    shortname = "bgpp",
    category = "margay",
    doc = "Who nodes speak BGP with: a router by its address, or other nodes by their labels.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.peerAddress) ? !has(self.peerSelector) : has(self.peerSelector) || has(self.interface)",
        "message": "say who the peer is, in one way: peerAddress (a router), peerSelector (other nodes, by their labels), or interface alone (the router on that link)",
    },
    {
        "rule": "has(self.peerSelector) || has(self.peerASN)",
        "message": "peerASN is missing: write the AS number of the router",
    },
    {
        "rule": "!has(self.multihop) || !has(self.ttlSecurity)",
        "message": "ttlSecurity says how many hops are allowed already: leave multihop out",
    },
    {
        "rule": "!has(self.peerAddress) || !isIP(self.peerAddress) || !ip(self.peerAddress).isLinkLocalUnicast() || has(self.interface) || ip(self.peerAddress).family() == 4",
        "message": "interface is missing: a link-local address is one of a link; name the nodes' link to the peer",
    },
]))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, as the operator writes it"
)]
pub struct BgpPeerSpec {
    /// The nodes that speak with it; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub node_selector: Option<LabelSelector>,
    /// The router's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::router_address")]
    pub peer_address: Option<IpAddr>,
    /// Instead of an address: the nodes with these labels are the peers, and both sides are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub peer_selector: Option<LabelSelector>,
    /// The router's AS number, 1 to 4294967295; equal to ours for iBGP. Nodes have that of `NetworkConfig`.
    #[serde(rename = "peerASN", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::asn")]
    pub peer_asn: Option<u32>,
    /// The router's port; absent: 179. Nodes have that of `NetworkConfig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::port")]
    pub port: Option<u16>,
    /// The nodes' link to a peer with a link-local address. Without `peerAddress`: whoever is the router on that link is the
    /// peer (an unnumbered one), as its router advertisements say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interface")]
    pub interface: Option<String>,
    /// Which own address the session has.
    #[serde(default)]
    #[schemars(schema_with = "schema::source_address")]
    pub source_address: SourceAddress,
    /// Signs the session's segments (TCP MD5). A change needs no new session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordSource>,
    /// Hold time to propose, in seconds: 0, or at least 3; absent: that of `NetworkConfig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hold_time")]
    pub hold_time: Option<u16>,
    /// The peer dials, we do not.
    #[serde(default)]
    pub passive: bool,
    /// Families to speak; absent: both.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "schema::families")]
    pub families: BTreeSet<Family>,
    /// What the peer is told: `Own`, the node's own prefixes; or `All`, also what others told the node.
    #[serde(default)]
    #[schemars(schema_with = "schema::export")]
    pub export: Export,
    /// Which next hop the peer is told.
    #[serde(default)]
    #[schemars(schema_with = "schema::next_hop")]
    pub next_hop_mode: NextHopMode,
    /// `BGPFilter`s by name, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names")]
    pub filters: Vec<String>,
    /// The peer is a client of the node as a route reflector (RFC 4456). Between nodes the label
    /// `margay.io/route-reflector` decides.
    #[serde(default)]
    pub reflector_client: bool,
    /// The peer is up to so many hops away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hops")]
    pub multihop: Option<u8>,
    /// The peer is up to so many hops away, and nobody farther gets a packet in (GTSM, RFC 5082). The peer
    /// must do the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hops")]
    pub ttl_security: Option<u8>,
    /// BFD beside the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// Another AS number to show to this peer (RFC 7705).
    #[serde(rename = "localAS", default, skip_serializing_if = "Option::is_none")]
    pub local_as: Option<LocalAs>,
    /// How often our AS may stand in the `AS_PATH` of the peer's routes.
    #[serde(rename = "allowOwnAS", default, skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "schema::octet")]
    pub allow_own_as: u8,
    /// The peer's own AS in `AS_PATH` is replaced by ours.
    #[serde(rename = "asOverride", default)]
    pub as_override: bool,
    /// What becomes of private AS numbers in `AS_PATH`.
    #[serde(rename = "privateAS", default)]
    #[schemars(schema_with = "schema::private_as")]
    pub private_as: PrivateAs,
    /// Several paths to one prefix (RFC 7911).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_path: Option<AddPath>,
    /// How restarts are bridged (RFC 4724).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// How many prefixes the peer may announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_limits: Option<PrefixLimits>,
    /// Keeps the session down; the peer reads this text (RFC 9003).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::shutdown")]
    pub shutdown: Option<String>,
    /// Asks the peer to prefer others (RFC 8326): before the session or the node goes.
    #[serde(default)]
    pub graceful_shutdown: bool,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4 unicast.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6 unicast.
    #[serde(rename = "IPv6")]
    V6,
}

/// Which own address a session has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceAddress {
    /// The node's, of the peer's family.
    #[default]
    #[serde(rename = "UseNodeIP")]
    UseNodeIp,
    /// The kernel's choice.
    None,
}

/// Which routes a peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Export {
    /// The node's own: a node is no transit.
    #[default]
    Own,
    /// Also what others told the node, as far as RFC 4271 §9.2 and RFC 4456 pass it on.
    All,
}

/// Which next hop a peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextHopMode {
    /// As BGP does: ourselves to eBGP peers, unchanged between iBGP peers.
    #[default]
    Auto,
    /// Always ourselves.
    #[serde(rename = "Self")]
    Own,
    /// Always what the route has.
    Keep,
}

/// What becomes of private AS numbers (RFC 6996) that an eBGP peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrivateAs {
    /// They stay.
    #[default]
    Keep,
    /// They are taken out.
    Remove,
    /// Ours stands there instead.
    Replace,
}

/// Another AS number to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalAs {
    /// It.
    #[schemars(schema_with = "schema::asn")]
    pub asn: u32,
    /// The real one is not shown beside it.
    #[serde(default)]
    pub hide_real: bool,
}

/// Several paths to one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AddPath {
    /// Take several from the peer.
    pub receive: bool,
    /// Tell it up to so many; 0 for the best alone.
    #[schemars(schema_with = "schema::octet")]
    pub send: u8,
}

/// Graceful restart of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GracefulRestart {
    /// Keep the peer's routes while it restarts, and ask the same of it.
    pub enabled: bool,
    /// Within how many seconds we are back, 1 to 4095; absent: `NetworkConfig`'s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::restart_time")]
    pub time_seconds: Option<u16>,
    /// Also after a NOTIFICATION or a hold timer (RFC 8538).
    pub notification: bool,
    /// How long stale routes are kept at the lowest preference afterwards (RFC 9494); absent: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::long_lived")]
    pub long_lived_seconds: Option<u32>,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            enabled: true,
            time_seconds: None,
            notification: false,
            long_lived_seconds: None,
        }
    }
}

/// Limits by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrefixLimits {
    /// Of IPv4 prefixes.
    #[serde(rename = "IPv4", default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<PrefixLimit>,
    /// Of IPv6 prefixes.
    #[serde(rename = "IPv6", default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<PrefixLimit>,
}

/// How many prefixes of a family a peer may announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrefixLimit {
    /// So many.
    #[schemars(schema_with = "schema::prefix_count")]
    pub max: u32,
    /// At how many percent of that the status warns.
    #[serde(default = "most")]
    #[schemars(schema_with = "schema::percent")]
    pub warn_percent: u8,
    /// What happens above.
    #[serde(default)]
    #[schemars(schema_with = "schema::limit_action")]
    pub action: LimitAction,
    /// With `TearDown`: when to try again; absent: when the limit is raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::prefix_count")]
    pub restart_after_seconds: Option<u32>,
}

/// What happens above a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitAction {
    /// The status says so.
    Warn,
    /// Further prefixes are not taken.
    Block,
    /// The session ends.
    #[default]
    TearDown,
}

const WHO: &str = "spec: say who the peer is, in one way: peerAddress (a router), peerSelector (other nodes, by their labels), or interface alone (the router on that link)";

fn most() -> u8 {
    75
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl BgpPeerSpec {
    /// A router at an address, with the usual settings.
    pub fn router(address: IpAddr, asn: u32) -> Self {
        Self {
            node_selector: None,
            peer_address: Some(address),
            peer_selector: None,
            peer_asn: Some(asn),
            port: None,
            interface: None,
            source_address: SourceAddress::default(),
            password: None,
            hold_time: None,
            passive: false,
            families: BTreeSet::new(),
            export: Export::default(),
            next_hop_mode: NextHopMode::default(),
            filters: Vec::new(),
            reflector_client: false,
            multihop: None,
            ttl_security: None,
            bfd: None,
            local_as: None,
            allow_own_as: 0,
            as_override: false,
            private_as: PrivateAs::default(),
            add_path: None,
            graceful_restart: None,
            prefix_limits: None,
            shutdown: None,
            graceful_shutdown: false,
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        match (self.peer_address, &self.peer_selector, self.peer_asn) {
            (Some(_), Some(_), _) => return Err(WHO.to_owned()),
            (None, None, _) if self.interface.is_none() => return Err(WHO.to_owned()),
            (_, None, None) => {
                return Err("spec.peerASN: the AS number of the router is missing".to_owned());
            }
            (Some(address), None, Some(_)) => self.check_address(address)?,
            (None, Some(_) | None, _) => {}
        }
        if self.peer_asn == Some(0) || self.local_as.is_some_and(|local| local.asn == 0) {
            return Err("spec: AS number 0 is reserved (RFC 7607)".to_owned());
        }
        if self.port == Some(0) {
            return Err("spec.port: use 1 to 65535".to_owned());
        }
        if matches!(self.hold_time, Some(1 | 2)) {
            return Err("spec.holdTime: use 0, or 3 and more".to_owned());
        }
        if self.multihop.is_some() && self.ttl_security.is_some() {
            return Err("spec.multihop: ttlSecurity says how many hops are allowed already: leave multihop out".to_owned());
        }
        if self.multihop == Some(0) || self.ttl_security == Some(0) {
            return Err("spec: hops are 1 (the same link) to 255".to_owned());
        }
        if let Some(password) = &self.password {
            password.check("spec.password")?;
        }
        if let Some(bfd) = self.bfd {
            bfd.check("spec.bfd")?;
        }
        if let Some(restart) = self.graceful_restart {
            restart.check()?;
        }
        let limits = self.prefix_limits.unwrap_or_default();
        if [limits.v4, limits.v6]
            .into_iter()
            .flatten()
            .any(|limit| !(1..=100).contains(&limit.warn_percent))
        {
            return Err("spec.prefixLimits: warnPercent is 1 to 100".to_owned());
        }
        Ok(())
    }

    fn check_address(&self, address: IpAddr) -> Result<(), String> {
        if address.is_unspecified() || address.is_multicast() {
            return Err(format!(
                "spec.peerAddress: {address} is no router's address"
            ));
        }
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if link_local && self.interface.is_none() {
            return Err(format!(
                "spec.interface: {address} is an address of a link: name the nodes' link to the peer"
            ));
        }
        Ok(())
    }
}

impl GracefulRestart {
    fn check(self) -> Result<(), String> {
        if self
            .time_seconds
            .is_some_and(|time| !(1..=4095).contains(&time))
        {
            return Err("spec.gracefulRestart.timeSeconds: use 1 to 4095".to_owned());
        }
        if self.long_lived_seconds.is_some_and(|time| time >= 1 << 24) {
            return Err("spec.gracefulRestart.longLivedSeconds: use at most 16777215".to_owned());
        }
        Ok(())
    }
}
