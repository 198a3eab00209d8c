//! `IPPool`: a range that pods get their addresses from.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use margay_ipam::pool::Pool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Settings.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "margay.io",
    version = "v1alpha1",
    kind = "IPPool",
    root = "IpPool",
    plural = "ippools",
    shortname = "pool",
    category = "margay",
    doc = "A range that pods get their addresses from, cut into blocks that nodes claim.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.cidr == oldSelf.cidr",
        "message": "cidr cannot be changed, pods have addresses of it: make another IPPool with the new range and set disabled: true here",
    },
    {
        "rule": "!isCIDR(self.cidr) || !has(self.blockSize) || self.blockSize >= cidr(self.cidr).prefixLength()",
        "messageExpression": "'blockSize: the blocks are larger than the pool ' + self.cidr + ': use its length or more'",
    },
    {
        "rule": "!isCIDR(self.cidr) || !has(self.blockSize) || (cidr(self.cidr).ip().family() == 4 ? self.blockSize >= 20 && self.blockSize <= 32 : self.blockSize >= 116 && self.blockSize <= 128)",
        "messageExpression": "'blockSize: such blocks are not possible in ' + self.cidr + ': use ' + (cidr(self.cidr).ip().family() == 4 ? '20 to 32' : '116 to 128')",
    },
    {
        "rule": "!isCIDR(self.cidr) || has(self.blockSize) || cidr(self.cidr).prefixLength() <= (cidr(self.cidr).ip().family() == 4 ? 26 : 122)",
        "messageExpression": "'blockSize: the usual blocks of ' + (cidr(self.cidr).ip().family() == 4 ? '/26' : '/122') + ' are larger than the pool ' + self.cidr + ': set blockSize to its length or more'",
    },
]))]
pub struct IpPoolSpec {
    /// The range, in CIDR notation.
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: IpNet,
    /// Prefix length of the blocks that nodes claim: 20 to 32, or 116 to 128 for IPv6; absent: 26 and 122.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::block_size")]
    pub block_size: Option<u8>,
    /// Masquerade what the pool's pods send out of all pools.
    #[serde(default)]
    pub nat_outgoing: bool,
    /// Hand out nothing new.
    #[serde(default)]
    pub disabled: bool,
    /// The nodes that may take blocks; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub node_selector: Option<LabelSelector>,
    /// The namespaces whose pods get addresses of the pool; absent: those that no pool of the family selects. A pod of a
    /// namespace that one pool selects, or several, gets its address of these alone: if they are full, disabled, or not
    /// for its node, it waits. Pods that have an address keep it when this, or a namespace's labels, change. Without
    /// meaning where nodes take addresses from their podCIDRs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::selector")]
    pub namespace_selector: Option<LabelSelector>,
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
