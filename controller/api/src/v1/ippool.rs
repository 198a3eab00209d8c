//! `IPPool`: a range that pods get their addresses from.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use margay_ipam::pool::Pool;
use serde::{Deserialize, Serialize};

/// A range that pods get their addresses from. Cluster-scoped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpPool {
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// The settings.
    pub spec: IpPoolSpec,
}

/// Settings of an [`IpPool`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpPoolSpec {
    /// The range.
    pub cidr: IpNet,
    /// Prefix length of the blocks that nodes claim; absent: 26 for IPv4, 122 for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// Masquerade what the pool's pods send out of all pools.
    #[serde(default)]
    pub nat_outgoing: bool,
    /// Hand out nothing new.
    #[serde(default)]
    pub disabled: bool,
    /// The nodes that may take blocks; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
}

impl IpPoolSpec {
    /// Prefix length of the blocks, with its default.
    pub fn block_prefix(&self) -> u8 {
        self.block_size.unwrap_or(match self.cidr {
            IpNet::V4(_) => 26,
            IpNet::V6(_) => 122,
        })
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.cidr.trunc() != self.cidr {
            return Err(format!(
                "spec.cidr: {} has host bits set; write {}",
                self.cidr,
                self.cidr.trunc()
            ));
        }
        let block = self.block_prefix();
        let (least, most) = (self.cidr.prefix_len(), self.cidr.max_prefix_len());
        if block < least || block > most {
            return Err(format!(
                "spec.blockSize: blocks of /{block} do not fit {}: use /{least} to /{most}",
                self.cidr
            ));
        }
        match Pool::new(self.cidr, block) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("spec.blockSize: {error}")),
        }
    }
}
