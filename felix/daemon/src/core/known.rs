//! What the controller said of pods and node, and how far the kernel is with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use margay_dataplane::local::Nat;
use margay_ipam::Source;
use margay_policy::model::PodId;
use margay_policy::node_policy::Endpoint;
use margay_sync::message::{NodeNetwork, NodeState, Revision};
use margay_sync::status::Drift;

/// What is known of the world.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(super) endpoints: BTreeMap<PodId, Endpoint>,
    pub(super) network: Option<Arc<NodeNetwork>>,
    /// Claimed, but not told of by the stream yet.
    pub(super) claimed: BTreeSet<IpNet>,
    /// Of the snapshot on disk.
    pub(super) snapshot: Option<Revision>,
    pub(super) received: Option<Revision>,
    pub(super) realised: Option<Revision>,
    /// How many times the controller told of changes.
    pub(super) told: u64,
    /// Up to which of them the kernel has them.
    pub(super) done: u64,
    pub(super) drift: Vec<Drift>,
    /// Why blocks cannot be claimed.
    pub(super) claim_failures: BTreeMap<Source, String>,
    /// Why the kernel has not the rules that it should have.
    pub(super) trouble: Option<String>,
}

impl Known {
    /// What the snapshot on disk says.
    pub(crate) fn from_snapshot(state: &NodeState, revision: Option<Revision>) -> Self {
        Self {
            endpoints: state.policy.endpoints.clone(),
            network: state.network.clone().map(Arc::new),
            snapshot: revision.clone(),
            received: revision,
            trouble: Some("the rules are not in the kernel yet".to_owned()),
            ..Self::default()
        }
    }

    /// The kernel has everything up to the `number`th time that the controller told something. News of an earlier time may
    /// come later: it says nothing new.
    pub(super) fn realise(&mut self, number: u64, revision: Option<Revision>) {
        if number >= self.done {
            self.done = number;
            self.realised = revision;
        }
    }

    /// The node's blocks.
    pub(crate) fn blocks(&self) -> BTreeSet<IpNet> {
        let known = self.network.iter().flat_map(|network| &network.blocks);
        known.chain(&self.claimed).copied().collect()
    }

    /// Aggregates that we announce while we have a block inside. Who announces one discards what nobody has of it (RFC
    /// 4632 §5.1): by a default route it would come back. Not where Services have addresses: the node's own processes
    /// need a route to those.
    pub(crate) fn aggregates(&self) -> BTreeSet<IpNet> {
        let Some(bgp) = self.network.as_ref().map(|network| &network.bgp) else {
            return BTreeSet::new();
        };
        let blocks = self.blocks();
        let aggregates = bgp.aggregates.keys().filter(|aggregate| {
            let inside = |prefix: &IpNet| aggregate.contains(prefix);
            blocks.iter().any(inside) && !bgp.services.iter().any(inside)
        });
        aggregates.copied().collect()
    }

    /// Blocks that new addresses come from: those of pools that the node may use.
    pub(super) fn usable_blocks(&self) -> BTreeSet<IpNet> {
        let pools: Vec<&IpNet> = self
            .network
            .iter()
            .flat_map(|network| &network.pools)
            .filter(|pool| pool.usable)
            .map(|pool| &pool.cidr)
            .collect();
        let mut blocks = self.blocks();
        blocks.retain(|block| pools.iter().any(|pool| pool.contains(block)));
        blocks
    }

    /// Those that are subnets to others: the node's `podCIDRs`.
    pub(super) fn subnets(&self) -> BTreeSet<IpNet> {
        let pools = self.network.iter().flat_map(|network| &network.pools);
        pools
            .filter(|pool| pool.subnet)
            .map(|pool| pool.cidr)
            .collect()
    }
}

/// What to masquerade, and which destinations are nobody's.
pub(crate) fn nat(network: Option<&NodeNetwork>) -> Nat {
    let pools = network
        .map(|network| network.pools.as_slice())
        .unwrap_or_default();
    Nat {
        sources: pools
            .iter()
            .filter(|pool| pool.nat_outgoing)
            .map(|pool| pool.cidr)
            .collect(),
        pools: pools.iter().map(|pool| pool.cidr).collect(),
        services: network
            .map(|network| network.bgp.services.clone())
            .unwrap_or_default(),
    }
}
