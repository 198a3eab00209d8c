//! What a node needs besides policy: its addresses, pools, blocks and BGP peers.
//!
//! Values in, values out.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use margay_api::convert::{self, Warnings};
use margay_api::v1::{BgpFilter, BgpPeer, IpPool, IpamMode, NetworkConfigSpec};
use margay_policy::model::{LabelSelector, Labels, Node, NodeName};
use margay_policy::selector::{Selection, labels_match};
use margay_sync::message::NodeNetwork;
use margay_sync::status::{BlockStatus, IpamPage, NodeStatus, PoolStatus};

mod config;
mod filters;
mod peers;
mod pools;
mod tenants;
mod topology;

pub use peers::{Plan, Secrets};
pub use pools::{Pool, are_for_namespaces, overlapping, pools};
pub use tenants::Tenants;

/// The objects and claims that nodes' networks depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// `IPPool` objects by name; without any, [`pools`] gives the usual two.
    pub pools: BTreeMap<String, IpPool>,
    /// `BGPPeer` objects by name.
    pub peers: BTreeMap<String, BgpPeer>,
    /// `BGPFilter` objects by name.
    pub filters: BTreeMap<String, BgpFilter>,
    /// Passwords in Secrets of our own namespace.
    pub secrets: Secrets,
    /// The `NetworkConfig`.
    pub config: NetworkConfigSpec,
    /// Claimed blocks and whose they are.
    pub claims: BTreeMap<IpNet, NodeName>,
    /// What else the `Node` objects say.
    pub facts: BTreeMap<NodeName, Facts>,
    /// Namespaces, and which nodes have pods of them.
    pub tenants: Arc<Tenants>,
}

/// What a `Node` object says besides labels and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `metadata.uid`; empty if it has none.
    pub uid: String,
    /// `spec.podCIDRs` that are such.
    pub pod_cidrs: Vec<IpNet>,
    /// The condition `NetworkUnavailable` is set: nobody has said yet that there is a network.
    pub unavailable: bool,
}

impl Facts {
    /// Of an object.
    pub fn of(node: &k8s_openapi::api::core::v1::Node) -> Self {
        let spec = node.spec.as_ref();
        let listed = spec.and_then(|spec| spec.pod_cidrs.as_deref());
        let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let texts = match listed {
            Some(listed) if !listed.is_empty() => listed,
            Some(_) | None => single.map(std::slice::from_ref).unwrap_or_default(),
        };
        let conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        Self {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            pod_cidrs: texts
                .iter()
                .filter_map(|text| convert::block(text).ok())
                .collect(),
            unavailable: conditions.into_iter().any(|condition| {
                condition.type_ == "NetworkUnavailable" && condition.status != "False"
            }),
        }
    }
}

/// The `podCIDRs` that a node takes its addresses from; none if it takes them from blocks.
///
/// `NetworkConfig` decides; if it does not, blocks are used once there is an `IPPool`.
pub fn pod_cidrs<'a>(inputs: &'a Inputs, node: &NodeName) -> &'a [IpNet] {
    let used = match inputs.config.ipam {
        Some(IpamMode::Blocks) => false,
        Some(IpamMode::PodCidrs) => true,
        None => inputs.pools.is_empty(),
    };
    let facts = inputs.facts.get(node).filter(|_| used);
    facts
        .map(|facts| facts.pod_cidrs.as_slice())
        .unwrap_or_default()
}

/// Whether a node is to take its addresses from `podCIDRs` and has none yet.
///
/// Where other nodes have them, so will this one: a block that it claimed meanwhile could lie in what another node is given
/// next.
pub fn lacks_pod_cidrs(inputs: &Inputs, node: &NodeName) -> bool {
    let has = |node: &NodeName| !pod_cidrs(inputs, node).is_empty();
    let meant = match inputs.config.ipam {
        Some(IpamMode::Blocks) => false,
        Some(IpamMode::PodCidrs) => true,
        None => inputs.nodes.keys().any(has),
    };
    meant && !has(node)
}

/// Every block in use and whose it is: claimed ones, and nodes' `podCIDRs` where those are used.
pub fn blocks(inputs: &Inputs) -> BTreeMap<IpNet, NodeName> {
    let mut blocks = inputs.claims.clone();
    for node in inputs.nodes.keys() {
        for cidr in pod_cidrs(inputs, node) {
            blocks.insert(*cidr, node.clone());
        }
    }
    blocks
}

/// What the network's objects contradict in each other, or lack: kind, name, and a sentence.
pub fn problems(inputs: &Inputs) -> Vec<(&'static str, String, String)> {
    let pools = pools::problems(inputs).into_iter();
    let pools = pools.map(|(name, note)| ("IPPool", name, note));
    let config = config::problems(inputs).into_iter();
    let config = config.map(|note| ("NetworkConfig", "default".to_owned(), note));
    pools.chain(config).chain(peers::problems(inputs)).collect()
}

/// What `name` needs; `None` if there is no such node. `plan` is of the same inputs.
pub fn network(inputs: &Inputs, plan: &Plan<'_>, name: &NodeName) -> Option<NodeNetwork> {
    let node = inputs.nodes.get(name)?;
    let own = pod_cidrs(inputs, name);
    let claimed = inputs.claims.iter().filter(|(_, owner)| *owner == name);
    let blocks = claimed.map(|(block, _)| *block).chain(own.iter().copied());
    Some(NodeNetwork {
        node: name.clone(),
        addresses: node.addresses.clone(),
        pools: pools::of_node(inputs, name, node, own),
        namespaces: pools::namespaces(inputs, name, own),
        blocks: blocks.collect(),
        bgp: peers::bgp(inputs, plan, name, node),
    })
}

/// A selector of nodes or namespaces; what is wrong with it was told when its object was read.
fn selector(object: &ApiSelector) -> LabelSelector {
    convert::label_selector(object, "", &mut Warnings::default())
}

/// Whether a selector of nodes or namespaces selects these labels; without one all are.
fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    selector.is_none_or(|selector| labels_match(selector, labels) == Selection::Yes)
}

/// Pools and blocks with their use, for people.
pub fn ipam_page(inputs: &Inputs, reports: &BTreeMap<NodeName, &NodeStatus>) -> IpamPage {
    let mut page = IpamPage::default();
    for (block, node) in &blocks(inputs) {
        let used = reports
            .get(node)
            .and_then(|status| status.blocks.get(block));
        let host_bits = u32::from(block.max_prefix_len() - block.prefix_len());
        page.blocks.insert(
            *block,
            BlockStatus {
                node: node.clone(),
                size: 1_u64.checked_shl(host_bits).unwrap_or(u64::MAX),
                used: used.copied(),
            },
        );
    }
    let nodes_use_blocks = inputs
        .nodes
        .keys()
        .any(|node| pod_cidrs(inputs, node).is_empty());
    let pools = if inputs.pools.is_empty() && !inputs.nodes.is_empty() && !nodes_use_blocks {
        Vec::new()
    } else {
        pools(inputs)
    };
    for pool in pools {
        let cidr = pool.pool.cidr();
        let inside = page
            .blocks
            .iter()
            .filter(|(block, _)| cidr.contains(*block));
        let (mut claimed, mut used) = (0, 0);
        for (_, block) in inside {
            claimed += 1;
            used += u64::from(block.used.unwrap_or_default());
        }
        page.pools.push(PoolStatus {
            cidr,
            block_size: pool.pool.block_size(),
            disabled: pool.disabled,
            namespaces: pool.namespaces(inputs.tenants.known()),
            overlaps: pool.overlaps,
            nat_outgoing: pool.nat_outgoing,
            blocks: u64::try_from(pool.pool.blocks()).unwrap_or(u64::MAX),
            claimed,
            used,
        });
    }
    page.pools.sort_by_key(|pool| pool.cidr);
    page
}

#[cfg(test)]
mod tests;
