//! Peers that are told the same.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Audience, Exporter, Item, Pack};
use crate::rib::{LocRib, PathRecord, Slot, SourceId};
use crate::types::Family;

/// Whose path of a prefix the group is told: two octets for each destination. The member that told the path itself
/// is not told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told(u16);

/// Nobody's: the group is not told of the prefix.
pub(crate) const TOLD_NONE: Told = Told(0);

impl Told {
    pub(crate) fn by(source: SourceId) -> Self {
        Self(source.0 + 1)
    }
}

/// Whose path is told, by number of the destination; and how many of each source.
#[derive(Debug, Default)]
struct Single {
    told: [Vec<Told>; 2],
}

/// A group and what its members have been told, or are about to be.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) exporter: Exporter,
    single: Single,
    /// For families with several paths (RFC 7911): whose path is told under which identifier.
    several: BTreeMap<(Slot, u32), Told>,
    /// How many paths of each source are told.
    counts: BTreeMap<Told, u32>,
}

/// What became of one path that the group was told or is told now; for members that lag behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transition {
    pub(crate) slot: Slot,
    pub(crate) prefix: IpNet,
    pub(crate) id: u32,
    pub(crate) before: Told,
    pub(crate) after: Told,
}

impl Transition {
    /// Whether the member knew of it before, or is to know now.
    pub(crate) fn concerns(&self, member: Told) -> bool {
        let of = |told: Told| told != TOLD_NONE && told != member;
        of(self.before) || of(self.after)
    }

    pub(crate) fn gone_for(&self, member: Told) -> bool {
        self.after == TOLD_NONE || self.after == member
    }
}

impl Group {
    /// A group that is told everything that `rib` has for it.
    pub(crate) fn new(exporter: Exporter, rib: &LocRib) -> Self {
        let mut group = Self {
            exporter,
            single: Single::default(),
            several: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        // Nobody hears that: members that come later are told all of it in their own time.
        let mut pack = Pack::for_members(&[]);
        for family in Family::ALL {
            if group.exporter.lane(family).is_none() {
                continue;
            }
            for slot in rib.slots(family) {
                group.look(rib, slot, &mut pack, &mut |_| {});
            }
        }
        group
    }

    /// Takes a change of a destination in: what it means goes into `pack`, and is said to `note`.
    pub(crate) fn change(
        &mut self,
        rib: &LocRib,
        slot: Slot,
        pack: &mut Pack,
        note: &mut dyn FnMut(Transition),
    ) {
        let Some(lane) = self.exporter.lane(slot.family()) else {
            return;
        };
        if lane.paths > 0 || rib.best_changed(slot) {
            self.look(rib, slot, pack, note);
        }
    }

    fn look(
        &mut self,
        rib: &LocRib,
        slot: Slot,
        pack: &mut Pack,
        note: &mut dyn FnMut(Transition),
    ) {
        let lane = self.exporter.lane(slot.family());
        match lane.map_or(0, |lane| usize::from(lane.paths)) {
            0 => {
                let best = rib.best(slot);
                let item = best.and_then(|path| self.item(rib, slot, path, 0));
                let before = self.told(slot);
                self.step(rib, slot, 0, before, item, pack, note);
            }
            several => self.look_at_several(rib, slot, several, pack, note),
        }
    }

    /// The first paths that may be told, and what was told of others before.
    fn look_at_several(
        &mut self,
        rib: &LocRib,
        slot: Slot,
        several: usize,
        pack: &mut Pack,
        note: &mut dyn FnMut(Transition),
    ) {
        let paths = rib.paths(slot).iter();
        let wanted: Vec<Item> = paths
            .filter_map(|path| self.item(rib, slot, path, path.local.into()))
            .take(several)
            .collect();
        let mut known: BTreeMap<u32, Told> = self
            .several
            .range((slot, 0)..=(slot, u32::MAX))
            .map(|((_, id), told)| (*id, *told))
            .collect();
        for item in wanted {
            let before = known.remove(&item.id).unwrap_or_default();
            self.step(rib, slot, item.id, before, Some(item), pack, note);
        }
        for (id, before) in known {
            self.step(rib, slot, id, before, None, pack, note);
        }
    }

    /// What the group is told under one identifier becomes `item`, or nothing.
    #[expect(
        clippy::too_many_arguments,
        reason = "the table, the place in it, and the two that are told"
    )]
    fn step(
        &mut self,
        rib: &LocRib,
        slot: Slot,
        id: u32,
        before: Told,
        item: Option<Item>,
        pack: &mut Pack,
        note: &mut dyn FnMut(Transition),
    ) {
        let told = item.as_ref().map(|item| Told::by(item.path.source));
        let after = told.unwrap_or_default();
        if before == TOLD_NONE && after == TOLD_NONE {
            return;
        }
        let prefix = rib.prefix(slot);
        match item {
            Some(item) => {
                if before != TOLD_NONE && before != after {
                    // It was told another's path and is not told its own.
                    pack.withdraw(Audience::Only(after), prefix, id);
                }
                pack.announce(item);
            }
            None => pack.withdraw(Audience::Except(before), prefix, id),
        }
        self.set(slot, id, before, after);
        note(Transition {
            slot,
            prefix,
            id,
            before,
            after,
        });
    }

    fn item(&self, rib: &LocRib, slot: Slot, path: &PathRecord, id: u32) -> Option<Item> {
        let applied = self.exporter.judge(rib, slot, path)?;
        Some(Item {
            slot,
            path: *path,
            id,
            applied,
        })
    }

    fn told(&self, slot: Slot) -> Told {
        let told = &self.single.told[slot.family() as usize];
        told.get(slot.at() as usize).copied().unwrap_or_default()
    }

    fn set(&mut self, slot: Slot, id: u32, before: Told, after: Told) {
        if before != after {
            if before != TOLD_NONE
                && let Some(count) = self.counts.get_mut(&before)
            {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&before);
                }
            }
            if after != TOLD_NONE {
                *self.counts.entry(after).or_default() += 1;
            }
        }
        if id > 0 {
            if after == TOLD_NONE {
                self.several.remove(&(slot, id));
            } else {
                self.several.insert((slot, id), after);
            }
            return;
        }
        let told = &mut self.single.told[slot.family() as usize];
        let at = slot.at() as usize;
        if told.len() <= at {
            told.resize(at + 1, TOLD_NONE);
        }
        told[at] = after;
    }

    /// How many paths a member is told.
    pub(crate) fn count(&self, member: Told) -> u32 {
        let others = self.counts.iter().filter(|(told, _)| **told != member);
        others.map(|(_, count)| *count).sum()
    }

    /// What a member is told of a destination: identifier and path.
    pub(crate) fn items(&self, rib: &LocRib, slot: Slot, member: Told, to: &mut Vec<Item>) {
        let Some(lane) = self.exporter.lane(slot.family()) else {
            return;
        };
        let tells = |told: Told| told != TOLD_NONE && told != member;
        if lane.paths == 0 {
            if tells(self.told(slot))
                && let Some(path) = rib.best(slot)
            {
                to.extend(self.item(rib, slot, path, 0));
            }
            return;
        }
        for ((_, id), told) in self.several.range((slot, 0)..=(slot, u32::MAX)) {
            let mut paths = rib.paths(slot).iter();
            if tells(*told)
                && let Some(path) = paths.find(|path| u32::from(path.local) == *id)
            {
                to.extend(self.item(rib, slot, path, *id));
            }
        }
    }

    /// Whether a member is told of a destination under this identifier.
    pub(crate) fn tells(&self, slot: Slot, id: u32, member: Told) -> bool {
        let told = match id {
            0 => self.told(slot),
            _ => self.several.get(&(slot, id)).copied().unwrap_or_default(),
        };
        told != TOLD_NONE && told != member
    }

    /// Every destination of which a member is told, and under which identifiers.
    pub(crate) fn told_to(&self, member: Told) -> impl Iterator<Item = (Slot, u32)> + use<'_> {
        let tells = move |told: Told| told != TOLD_NONE && told != member;
        let single = Family::ALL.into_iter().flat_map(move |family| {
            let told = &self.single.told[family as usize];
            let told = told.iter().enumerate();
            told.filter(move |(_, told)| tells(**told))
                .filter_map(move |(at, _)| Some((Slot::of(family, u32::try_from(at).ok()?), 0)))
        });
        let several = self.several.iter();
        single.chain(
            several
                .filter(move |(_, told)| tells(**told))
                .map(|(key, _)| *key),
        )
    }
}
