//! `NetworkConfig`: settings of the whole cluster, one object named `default`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Settings of the whole cluster. Cluster-scoped; only the one named `default` counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// The settings.
    #[serde(default)]
    pub spec: NetworkConfigSpec,
}

/// Settings of a [`NetworkConfig`]; every one has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkConfigSpec {
    /// AS number of the nodes.
    pub asn: u32,
    /// Every node speaks iBGP with every other.
    pub node_mesh: bool,
    /// Port to listen on, and to dial the other nodes at.
    pub bgp_port: u16,
    /// Hold time to propose, in seconds: 0, or at least 3 (RFC 4271 §4.2).
    pub hold_time: u16,
}

impl Default for NetworkConfigSpec {
    fn default() -> Self {
        Self {
            asn: 64512,
            node_mesh: true,
            bgp_port: 179,
            hold_time: 90,
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
