//! What a member lacks that its group has been told.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::group::Transition;
use super::{Audience, Group, Pack, TOLD_NONE, Told};
use crate::rib::{AttrId, LocRib, Slot};
use crate::types::Family;
use crate::wire::encode_end_of_rib;
use crate::wire::{RefreshMark, encode_route_refresh_mark};

/// So many destinations are looked at before the connection is asked again whether it takes more.
const BATCH: usize = 2048;

/// A member that is behind. Its state is bounded by the table, whatever happens while it takes nothing in.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// Destinations to tell, by attributes; taken from the end.
    queue: Vec<(Option<AttrId>, Slot)>,
    /// Destinations that changed meanwhile.
    pending: Vec<Slot>,
    /// Paths that it may know and that are gone.
    gone: BTreeSet<(IpNet, u32)>,
    /// What follows once all that is said.
    ends: Vec<End>,
}

/// The end of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Of the first dump of a family (RFC 4724 §2).
    OfRib(Family),
    /// Of an answer to ROUTE-REFRESH (RFC 7313 §4).
    OfRefresh(Family),
}

impl Lag {
    /// A new session: everything, then the end of each family.
    pub(crate) fn start(
        group: &Group,
        rib: &LocRib,
        member: Told,
        families: &BTreeSet<Family>,
    ) -> Self {
        let mut lag = Self::default();
        lag.all(group, rib, member, |_| true);
        lag.ends = families.iter().copied().map(End::OfRib).collect();
        lag
    }

    /// Everything of some families again.
    pub(crate) fn all(
        &mut self,
        group: &Group,
        rib: &LocRib,
        member: Told,
        of: impl Fn(Family) -> bool,
    ) {
        self.pending
            .extend(self.queue.drain(..).map(|(_, slot)| slot));
        let told = group.told_to(member).map(|(slot, _)| slot);
        self.pending.extend(told.filter(|slot| of(slot.family())));
        self.sort(rib);
    }

    pub(crate) fn then(&mut self, end: End) {
        if !self.ends.contains(&end) {
            self.ends.push(end);
        }
    }

    /// The member's way of being told changes: what it knows by the old one and not by the new one is gone.
    pub(crate) fn regroup(&mut self, old: &Group, new: &Group, rib: &LocRib, member: Told) {
        let kept: BTreeSet<(Slot, u32)> = new.told_to(member).collect();
        let lost = old.told_to(member).filter(|told| !kept.contains(told));
        self.gone
            .extend(lost.map(|(slot, id)| (rib.prefix(slot), id)));
        self.all(new, rib, member, |_| true);
    }

    /// The group is told something that this member is not told with it.
    pub(crate) fn note(&mut self, transition: &Transition, member: Told) {
        if !transition.concerns(member) {
            return;
        }
        let Transition {
            slot, prefix, id, ..
        } = *transition;
        if transition.gone_for(member) {
            self.gone.insert((prefix, id));
        } else {
            self.gone.remove(&(prefix, id));
            self.pending.push(slot);
        }
    }

    /// Keeps what is pending from growing beyond the table.
    pub(crate) fn trim(&mut self, rib: &LocRib) {
        let places = Family::ALL
            .iter()
            .map(|family| rib.places(*family) as usize);
        if self.pending.len() > 1024 + 2 * places.sum::<usize>() {
            self.pending.sort_unstable();
            self.pending.dedup();
        }
    }

    /// The next octets to the member; `None` once it has caught up.
    pub(crate) fn next(&mut self, group: &Group, rib: &LocRib, member: Told) -> Option<Vec<u8>> {
        loop {
            let mut pack = Pack::default();
            while let Some((prefix, id)) = self.gone.pop_first() {
                pack.withdraw(Audience::Except(TOLD_NONE), prefix, id);
            }
            if self.queue.is_empty() {
                self.sort(rib);
            }
            let mut items = Vec::new();
            let mut looked = 0;
            let mut last = None;
            while let Some((attrs, slot)) = self
                .queue
                .pop_if(|(attrs, _)| looked < BATCH || *attrs == last)
            {
                group.items(rib, slot, member, &mut items);
                looked += 1;
                last = attrs;
            }
            for item in items {
                pack.announce(item);
            }
            if pack.is_empty() {
                if looked > 0 {
                    continue;
                }
                return self.end();
            }
            let messages = pack.encode(&group.exporter, rib, |_| true);
            let octets: Vec<u8> = messages
                .into_iter()
                .flat_map(|(_, octets)| octets)
                .collect();
            if !octets.is_empty() {
                return Some(octets);
            }
        }
    }

    fn end(&mut self) -> Option<Vec<u8>> {
        if self.ends.is_empty() {
            return None;
        }
        let end = |end| match end {
            End::OfRib(family) => encode_end_of_rib(family),
            End::OfRefresh(family) => encode_route_refresh_mark(family, RefreshMark::End),
        };
        Some(self.ends.drain(..).flat_map(end).collect())
    }

    /// Puts what is pending in line, by attributes, so that equal ones share messages.
    fn sort(&mut self, rib: &LocRib) {
        let attrs = |slot: Slot| rib.best(slot).map(|path| path.attrs);
        let pending = std::mem::take(&mut self.pending);
        self.queue
            .extend(pending.into_iter().map(|slot| (attrs(slot), slot)));
        self.queue.sort_unstable();
        self.queue.dedup();
        self.queue.reverse();
    }
}
