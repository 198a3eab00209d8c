//! `NetworkConfig`: settings of the whole cluster, one object named `default`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// AS number of the nodes.
    #[schemars(schema_with = "schema::asn")]
    pub asn: u32,
    /// Every node speaks iBGP with every other.
    pub node_mesh: bool,
    /// Port to listen on, and to dial the other nodes at.
    #[schemars(schema_with = "schema::port")]
    pub bgp_port: u16,
    /// Hold time to propose, in seconds: 0, or at least 3 (RFC 4271 §4.2).
    #[schemars(schema_with = "schema::hold_time")]
    pub hold_time: u16,
    /// Where pods' addresses come from: `Blocks` of the `IPPool`s, or `PodCIDRs` of the nodes. Absent:
    /// blocks if there is an `IPPool`, else `podCIDRs` on nodes that have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ipam_schema")]
    pub ipam: Option<IpamMode>,
    /// With `podCIDRs`: masquerade what pods send out of the cluster. An `IPPool` says so for itself.
    pub nat_outgoing: bool,
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
            asn: 64512,
            node_mesh: true,
            bgp_port: 179,
            hold_time: 90,
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
        if self.spec.asn == 0 {
            return Err("spec.asn: 0 is reserved (RFC 7607)".to_owned());
        }
        if self.spec.bgp_port == 0 {
            return Err("spec.bgpPort: use 1 to 65535".to_owned());
        }
        if matches!(self.spec.hold_time, 1 | 2) {
            return Err("spec.holdTime: use 0, or 3 and more".to_owned());
        }
        Ok(())
    }
}
