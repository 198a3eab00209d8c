//! Where an address, or a block, is to come from.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::Family;

/// Pools of one family, any of which will do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    family: Family,
    pools: BTreeSet<IpNet>,
}

impl Source {
    /// Those of `pools` that are of `family`.
    pub fn new(family: Family, pools: impl IntoIterator<Item = IpNet>) -> Self {
        let pools = pools.into_iter();
        Self {
            family,
            pools: pools
                .filter(|pool| Family::of_net(*pool) == family)
                .collect(),
        }
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The ranges of the pools.
    pub fn pools(&self) -> &BTreeSet<IpNet> {
        &self.pools
    }

    /// Whether a block is of one of the pools.
    pub fn covers(&self, block: IpNet) -> bool {
        self.pools.iter().any(|pool| pool.contains(&block))
    }
}
