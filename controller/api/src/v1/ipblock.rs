//! `IPBlock`: a block of a pool and the node that has it. Made by the controller; to create it is the claim.

use std::net::IpAddr;

use ipnet::IpNet;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Content.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "margay.io",
    version = "v1alpha1",
    kind = "IPBlock",
    root = "IpBlock",
    plural = "ipblocks",
    shortname = "ipb",
    category = "margay",
    doc = "A block of addresses and the node that has it. Written by margay-controller alone; its name says its range.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self == oldSelf",
    "message": "a claim is not changed: delete the IPBlock to release it, once no pod of the node uses it",
}]))]
pub struct IpBlockSpec {
    /// The block's range.
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: IpNet,
    /// The node that has it.
    #[schemars(schema_with = "node_schema")]
    pub node: String,
}

fn node_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 253,
        "x-kubernetes-validations": [{
            "rule": "size(self) > 0",
            "message": "the node is missing: write the name of the Node object that has the block",
        }],
    })
}

impl IpBlock {
    /// The claim of `cidr` by `node`.
    pub fn claim(cidr: IpNet, node: &str) -> Self {
        let spec = IpBlockSpec {
            cidr,
            node: node.to_owned(),
        };
        Self::new(&name_of(cidr), spec)
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let IpBlockSpec { cidr, node } = &self.spec;
        if cidr.trunc() != *cidr {
            return Err(format!(
                "spec.cidr: {cidr} has host bits set; write {}",
                cidr.trunc()
            ));
        }
        let (name, right) = (self.metadata.name.as_deref(), name_of(*cidr));
        if name != Some(right.as_str()) {
            return Err(format!(
                "metadata.name: the IPBlock of {cidr} is named `{right}`: to have one name each keeps two nodes from one block"
            ));
        }
        if node.is_empty() {
            return Err("spec.node: the name of a Node object is missing".to_owned());
        }
        Ok(())
    }
}

/// The name of the object that claims `cidr`: its address and length joined by hyphens, all groups of an
/// IPv6 address written out, so that a range has one name and the name is one that objects may have.
pub fn name_of(cidr: IpNet) -> String {
    let address = match cidr.addr() {
        IpAddr::V4(address) => address.octets().map(|octet| octet.to_string()).join("-"),
        IpAddr::V6(address) => address
            .segments()
            .map(|group| format!("{group:x}"))
            .join("-"),
    };
    format!("{address}-{}", cidr.prefix_len())
}

#[cfg(test)]
mod tests;
