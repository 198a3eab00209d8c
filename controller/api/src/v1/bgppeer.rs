//! `BGPPeer`: a router that nodes speak BGP with.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

/// A router that nodes speak BGP with. Cluster-scoped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BgpPeer {
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// The settings.
    pub spec: BgpPeerSpec,
}

/// Settings of a [`BgpPeer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerSpec {
    /// Its address.
    pub peer_address: IpAddr,
    /// Its AS number, 1–4294967295; equal to ours for iBGP.
    #[serde(rename = "peerASN")]
    pub peer_asn: u32,
    /// Its port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The nodes that speak with it; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
