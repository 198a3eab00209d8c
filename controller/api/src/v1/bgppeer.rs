//! `BGPPeer`: a router that nodes speak BGP with.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Settings.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "margay.io",
    version = "v1alpha1",
    kind = "BGPPeer",
    root = "BgpPeer",
    plural = "bgppeers",
    category = "margay",
    doc = "A router that nodes speak BGP with.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerSpec {
    /// The router's address.
    #[schemars(schema_with = "schema::router_address")]
    pub peer_address: IpAddr,
    /// Its AS number, 1 to 4294967295; equal to ours for iBGP.
    #[serde(rename = "peerASN")]
    #[schemars(schema_with = "schema::asn")]
    pub peer_asn: u32,
    /// Its port.
    #[serde(default = "default_port")]
    #[schemars(schema_with = "schema::port")]
    pub port: u16,
    /// The nodes that speak with it; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub node_selector: Option<LabelSelector>,
}

fn default_port() -> u16 {
    179
}

impl BgpPeerSpec {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.peer_asn == 0 {
            return Err("spec.peerASN: 0 is reserved (RFC 7607)".to_owned());
        }
        if self.port == 0 {
            return Err("spec.port: use 1 to 65535".to_owned());
        }
        Ok(())
    }
}
