//! Arithmetic of address blocks: holes are cut out, the rest is merged (DESIGN §3.2 rows 11 and 13).

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
