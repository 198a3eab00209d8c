//! Ways to next hops, as the owner of the kernel's routes sees them (RFC 4271 §9.1.2.1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::wire::NextHop;

/// How a next hop is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not at all: routes with it are not used.
    Unreachable,
    /// It is.
    Via {
        /// How far it is, in the terms of whatever set the route to it; less is better.
        metric: u32,
        /// The neighbours that packets to it are handed to; none if it is a neighbour itself.
        gateways: BTreeSet<IpAddr>,
    },
}

impl Reach {
    /// The number that paths are compared by.
    fn cost(&self) -> u32 {
        match self {
            Self::Unreachable => UNREACHABLE,
            Self::Via { metric, .. } => (*metric).min(UNREACHABLE - 1),
        }
    }
}

/// A neighbour, as far as anybody knows.
pub(super) const NEAR: Reach = Reach::Via {
    metric: 0,
    gateways: BTreeSet::new(),
};

/// The cost of a way that is none.
pub(crate) const UNREACHABLE: u32 = u32::MAX;

/// The next hops of all attributes in the table, while they are tracked.
#[derive(Debug, Default)]
pub(crate) struct Hops {
    known: BTreeMap<IpAddr, Hop>,
    /// Those that came or went since somebody asked.
    news: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Hop {
    /// Attributes that have it.
    holders: u32,
    reach: Reach,
}

impl Hops {
    /// Attributes with this next hop came; gives back what it costs to get there: for a new one what is `assumed`.
    pub(super) fn enter(&mut self, next_hop: NextHop, assumed: &Reach) -> u32 {
        let Some(address) = tracked(next_hop) else {
            return 0;
        };
        let hop = self.known.entry(address).or_insert_with(|| {
            self.news.insert(address);
            Hop {
                holders: 0,
                reach: assumed.clone(),
            }
        });
        hop.holders += 1;
        hop.reach.cost()
    }

    /// Attributes with this next hop went.
    pub(super) fn leave(&mut self, next_hop: NextHop) {
        if let Some(address) = tracked(next_hop)
            && let Some(hop) = self.known.get_mut(&address)
        {
            hop.holders -= 1;
            if hop.holders == 0 {
                self.known.remove(&address);
                self.news.insert(address);
            }
        }
    }

    /// Takes news of ways in; gives back the next hops whose cost, or whose gateways alone, are others now.
    pub(super) fn set(&mut self, reach: BTreeMap<IpAddr, Reach>) -> BTreeMap<IpAddr, u32> {
        let mut changed = BTreeMap::new();
        for (address, reach) in reach {
            if let Some(hop) = self.known.get_mut(&address)
                && hop.reach != reach
            {
                changed.insert(address, reach.cost());
                hop.reach = reach;
            }
        }
        changed
    }

    /// The neighbours that packets for a next hop go to.
    pub(crate) fn gateways(&self, next_hop: NextHop) -> Option<&BTreeSet<IpAddr>> {
        match &self.known.get(&tracked(next_hop)?)?.reach {
            Reach::Via { gateways, .. } => Some(gateways).filter(|gateways| !gateways.is_empty()),
            Reach::Unreachable => None,
        }
    }

    /// The next hops that came (`true`) or went since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<(IpAddr, bool)> {
        let news = std::mem::take(&mut self.news).into_iter();
        news.map(|address| (address, self.known.contains_key(&address)))
            .collect()
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = IpAddr> + use<'_> {
        self.known.keys().copied()
    }
}

/// The address that is tracked. Our own paths have none, and a link-local one is on the session's link.
fn tracked(next_hop: NextHop) -> Option<IpAddr> {
    let address = next_hop.address();
    let local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (!address.is_unspecified() && !local).then_some(address)
}
