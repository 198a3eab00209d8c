//! Pools, and the choice of a block for a node.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Family;
use crate::family::{address, range};

/// Blocks of one family that one node may claim.
pub const MAX_BLOCKS_PER_NODE: usize = 20;

/// A range that is cut into blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Pool {
    cidr: IpNet,
    block_size: u8,
}

/// A pool that cannot be cut into such blocks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Blocks larger than the pool.
    #[error("blocks of /{block_size} are larger than the pool {cidr}: use {} or more", cidr.prefix_len())]
    TooLarge {
        /// The pool's range.
        cidr: IpNet,
        /// The size asked for.
        block_size: u8,
    },
    /// Blocks smaller than an address, or of so many addresses that a node could not manage them.
    #[error("blocks of /{block_size} are not possible in {cidr}: use {least} to {most}")]
    Unmanageable {
        /// The pool's range.
        cidr: IpNet,
        /// The size asked for.
        block_size: u8,
        /// Smallest prefix length of blocks of this family.
        least: u8,
        /// Greatest prefix length of blocks of this family.
        most: u8,
    },
}

/// No block can be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is no pool to take one from.
    #[error(
        "no enabled {0} pool is meant for this node: add an IPPool, or look at its nodeSelector and disabled"
    )]
    NoPool(Family),
    /// All blocks of all pools are taken.
    #[error("all {family} blocks of {pools} are claimed: add an IPPool")]
    Exhausted {
        /// The family.
        family: Family,
        /// The pools, for people.
        pools: String,
    },
    /// The node has as many as a node may have.
    #[error(
        "node {node} has {MAX_BLOCKS_PER_NODE} {family} blocks already, the most a node may have"
    )]
    TooMany {
        /// The node.
        node: String,
        /// The family.
        family: Family,
    },
}

impl Pool {
    /// A pool over `cidr` (masked), in blocks of prefix length `block_size`: 20–32 for IPv4, 116–128
    /// for IPv6, and not less than the pool's own.
    ///
    /// # Errors
    /// [`PoolError`] if there are no such blocks.
    pub fn new(cidr: IpNet, block_size: u8) -> Result<Self, PoolError> {
        let cidr = cidr.trunc();
        let most = Family::of_net(cidr).bits();
        let least = most - 12; // 4096 addresses
        if !(least..=most).contains(&block_size) {
            return Err(PoolError::Unmanageable {
                cidr,
                block_size,
                least,
                most,
            });
        }
        if block_size < cidr.prefix_len() {
            return Err(PoolError::TooLarge { cidr, block_size });
        }
        Ok(Self { cidr, block_size })
    }

    /// The usual size of blocks: 64 addresses, or the whole pool where that is smaller.
    pub fn default_block_size(cidr: IpNet) -> u8 {
        (Family::of_net(cidr).bits() - 6).max(cidr.prefix_len())
    }

    /// The range.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// Prefix length of its blocks.
    pub fn block_size(&self) -> u8 {
        self.block_size
    }

    /// The family.
    pub fn family(&self) -> Family {
        Family::of_net(self.cidr)
    }

    /// How many blocks it has; `u128::MAX` if more.
    pub fn blocks(&self) -> u128 {
        1_u128
            .checked_shl(u32::from(self.block_size - self.cidr.prefix_len()))
            .unwrap_or(u128::MAX)
    }

    /// Block number `index`, counted from the pool's first address.
    fn block(&self, index: u128) -> IpNet {
        let host_bits = u32::from(self.family().bits() - self.block_size);
        let first = range(self.cidr).0 + index.checked_shl(host_bits).unwrap_or(0);
        IpNet::new_assert(address(self.family(), first), self.block_size)
    }
}

/// Chooses a block of `family` for `node`.
///
/// `pools` are those that the node may use, in the order to try them in; `claims` are all claimed
/// blocks of the cluster and whose they are. Every node begins its search at a place of its own, a
/// hash of its name, so that the same node gets the same block where it is free, and nodes that ask at the
/// same time seldom meet. What overlaps a claim, also one of another size, is passed over.
///
/// # Errors
/// [`ClaimError`] if there is none.
pub fn claim(
    pools: &[Pool],
    claims: &BTreeMap<IpNet, String>,
    node: &str,
    family: Family,
) -> Result<IpNet, ClaimError> {
    let pools: Vec<Pool> = pools
        .iter()
        .copied()
        .filter(|pool| pool.family() == family)
        .collect();
    if pools.is_empty() {
        return Err(ClaimError::NoPool(family));
    }
    let mut taken: Vec<(u128, u128)> = Vec::new();
    let mut own = 0;
    for (block, owner) in claims {
        if Family::of_net(*block) == family {
            taken.push(range(*block));
            own += usize::from(owner == node);
        }
    }
    if own >= MAX_BLOCKS_PER_NODE {
        return Err(ClaimError::TooMany {
            node: node.to_owned(),
            family,
        });
    }
    let taken = merged(taken);
    pools
        .iter()
        .find_map(|pool| free_block(*pool, &taken, node))
        .ok_or_else(|| {
            let names: Vec<String> = pools.iter().map(|pool| pool.cidr.to_string()).collect();
            ClaimError::Exhausted {
                family,
                pools: names.join(", "),
            }
        })
}

/// The same ranges, sorted and without overlaps.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let overlap = next.0 <= kept.1;
        if overlap {
            kept.1 = kept.1.max(next.1);
        }
        overlap
    });
    ranges
}

/// The first free block of `pool`, from the node's own place on and around; `taken` is sorted and
/// free of overlaps.
fn free_block(pool: Pool, taken: &[(u128, u128)], node: &str) -> Option<IpNet> {
    let blocks = pool.blocks();
    // Not all over a /56: addresses that people can read are worth more than rare collisions.
    let start = u128::from(hash(node)) % blocks.min(1 << 20);
    let mut index = start;
    loop {
        let block = pool.block(index);
        let (first, last) = range(block);
        // The last range that begins at or before our last address tells.
        let before = taken.partition_point(|claim| claim.0 <= last);
        if before == 0 || taken[before - 1].1 < first {
            return Some(block);
        }
        index = (index + 1) % blocks;
        if index == start {
            return None;
        }
    }
}

/// FNV-1a with a final mix: must give the same on every machine and in every version.
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// [`Pool`] as it is written down.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Unchecked {
    cidr: IpNet,
    block_size: u8,
}

impl TryFrom<Unchecked> for Pool {
    type Error = PoolError;

    fn try_from(pool: Unchecked) -> Result<Self, PoolError> {
        Self::new(pool.cidr, pool.block_size)
    }
}

impl From<Pool> for Unchecked {
    fn from(pool: Pool) -> Self {
        let Pool { cidr, block_size } = pool;
        Self { cidr, block_size }
    }
}

#[cfg(test)]
mod tests;
