//! What a peer told before the import filter, kept so that a new filter needs no ROUTE-REFRESH.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipnet::IpNet;

use crate::rib::{AttrId, AttrStore};
use crate::types::Family;

/// The paths of one peer, by prefix and identifier. Their attributes are held.
#[derive(Debug, Default)]
pub(super) struct Kept {
    paths: BTreeMap<(IpNet, u32), AttrId>,
    /// By family.
    counts: [u32; 2],
    /// By family: whether there was more than room for it.
    overflowed: [bool; 2],
}

impl Kept {
    /// Keeps a path, if there is room: at most `room` of its family.
    pub(super) fn put(
        &mut self,
        store: &mut AttrStore,
        (prefix, id): (IpNet, u32),
        attrs: AttrId,
        room: u32,
    ) {
        let family = Family::of_prefix(&prefix) as usize;
        match self.paths.entry((prefix, id)) {
            Entry::Occupied(mut known) => {
                store.hold(attrs);
                store.release(known.insert(attrs));
            }
            Entry::Vacant(_) if self.counts[family] >= room => self.overflowed[family] = true,
            Entry::Vacant(place) => {
                store.hold(attrs);
                place.insert(attrs);
                self.counts[family] += 1;
            }
        }
    }

    /// Forgets a path that is gone.
    pub(super) fn remove(&mut self, store: &mut AttrStore, path: (IpNet, u32)) {
        if let Some(attrs) = self.paths.remove(&path) {
            store.release(attrs);
            self.counts[Family::of_prefix(&path.0) as usize] -= 1;
        }
    }

    /// Forgets some families: what comes from now on is everything.
    pub(super) fn forget(&mut self, store: &mut AttrStore, of: impl Fn(Family) -> bool) {
        self.paths.retain(|(prefix, _), attrs| {
            let keep = !of(Family::of_prefix(prefix));
            if !keep {
                store.release(*attrs);
            }
            keep
        });
        for family in Family::ALL.into_iter().filter(|family| of(*family)) {
            self.counts[family as usize] = 0;
            self.overflowed[family as usize] = false;
        }
    }

    /// Forgets what there is no room for any more.
    pub(super) fn shrink(&mut self, store: &mut AttrStore, family: Family, room: u32) {
        let excess = self.counts[family as usize].saturating_sub(room);
        let of = self.paths.keys();
        let of = of.filter(|(prefix, _)| Family::of_prefix(prefix) == family);
        let last: Vec<_> = of.rev().take(excess as usize).copied().collect();
        self.overflowed[family as usize] |= excess > 0;
        for path in last {
            self.remove(store, path);
        }
    }

    /// Whether that is all that the peer has told, or is about to tell again.
    pub(super) fn is_whole(&self) -> bool {
        self.overflowed == [false; 2]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpNet, u32, AttrId)> + '_ {
        self.paths
            .iter()
            .map(|((prefix, id), attrs)| (*prefix, *id, *attrs))
    }
}
