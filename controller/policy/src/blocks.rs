//! Arithmetic of address blocks: holes are cut out, the rest is merged (DESIGN §3.2 rows 11 and 13).

use std::net::IpAddr;

use ipnet::IpNet;

#[cfg(test)]
mod tests;

/// `block` without `holes`: disjoint blocks.
pub(crate) fn subtract(block: IpNet, holes: &[IpNet]) -> Vec<IpNet> {
    let block = block.trunc();
    if holes.iter().any(|hole| hole.contains(&block)) {
        return Vec::new();
    }
    // Only a hole inside the block can still cut it.
    let inside: Vec<IpNet> = holes
        .iter()
        .filter(|hole| block.contains(*hole))
        .copied()
        .collect();
    if inside.is_empty() {
        return vec![block];
    }
    let halves = block.subnets(block.prefix_len() + 1);
    halves
        .into_iter()
        .flatten()
        .flat_map(|half| subtract(half, &inside))
        .collect()
}

/// The same addresses in the fewest blocks: sorted, disjoint.
pub(crate) fn merge(blocks: &[IpNet]) -> Vec<IpNet> {
    let mut merged = IpNet::aggregate(&blocks.to_vec());
    merged.sort();
    merged
}

/// Whether one of these blocks, sorted and disjoint, has the address.
pub(crate) fn contains(blocks: &[IpNet], address: IpAddr) -> bool {
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
        return false;
    };
    // Most addresses are far from most lists.
    if address < first.network() || address > last.broadcast() {
        return false;
    }
    let after = blocks.partition_point(|block| block.network() <= address);
    let near = after.checked_sub(1).and_then(|near| blocks.get(near));
    near.is_some_and(|block| block.contains(&address))
}
