//! `NetworkConfig`: settings of the whole cluster, one object named `default`.

use ipnet::IpNet;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bgp::{Bfd, Community, PasswordSource};
use super::schema;

/// Settings; every one has a default.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "margay.io",
    version = "v1alpha1",
    kind = "NetworkConfig",
    plural = "networkconfigs",
    shortname = "netconf",
    category = "margay",
    doc = "Settings of the whole cluster; the one object is named default.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkConfigSpec {
    /// How nodes speak BGP.
    pub bgp: BgpSpec,
    /// Where pods' addresses come from: `Blocks` of the `IPPool`s, or `PodCIDRs` of the nodes. Absent:
    /// blocks if there is an `IPPool`, else `podCIDRs` on nodes that have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ipam_schema")]
    pub ipam: Option<IpamMode>,
    /// With `podCIDRs`: masquerade what pods send out of the cluster. An `IPPool` says so for itself.
    pub nat_outgoing: bool,
}

/// How nodes speak BGP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpSpec {
    /// AS number of the nodes.
    #[schemars(schema_with = "schema::asn")]
    pub asn: u32,
    /// Which nodes speak iBGP with each other: `Mesh`, all; `Reflectors`, each with the reflectors of its zone, and these
    /// among themselves; `Auto`, a mesh of up to 100 nodes and reflectors above; `None`, those that `BGPPeer`s name.
    #[schemars(schema_with = "topology_schema")]
    pub topology: Topology,
    /// Port to listen on, and to dial the other nodes at.
    #[schemars(schema_with = "schema::port")]
    pub port: u16,
    /// Hold time to propose, in seconds: 0, or at least 3 (RFC 4271 §4.2).
    #[schemars(schema_with = "schema::hold_time")]
    pub hold_time: u16,
    /// Within how many seconds a node's agent is back after a restart; peers forward on meanwhile (RFC 4724).
    #[schemars(schema_with = "schema::restart_time")]
    pub restart_time: u16,
    /// Signs the segments of sessions between nodes (TCP MD5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordSource>,
    /// BFD beside sessions between nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// Communities that own prefixes are announced with, by where they lie.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub announcements: Vec<Announcement>,
    /// Prefixes that a node announces as long as an own prefix lies inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub aggregates: Vec<Aggregate>,
    /// Ranges of Services, which every node announces: kube-proxy takes their traffic on any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub service_ranges: Vec<IpNet>,
}

/// Which nodes speak iBGP with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// Every node with every other.
    #[default]
    Mesh,
    /// Each with the reflectors of its zone.
    Reflectors,
    /// By the number of nodes.
    Auto,
    /// Nobody, unless `BGPPeer`s say so.
    None,
}

/// Communities of own prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Announcement {
    /// Own prefixes inside this one,
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: IpNet,
    /// are announced with these communities.
    #[serde(default)]
    #[schemars(schema_with = "schema::communities")]
    pub communities: Vec<Community>,
}

/// A prefix that stands for those inside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aggregate {
    /// It.
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: IpNet,
    /// Peers of other ASes are told no own prefix inside it any more. Nodes still tell each other, so that each passes
    /// on what it has not itself.
    #[serde(default)]
    pub suppress: bool,
    /// Communities that it is announced with.
    #[serde(default)]
    #[schemars(schema_with = "schema::communities")]
    pub communities: Vec<Community>,
}

impl Default for BgpSpec {
    fn default() -> Self {
        Self {
            asn: 64512,
            topology: Topology::default(),
            port: 179,
            hold_time: 90,
            restart_time: 120,
            password: None,
            bfd: None,
            announcements: Vec::new(),
            aggregates: Vec::new(),
            service_ranges: Vec::new(),
        }
    }
}

impl BgpSpec {
    fn check(&self) -> Result<(), String> {
        if self.asn == 0 {
            return Err("spec.bgp.asn: 0 is reserved (RFC 7607)".to_owned());
        }
        if self.port == 0 {
            return Err("spec.bgp.port: use 1 to 65535".to_owned());
        }
        if matches!(self.hold_time, 1 | 2) {
            return Err("spec.bgp.holdTime: use 0, or 3 and more".to_owned());
        }
        if !(1..=4095).contains(&self.restart_time) {
            return Err("spec.bgp.restartTime: use 1 to 4095".to_owned());
        }
        if let Some(password) = &self.password {
            password.check("spec.bgp.password")?;
        }
        self.bfd.map_or(Ok(()), |bfd| bfd.check("spec.bgp.bfd"))?;
        let announcements = self.announcements.iter().map(|one| one.cidr);
        let aggregates = self.aggregates.iter().map(|one| one.cidr);
        let mut ranges = announcements
            .chain(aggregates)
            .chain(self.service_ranges.iter().copied());
        match ranges.find(|cidr| cidr.trunc() != *cidr) {
            Some(cidr) => Err(format!(
                "spec.bgp: {cidr} has host bits set; write {}",
                cidr.trunc()
            )),
            None => Ok(()),
        }
    }
}

fn topology_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schema::choice(&["Mesh", "Reflectors", "Auto", "None"])
}

/// Where pods' addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpamMode {
    /// Blocks of the `IPPool`s, claimed by nodes as they need them.
    Blocks,
    /// `spec.podCIDRs` of the Node objects.
    #[serde(rename = "PodCIDRs")]
    PodCidrs,
}

fn ipam_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "self in ['Blocks', 'PodCIDRs']",
            "messageExpression": "'`' + self + '` is none of Blocks (of the IPPools), PodCIDRs (of the Node objects); leave ipam out to have it decided'",
        }],
    })
}

impl Default for NetworkConfigSpec {
    fn default() -> Self {
        Self {
            bgp: BgpSpec::default(),
            ipam: None,
            nat_outgoing: true,
        }
    }
}

impl NetworkConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if name != "default" {
            return Err(format!(
                "metadata.name: a NetworkConfig is named `default`, not `{name}`"
            ));
        }
        self.spec.bgp.check()
    }
}
