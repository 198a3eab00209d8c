//! Routes: what peers told us and which of it is best.
//!
//! The Adj-RIBs-In of all peers lie in one table with the Loc-RIB ([`LocRib`]; RFC 4271 §3.2 leaves that
//! free): a destination has the usable paths of every peer, the selected ones first. Destinations and attributes
//! are known by number; a path takes sixteen octets.

mod decision;
mod hops;
mod import;
mod index;
mod neighbours;
mod paths;
mod store;
mod table;

pub use decision::Step;
pub use hops::Reach;
pub use import::Refusal;

pub(crate) use hops::UNREACHABLE;
pub(crate) use import::{Importer, fits};
pub(crate) use index::mix;
pub(crate) use neighbours::{Neighbour, Neighbours};
pub(crate) use paths::{Freshness, PathRecord, SourceId};
pub(crate) use store::{AttrId, AttrStore, Marks, Rank, Stored};

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::settings::BestPath;
use crate::types::Family;
use crate::wire::{NextHop, PathAttrs};

use decision::Judge;
use paths::Paths;
use table::{Change, Key4, Key6, Table};

/// A destination of the table, by family and number. It means the same prefix until everybody knows that the last path
/// is gone ([`LocRib::settle`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(u32);

const SIX: u32 = 1 << 31;

impl Slot {
    pub(crate) fn of(family: Family, at: u32) -> Self {
        match family {
            Family::Ipv4 => Self(at),
            Family::Ipv6 => Self(at | SIX),
        }
    }

    pub(crate) fn family(self) -> Family {
        if self.0 & SIX == 0 {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }

    /// Its number among those of its family.
    pub(crate) fn at(self) -> u32 {
        self.0 & !SIX
    }
}

/// The routing table.
#[derive(Debug)]
pub(crate) struct LocRib {
    four: Table<Key4>,
    six: Table<Key6>,
    pub(crate) store: AttrStore,
    pub(crate) neighbours: Neighbours,
    rules: BestPath,
    /// Destinations with a change that not everybody knows of, each once.
    changed: Vec<Slot>,
}

/// What to do with a path in [`LocRib::sweep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sweep {
    Keep,
    Mark(Freshness),
    Remove,
}

/// How many paths of one family a source has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) paths: u32,
    /// Of these.
    pub(crate) fresh: u32,
}

impl LocRib {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            four: Table::new(seed),
            six: Table::new(seed),
            store: AttrStore::new(seed),
            neighbours: Neighbours::default(),
            rules: BestPath::default(),
            changed: Vec::new(),
        }
    }

    /// The destination of `prefix`, if it has one.
    pub(crate) fn find(&self, prefix: &IpNet) -> Option<Slot> {
        Some(match prefix {
            IpNet::V4(net) => Slot::of(Family::Ipv4, self.four.find(Key4::new(*net))?),
            IpNet::V6(net) => Slot::of(Family::Ipv6, self.six.find(Key6::new(*net))?),
        })
    }

    pub(crate) fn prefix(&self, slot: Slot) -> IpNet {
        match slot.family() {
            Family::Ipv4 => self.four.prefix(slot.at()),
            Family::Ipv6 => self.six.prefix(slot.at()),
        }
    }

    /// All paths, the selected ones first.
    pub(crate) fn paths(&self, slot: Slot) -> &[PathRecord] {
        self.cell(slot).all()
    }

    /// The best path and its equals; none if not even that has a way to its next hop.
    pub(crate) fn selected(&self, slot: Slot) -> &[PathRecord] {
        match self.best(slot) {
            Some(_) => self.cell(slot).selected(),
            None => &[],
        }
    }

    pub(crate) fn best(&self, slot: Slot) -> Option<&PathRecord> {
        // What has no way comes last.
        self.paths(slot).first().filter(|path| self.has_way(path))
    }

    /// Whether packets get to the path's next hop, as far as that is tracked.
    pub(crate) fn has_way(&self, path: &PathRecord) -> bool {
        self.store.hops().is_none() || self.stored(path).cost != UNREACHABLE
    }

    fn cell(&self, slot: Slot) -> &Paths {
        match slot.family() {
            Family::Ipv4 => self.four.paths(slot.at()),
            Family::Ipv6 => self.six.paths(slot.at()),
        }
    }

    fn cell_mut(&mut self, slot: Slot) -> &mut Paths {
        match slot.family() {
            Family::Ipv4 => self.four.paths_mut(slot.at()),
            Family::Ipv6 => self.six.paths_mut(slot.at()),
        }
    }

    /// How many places a family's destinations take.
    pub(crate) fn places(&self, family: Family) -> u32 {
        match family {
            Family::Ipv4 => self.four.places(),
            Family::Ipv6 => self.six.places(),
        }
    }

    /// Every destination of a family that has a path.
    pub(crate) fn slots(&self, family: Family) -> impl Iterator<Item = Slot> + use<'_> {
        (0..self.places(family))
            .map(move |at| Slot::of(family, at))
            .filter(|slot| !self.paths(*slot).is_empty())
    }

    /// Puts a path in, in place of the earlier one of the same source and identifier. It holds `attrs` once more.
    /// Says how fresh the earlier one was, if there was one.
    pub(crate) fn insert(
        &mut self,
        prefix: &IpNet,
        source: SourceId,
        id: u32,
        attrs: AttrId,
    ) -> Option<Freshness> {
        let slot = match prefix {
            IpNet::V4(net) => Slot::of(Family::Ipv4, self.four.find_or_add(Key4::new(*net))),
            IpNet::V6(net) => Slot::of(Family::Ipv6, self.six.find_or_add(Key6::new(*net))),
        };
        self.store.hold(attrs);
        let alone = PathRecord {
            attrs,
            id,
            source,
            local: 1,
            freshness: Freshness::Fresh,
        };
        match self.cell_mut(slot).put_alone(alone) {
            Ok(None) => {
                self.note(slot, Change::BEST);
                return None;
            }
            Ok(Some(known)) => {
                let best = known.differs(&alone);
                self.note(slot, if best { Change::BEST } else { Change::ANY });
                self.store.release(known.attrs);
                return Some(known.freshness);
            }
            Err(()) => {}
        }
        let mut replaced = None;
        self.change(slot, |paths| {
            let known = paths
                .iter()
                .position(|path| (path.source, path.id) == (source, id));
            let path = PathRecord {
                attrs,
                id,
                source,
                local: known.map_or_else(|| lowest_free(paths), |at| paths[at].local),
                freshness: Freshness::Fresh,
            };
            match known {
                Some(at) => replaced = Some(std::mem::replace(&mut paths[at], path)),
                None => paths.push(path),
            }
        });
        let replaced = replaced?;
        self.store.release(replaced.attrs);
        Some(replaced.freshness)
    }

    /// Takes a path out; says how fresh it was, if there was one.
    pub(crate) fn remove(
        &mut self,
        prefix: &IpNet,
        source: SourceId,
        id: u32,
    ) -> Option<Freshness> {
        self.remove_at(self.find(prefix)?, source, id)
    }

    fn remove_at(&mut self, slot: Slot, source: SourceId, id: u32) -> Option<Freshness> {
        let is = |path: &PathRecord| (path.source, path.id) == (source, id);
        if let Paths::One(path) = self.cell(slot)
            && is(path)
        {
            let path = *path;
            *self.cell_mut(slot) = Paths::None;
            self.note(slot, Change::BEST);
            self.store.release(path.attrs);
            return Some(path.freshness);
        }
        if !self.paths(slot).iter().any(is) {
            return None;
        }
        let mut removed = None;
        self.change(slot, |paths| {
            if let Some(at) = paths.iter().position(is) {
                removed = Some(paths.remove(at));
            }
        });
        let removed = removed?;
        self.store.release(removed.attrs);
        Some(removed.freshness)
    }

    /// Looks at every path of a source; gives back what it has left, by family.
    pub(crate) fn sweep(
        &mut self,
        source: SourceId,
        of: impl Fn(Family, &PathRecord, &Rank) -> Sweep,
    ) -> [Left; 2] {
        let mut left = [Left::default(); 2];
        for family in Family::ALL {
            for at in 0..self.places(family) {
                let slot = Slot::of(family, at);
                if !self.paths(slot).iter().any(|path| path.source == source) {
                    continue;
                }
                if let Paths::One(path) = self.cell(slot)
                    && of(family, path, &self.store.get(path.attrs).rank) == Sweep::Remove
                {
                    let id = path.id;
                    self.remove_at(slot, source, id);
                    continue;
                }
                let due = |path: &&PathRecord| {
                    let rank = &self.store.get(path.attrs).rank;
                    path.source == source && of(family, path, rank) != Sweep::Keep
                };
                let due: Vec<PathRecord> = self.paths(slot).iter().filter(due).copied().collect();
                for path in due {
                    match of(family, &path, &self.store.get(path.attrs).rank) {
                        Sweep::Keep => {}
                        Sweep::Mark(freshness) => self.change(slot, |paths| {
                            let key = (path.source, path.id);
                            for path in paths {
                                if (path.source, path.id) == key {
                                    path.freshness = freshness;
                                }
                            }
                        }),
                        Sweep::Remove => {
                            self.remove_at(slot, path.source, path.id);
                        }
                    }
                }
                let left = &mut left[family as usize];
                for path in self.paths(slot).iter().filter(|path| path.source == source) {
                    left.paths += 1;
                    left.fresh += u32::from(path.freshness == Freshness::Fresh);
                }
            }
        }
        left
    }

    /// Paths are compared so from now on.
    pub(crate) fn set_rules(&mut self, rules: BestPath) {
        if rules != self.rules {
            self.rules = rules;
            self.select_again();
        }
    }

    /// Tracks next hops from now on, or no longer.
    pub(crate) fn track(&mut self, on: bool) {
        if self.store.track(on) {
            self.look_again(|_| true);
        }
    }

    /// Ways to next hops are others now.
    pub(crate) fn set_reach(&mut self, reach: BTreeMap<IpAddr, Reach>) {
        let concerned = self.store.set_reach(reach);
        if !concerned.is_empty() {
            self.look_again(|path| concerned.get(path.attrs.at()) == Some(&true));
        }
    }

    /// What some paths are worth has changed.
    fn look_again(&mut self, of: impl Fn(&PathRecord) -> bool) {
        for family in Family::ALL {
            for at in 0..self.places(family) {
                let slot = Slot::of(family, at);
                if !self.paths(slot).iter().any(&of) {
                    continue;
                }
                if self.paths(slot).len() > 1 {
                    self.change(slot, |_| {});
                }
                self.note(slot, Change::BEST);
            }
        }
    }

    /// What paths are compared by has changed.
    pub(crate) fn select_again(&mut self) {
        for family in Family::ALL {
            for at in 0..self.places(family) {
                let slot = Slot::of(family, at);
                if self.paths(slot).len() > 1 {
                    self.change(slot, |_| {});
                }
            }
        }
    }

    /// What is told of a source's paths may have changed, although they have not.
    pub(crate) fn touch(&mut self, source: SourceId) {
        for family in Family::ALL {
            for at in 0..self.places(family) {
                let slot = Slot::of(family, at);
                if self.paths(slot).iter().any(|path| path.source == source) {
                    self.note(slot, Change::BEST);
                }
            }
        }
    }

    fn note(&mut self, slot: Slot, change: Change) {
        let first = match slot.family() {
            Family::Ipv4 => self.four.note(slot.at(), change),
            Family::Ipv6 => self.six.note(slot.at(), change),
        };
        if first {
            self.changed.push(slot);
        }
    }

    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Vec<PathRecord>)) {
        let judge = Judge {
            store: &self.store,
            neighbours: &self.neighbours,
            rules: self.rules,
        };
        let (family, at) = (slot.family(), slot.at());
        let cell = match family {
            Family::Ipv4 => self.four.paths_mut(at),
            Family::Ipv6 => self.six.paths_mut(at),
        };
        let best = cell.change(change, |paths| judge.select(paths));
        self.note(slot, if best { Change::BEST } else { Change::ANY });
    }

    /// The destinations that have changed since; to be given to [`LocRib::settle`] when everybody knows.
    pub(crate) fn take_changed(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.changed)
    }

    /// Whether the best path is among what changed.
    pub(crate) fn best_changed(&self, slot: Slot) -> bool {
        match slot.family() {
            Family::Ipv4 => self.four.change(slot.at()).has_best(),
            Family::Ipv6 => self.six.change(slot.at()).has_best(),
        }
    }

    /// Everybody knows of these changes.
    pub(crate) fn settle(&mut self, mut changed: Vec<Slot>) {
        for slot in &changed {
            match slot.family() {
                Family::Ipv4 => self.four.settle(slot.at()),
                Family::Ipv6 => self.six.settle(slot.at()),
            }
        }
        changed.clear();
        // The room is used again, unless it was an exceptional one.
        if changed.capacity() <= 4096 && self.changed.is_empty() {
            self.changed = changed;
        }
    }

    /// At which step of the decision `better` beats `other`.
    pub(crate) fn step(&self, better: &PathRecord, other: &PathRecord) -> Step {
        let judge = Judge {
            store: &self.store,
            neighbours: &self.neighbours,
            rules: self.rules,
        };
        judge.step(better, other)
    }

    pub(crate) fn stored(&self, path: &PathRecord) -> &Stored {
        self.store.get(path.attrs)
    }

    /// Puts an own path in.
    pub(crate) fn announce(&mut self, prefix: &IpNet, id: u32, attrs: &PathAttrs, hop: NextHop) {
        let attrs = self.store.intern(attrs, hop);
        self.insert(prefix, SourceId::OWN, id, attrs);
        self.store.release(attrs);
    }
}

/// The lowest identifier from 1 that no path has.
fn lowest_free(paths: &[PathRecord]) -> u16 {
    (1..u16::MAX)
        .find(|local| paths.iter().all(|path| path.local != *local))
        .unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
