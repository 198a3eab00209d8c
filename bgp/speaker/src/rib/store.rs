//! One copy of equal attributes, as octets.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::IpAddr;

use super::hops::{Hops, NEAR, Reach};
use super::index::Index;
use crate::types::{Asn, BgpId};
use crate::wire::community::{LLGR_STALE, NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED, NO_LLGR};
use crate::wire::{AsWidth, NextHop, PathAttrs};

/// Attributes and next hop of a path, by number. Whoever keeps one holds it in its [`AttrStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttrId(u32);

impl AttrId {
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// All attributes that paths have: encoded, since most are only ever compared and sent.
#[derive(Debug, Default)]
pub(crate) struct AttrStore {
    entries: Vec<Stored>,
    free: Vec<u32>,
    index: Index,
    scratch: Vec<u8>,
    seed: u64,
    /// The ways to next hops, if they are tracked.
    hops: Option<Hops>,
}

/// What a path says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// As [`PathAttrs::put`] writes it with four-octet numbers and without next hop.
    octets: Box<[u8]>,
    pub(crate) next_hop: NextHop,
    pub(crate) rank: Rank,
    /// Of the way to the next hop; 0 if it is not tracked.
    pub(crate) cost: u32,
    /// Of octets and next hop; known, so that others' octets need not be looked at.
    hash: u64,
    holders: u32,
}

/// What decisions need of the attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    /// 100 where there is none.
    pub(crate) local_pref: u32,
    pub(crate) path_length: u16,
    pub(crate) origin: u8,
    /// 0 where there is none.
    pub(crate) med: u32,
    pub(crate) neighbour: Option<Asn>,
    pub(crate) originator: Option<BgpId>,
    pub(crate) clusters: u16,
    pub(crate) marks: Marks,
}

/// Well-known communities that a path has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks(u8);

impl Marks {
    pub(crate) const NO_ADVERTISE: Self = Self(1);
    /// `NO_EXPORT`, or `NO_EXPORT_SUBCONFED`, which is the same without confederations.
    pub(crate) const NO_EXPORT: Self = Self(2);
    pub(crate) const LLGR_STALE: Self = Self(4);
    pub(crate) const NO_LLGR: Self = Self(8);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn of(communities: &[u32]) -> Self {
        let marks = communities.iter().map(|community| match *community {
            NO_ADVERTISE => Self::NO_ADVERTISE,
            NO_EXPORT | NO_EXPORT_SUBCONFED => Self::NO_EXPORT,
            LLGR_STALE => Self::LLGR_STALE,
            NO_LLGR => Self::NO_LLGR,
            _ => Self::default(),
        });
        Self(marks.fold(0, |all, mark| all | mark.0))
    }
}

impl Rank {
    fn of(attrs: &PathAttrs) -> Self {
        Self {
            local_pref: attrs.local_pref.unwrap_or(100),
            path_length: u16::try_from(attrs.as_path.length()).unwrap_or(u16::MAX),
            origin: attrs.origin as u8,
            med: attrs.med.unwrap_or(0),
            neighbour: attrs.as_path.neighbour(),
            originator: attrs.originator_id,
            clusters: u16::try_from(attrs.cluster_list.len()).unwrap_or(u16::MAX),
            marks: Marks::of(&attrs.communities),
        }
    }
}

impl AttrStore {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// The number of these attributes, held once more.
    pub(crate) fn intern(&mut self, attrs: &PathAttrs, next_hop: NextHop) -> AttrId {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        attrs.put(&mut scratch, None, AsWidth::Four);
        let hash = hash(self.seed, &scratch, next_hop);
        let entries = &self.entries;
        let known = self.index.find(hash, |entry| {
            let stored = &entries[entry as usize];
            stored.hash == hash && stored.next_hop == next_hop && *stored.octets == *scratch
        });
        let entry = if let Some(known) = known {
            self.entries[known as usize].holders += 1;
            known
        } else {
            let stored = Stored {
                cost: self.hops.as_mut().map_or(0, |hops| {
                    // Nothing is known of it yet, so that it is not used yet.
                    hops.enter(next_hop, &Reach::Unreachable)
                }),
                octets: scratch.as_slice().into(),
                next_hop,
                rank: Rank::of(attrs),
                hash,
                holders: 1,
            };
            let entry = if let Some(free) = self.free.pop() {
                self.entries[free as usize] = stored;
                free
            } else {
                self.entries.push(stored);
                u32::try_from(self.entries.len() - 1).expect("memory ends before 2^32 entries")
            };
            self.index.insert(entry, hash);
            entry
        };
        self.scratch = scratch;
        AttrId(entry)
    }

    pub(crate) fn hold(&mut self, id: AttrId) {
        self.entries[id.0 as usize].holders += 1;
    }

    /// Lets go of attributes; the last to do so frees them.
    pub(crate) fn release(&mut self, id: AttrId) {
        let stored = &mut self.entries[id.0 as usize];
        stored.holders -= 1;
        if stored.holders > 0 {
            return;
        }
        stored.octets = Box::default();
        if let Some(hops) = &mut self.hops {
            hops.leave(stored.next_hop);
        }
        self.index.remove(id.0, stored.hash);
        self.free.push(id.0);
    }

    /// Tracks next hops from now on, or no longer. What is in use stays so until more is known. Says whether costs may
    /// be others now.
    pub(super) fn track(&mut self, on: bool) -> bool {
        if self.hops.is_some() == on {
            return false;
        }
        let mut hops = on.then(Hops::default);
        for stored in self.entries.iter_mut().filter(|stored| stored.holders > 0) {
            stored.cost = hops
                .as_mut()
                .map_or(0, |hops| hops.enter(stored.next_hop, &NEAR));
        }
        self.hops = hops;
        true
    }

    /// Takes news of ways in; gives back which attributes they concern, by number.
    pub(super) fn set_reach(&mut self, reach: BTreeMap<IpAddr, Reach>) -> Vec<bool> {
        let changed = self.hops.as_mut().map(|hops| hops.set(reach));
        let changed = changed.unwrap_or_default();
        if changed.is_empty() {
            return Vec::new();
        }
        let concerned = self.entries.iter_mut().map(|stored| {
            let cost = changed.get(&stored.next_hop.address());
            let cost = cost.filter(|_| stored.holders > 0);
            stored.cost = cost.copied().unwrap_or(stored.cost);
            cost.is_some()
        });
        concerned.collect()
    }

    /// The ways to next hops, if they are tracked.
    pub(crate) fn hops(&self) -> Option<&Hops> {
        self.hops.as_ref()
    }

    pub(crate) fn hops_mut(&mut self) -> Option<&mut Hops> {
        self.hops.as_mut()
    }

    pub(crate) fn get(&self, id: AttrId) -> &Stored {
        &self.entries[id.0 as usize]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

impl Stored {
    /// As a value.
    pub(crate) fn attrs(&self) -> PathAttrs {
        PathAttrs::from_stored(&self.octets)
    }
}

fn hash(seed: u64, octets: &[u8], next_hop: NextHop) -> u64 {
    use std::hash::Hash as _;
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(octets);
    next_hop.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
