//! What a `NetworkConfig` says that its schema cannot judge, since it depends on other objects.

use std::collections::BTreeSet;

use ipnet::IpNet;
use margay_api::v1::IpamMode;

use super::{Inputs, pools};

/// Names to give in a sentence.
const NAMED: usize = 3;

/// The ranges of Services that every node announces: those that take no pod's and no node's address away.
pub(super) fn service_ranges(inputs: &Inputs) -> BTreeSet<IpNet> {
    let ranges = inputs.config.bgp.service_ranges.iter().copied();
    ranges
        .filter(|range| in_the_way(inputs, *range).is_none())
        .collect()
}

/// What contradicts other objects, as sentences.
pub(super) fn problems(inputs: &Inputs) -> Vec<String> {
    let mut problems = Vec::new();
    for (n, range) in inputs.config.bgp.service_ranges.iter().enumerate() {
        if let Some(other) = in_the_way(inputs, *range) {
            problems.push(format!("spec.bgp.serviceRanges[{n}]: {range} overlaps {other}, so it is not announced: write the API server's --service-cluster-ip-range, or a range of LoadBalancer addresses"));
        }
    }
    let facts = |name| inputs.facts.get(name);
    let without = inputs
        .nodes
        .keys()
        .filter(|name| facts(name).is_none_or(|facts| facts.pod_cidrs.is_empty()));
    let without: Vec<&str> = without.map(|name| name.0.as_str()).collect();
    if inputs.config.ipam == Some(IpamMode::PodCidrs) && !without.is_empty() {
        let named = without[..without.len().min(NAMED)].join(", ");
        let more = without.len().saturating_sub(NAMED);
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        problems.push(format!("spec.ipam: PodCIDRs, but these nodes have no spec.podCIDRs: {named}{more}; their pods get no addresses: start kube-controller-manager with --allocate-node-cidrs, or write Blocks"));
    }
    problems
}

/// What a range of Services overlaps.
fn in_the_way(inputs: &Inputs, range: IpNet) -> Option<String> {
    let overlap = |other: IpNet| range.contains(&other) || other.contains(&range);
    let addresses = inputs.nodes.iter().find_map(|(name, node)| {
        let mut addresses = node.addresses.iter();
        let address = addresses.find(|address| range.contains(*address))?;
        Some(format!("{address}, the address of node {name}"))
    });
    let pool = || {
        if inputs.pools.is_empty() {
            return None;
        }
        let mut ranges = pools(inputs).into_iter().map(|pool| pool.pool.cidr());
        let pool = ranges.find(|pool| overlap(*pool))?;
        Some(format!("the pool {pool} of pods"))
    };
    let block = || {
        let claimed = inputs.claims.iter().map(|(block, node)| (*block, node));
        // Also where they are not used now: pods may have addresses of them from before.
        let own = inputs.facts.iter().flat_map(|(node, facts)| {
            let cidrs = facts.pod_cidrs.iter();
            cidrs.map(move |cidr| (*cidr, node))
        });
        let (block, node) = claimed.chain(own).find(|(block, _)| overlap(*block))?;
        Some(format!(
            "{block}, where pods of node {node} have their addresses"
        ))
    };
    addresses.or_else(pool).or_else(block)
}

#[cfg(test)]
mod tests;
