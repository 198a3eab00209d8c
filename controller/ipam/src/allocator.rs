//! Addresses inside a node's own blocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::family::{address, number, range};
use crate::{Family, Source};

/// As many addresses of a block are handed out: a node's IPv6 `podCIDR` is often a /64, and what is
/// remembered of released addresses must have a bound.
const LARGEST: u64 = 1 << 16;

/// Who holds addresses: one attachment, written `container id/interface`, also as a JSON string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle {
    /// The runtime's id of the sandbox.
    pub container: String,
    /// The interface's name inside it.
    pub interface: String,
}

/// Hands out addresses of a node's blocks.
///
/// Every address of a block is used, also its first and last: pods have /32 and /128 addresses, so
/// there is no subnet whose ends would mean anything. Only of those named to [`Self::set_subnets`] the ends are left out. Addresses never used come first, in order;
/// then the one that was released longest ago. A released address rests for the cool-down before it is
/// handed out again. Time is an argument, in seconds of any clock that goes on over restarts. The
/// whole value can be written down and read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocator {
    /// Seconds that a released address rests.
    cool_down: u64,
    blocks: BTreeMap<IpNet, Block>,
    /// Every address in use, inside and outside of the blocks.
    holders: BTreeMap<IpAddr, Handle>,
}

/// What is known of a block besides the addresses in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    /// Addresses before this one have had their turn; those after it may only have been asked for
    /// by name.
    fresh: u64,
    /// Released addresses and when, longest ago first.
    freed: VecDeque<(IpAddr, u64)>,
    /// Whether it is a subnet to others, so that its ends are not handed out.
    #[serde(default)]
    subnet: bool,
}

/// No address, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// The node has no block of the source.
    #[error("the node has no {0} block yet that this pod may use")]
    NoBlock(Family),
    /// All addresses of all blocks are in use.
    #[error("all {size} addresses of the node's {family} blocks that this pod may use are in use")]
    Exhausted {
        /// The family.
        family: Family,
        /// Addresses in the blocks of the source.
        size: u64,
    },
    /// All free addresses were released too short a time ago.
    #[error(
        "all free {family} addresses were released a short while ago; the first may be used again in {wait} s"
    )]
    CoolingDown {
        /// The family.
        family: Family,
        /// Seconds until the first is ready.
        wait: u64,
    },
    /// The very address that was asked for is in use.
    #[error("{address} is in use by {holder}")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: Handle,
    },
}

/// Where a specific address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a block of the node: the block's route covers it.
    Block(IpNet),
    /// Outside of them: it needs a host route of its own.
    Outside,
}

impl Allocator {
    /// Without blocks; released addresses rest for `cool_down` seconds.
    pub fn new(cool_down: u64) -> Self {
        Self {
            cool_down,
            ..Self::default()
        }
    }

    /// Says which blocks the node has now.
    ///
    /// Addresses in use are kept whatever happens: those in a block that is gone lie outside from
    /// now on, those in a new block lie inside. Of a block of more than 65,536 addresses, which no pool has but a
    /// node's `podCIDRs` may be, only that many are handed out.
    pub fn set_blocks(&mut self, blocks: &BTreeSet<IpNet>) {
        self.blocks.retain(|block, _| blocks.contains(block));
        for block in blocks {
            self.blocks.entry(block.trunc()).or_default();
        }
    }

    /// Says which of the blocks are subnets in others' eyes, as the nodes' `podCIDRs` are to clouds and to
    /// who came from another network plugin: their first address and, of IPv4, their last are not handed out.
    pub fn set_subnets(&mut self, subnets: &BTreeSet<IpNet>) {
        for (net, block) in &mut self.blocks {
            block.subnet = subnets.contains(net);
            if block.subnet {
                let span = block.span(*net);
                block
                    .freed
                    .retain(|(address, _)| holds(*net, &span, *address));
            }
        }
    }

    /// Gives `handle` an address of a block of `source`; the one of that family that it has, if it has one.
    ///
    /// # Errors
    /// [`AssignError`], never [`AssignError::Taken`].
    pub fn assign(
        &mut self,
        handle: &Handle,
        source: &Source,
        now: u64,
    ) -> Result<IpAddr, AssignError> {
        let family = source.family();
        let held = self
            .holders
            .iter()
            .find(|(address, holder)| Family::of(**address) == family && *holder == handle);
        if let Some((address, _)) = held {
            return Ok(*address);
        }
        let address = match self.take_fresh(source) {
            Some(address) => address,
            None => self.take_freed(source, now)?,
        };
        self.holders.insert(address, handle.clone());
        Ok(address)
    }

    /// Gives `handle` an address of each of `sources`, or none.
    ///
    /// # Errors
    /// As [`Allocator::assign`], of the first source that has none. What the others gave is free at once: nobody used it.
    pub fn assign_each(
        &mut self,
        handle: &Handle,
        sources: &BTreeSet<Source>,
        now: u64,
    ) -> Result<BTreeSet<IpAddr>, AssignError> {
        let held = self.held(handle);
        let mut addresses = BTreeSet::new();
        for source in sources {
            match self.assign(handle, source, now) {
                Ok(address) => addresses.insert(address),
                Err(error) => {
                    for address in addresses.difference(&held) {
                        self.holders.remove(address);
                        if let Some((_, block)) = self.block_of(*address) {
                            // It was fresh, or has rested.
                            block.freed.push_front((*address, 0));
                        }
                    }
                    return Err(error);
                }
            };
        }
        Ok(addresses)
    }

    /// Gives `handle` this very address, also outside of the blocks and whenever it was released.
    ///
    /// # Errors
    /// [`AssignError::Taken`] if somebody else holds it.
    pub fn assign_specific(
        &mut self,
        handle: &Handle,
        address: IpAddr,
    ) -> Result<Place, AssignError> {
        match self.holders.get(&address) {
            Some(holder) if holder != handle => {
                return Err(AssignError::Taken {
                    address,
                    holder: holder.clone(),
                });
            }
            Some(_) => {}
            None => {
                self.holders.insert(address, handle.clone());
            }
        }
        let Some((net, block)) = self.block_of(address) else {
            return Ok(Place::Outside);
        };
        block.freed.retain(|(freed, _)| *freed != address);
        Ok(Place::Block(net))
    }

    /// Takes all addresses from `handle` and returns them. Unknown handles have none.
    pub fn release(&mut self, handle: &Handle, now: u64) -> BTreeSet<IpAddr> {
        let released: BTreeSet<IpAddr> = self.held(handle);
        for address in &released {
            self.holders.remove(address);
            if let Some((net, block)) = self.block_of(*address)
                && (!block.subnet || holds(net, &block.span(net), *address))
            {
                block.freed.push_back((*address, now));
            }
        }
        released
    }

    /// The addresses of a handle.
    pub fn held(&self, handle: &Handle) -> BTreeSet<IpAddr> {
        let held = self.holders.iter().filter(|(_, holder)| *holder == handle);
        held.map(|(address, _)| *address).collect()
    }

    /// All addresses in use and who holds them.
    pub fn holders(&self) -> &BTreeMap<IpAddr, Handle> {
        &self.holders
    }

    /// Addresses in use that no block of the node covers: each needs a host route.
    pub fn outside(&self) -> BTreeSet<IpAddr> {
        let outside = self
            .holders
            .keys()
            .filter(|address| self.covering(**address).is_none());
        outside.copied().collect()
    }

    /// The blocks, with how many addresses of each are in use.
    pub fn usage(&self) -> BTreeMap<IpNet, u32> {
        let blocks = self.blocks.keys();
        blocks.map(|block| (*block, self.used(*block))).collect()
    }

    /// How many addresses of a block are in use.
    fn used(&self, block: IpNet) -> u32 {
        let used = self
            .holders
            .range(block.network()..=last_address(block))
            .count();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// Whether to ask for one more block of `source`: fewer than `spare` addresses are free, resting
    /// ones included, or all that are free rest.
    pub fn wants_block(&self, source: &Source, spare: u64, now: u64) -> bool {
        let (mut free, mut resting): (u64, u64) = (0, 0);
        for (net, block) in &self.blocks {
            if source.covers(*net) {
                free += block.size(*net).saturating_sub(self.used(*net).into());
                let rests = |(_, at): &&(IpAddr, u64)| now.saturating_sub(*at) < self.cool_down;
                resting += block.freed.iter().filter(rests).count() as u64;
            }
        }
        free < spare || free <= resting
    }

    /// The next address that was never handed out.
    fn take_fresh(&mut self, source: &Source) -> Option<IpAddr> {
        for (net, block) in &mut self.blocks {
            if !source.covers(*net) {
                continue;
            }
            let span = block.span(*net);
            block.fresh = block.fresh.max(span.start);
            while block.fresh < span.end {
                let next = address(source.family(), range(*net).0 + u128::from(block.fresh));
                block.fresh += 1;
                let resting = block.freed.iter().any(|(freed, _)| *freed == next);
                if !resting && !self.holders.contains_key(&next) {
                    return Some(next);
                }
            }
        }
        None
    }

    /// The address that was released longest ago, if it has rested.
    fn take_freed(&mut self, source: &Source, now: u64) -> Result<IpAddr, AssignError> {
        let family = source.family();
        let mut sizes = 0;
        let mut oldest: Option<(u64, IpNet)> = None;
        for (net, block) in &mut self.blocks {
            if !source.covers(*net) {
                continue;
            }
            sizes += block.size(*net);
            if let Some((_, at)) = block.freed.front_mut() {
                // A clock that was set back: it cannot have been released later than now.
                *at = (*at).min(now);
                if oldest.is_none_or(|(least, _)| *at < least) {
                    oldest = Some((*at, *net));
                }
            }
        }
        let Some((at, net)) = oldest else {
            return Err(match sizes {
                0 => AssignError::NoBlock(family),
                size => AssignError::Exhausted { family, size },
            });
        };
        let rested = now.saturating_sub(at);
        if rested < self.cool_down {
            return Err(AssignError::CoolingDown {
                family,
                wait: self.cool_down - rested,
            });
        }
        let freed = self
            .blocks
            .get_mut(&net)
            .and_then(|block| block.freed.pop_front());
        freed
            .map(|(address, _)| address)
            .ok_or(AssignError::NoBlock(family))
    }

    fn block_of(&mut self, address: IpAddr) -> Option<(IpNet, &mut Block)> {
        let net = self.covering(address)?;
        self.blocks.get_mut(&net).map(|block| (net, block))
    }

    /// The block that covers an address: blocks never overlap, so it is the last that begins at or before it.
    fn covering(&self, address: IpAddr) -> Option<IpNet> {
        let to = IpNet::new_assert(address, Family::of(address).bits());
        let (block, _) = self.blocks.range(..=to).next_back()?;
        block.contains(&address).then_some(*block)
    }
}

impl Block {
    /// The addresses that are handed out, counted from the block's first: all, or the first [`LARGEST`].
    fn span(&self, net: IpNet) -> Range<u64> {
        let family = Family::of_net(net);
        let host_bits = family.bits() - net.prefix_len();
        let all = 1_u64.checked_shl(u32::from(host_bits));
        // Too small to have ends and something between them.
        let (first, last) = match family {
            _ if !self.subnet || host_bits < 2 => (0, 0),
            Family::V4 => (1, 1),
            Family::V6 => (1, 0), // the subnet's routers; there is no broadcast
        };
        first..all.map_or(LARGEST, |all| (all - last).min(LARGEST))
    }

    fn size(&self, net: IpNet) -> u64 {
        let span = self.span(net);
        span.end - span.start
    }
}

/// The last address of a prefix.
fn last_address(net: IpNet) -> IpAddr {
    address(Family::of_net(net), range(net).1)
}

/// Whether an address of `net` is within what is handed out of it.
fn holds(net: IpNet, span: &Range<u64>, asked: IpAddr) -> bool {
    let offset = number(asked) - range(net).0;
    u64::try_from(offset).is_ok_and(|offset| span.contains(&offset))
}

impl Handle {
    /// The attachment of `interface` in `container`.
    pub fn new(container: impl Into<String>, interface: impl Into<String>) -> Self {
        Self {
            container: container.into(),
            interface: interface.into(),
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.interface)
    }
}

impl From<Handle> for String {
    fn from(handle: Handle) -> Self {
        handle.to_string()
    }
}

/// A handle that is not `container id/interface`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an attachment: it is written `container id/interface`")]
pub struct HandleError(pub String);

impl TryFrom<String> for Handle {
    type Error = HandleError;

    /// Splits at the first slash: neither a container id nor an interface name can hold one.
    fn try_from(text: String) -> Result<Self, HandleError> {
        match text.split_once('/') {
            Some((container, interface)) if !container.is_empty() && !interface.is_empty() => {
                Ok(Self::new(container, interface))
            }
            _ => Err(HandleError(text)),
        }
    }
}

#[cfg(test)]
mod tests;
