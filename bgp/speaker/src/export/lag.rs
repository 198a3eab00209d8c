//! What a member lacks that its group has been told.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::group::Transition;
use super::{Audience, Group, Pack, TOLD_NONE, Told};
use crate::rib::{AttrId, LocRib, Slot};
use crate::types::Family;
use crate::wire::encode_end_of_rib;
use crate::wire::{RefreshMark, encode_route_refresh_mark};

/// So many destinations are looked at before the connection is asked again whether it takes more.
const BATCH: usize = 2048;
/// The same for those that are gone, of which some thousand fit into a message.
const GONE: usize = 8192;

/// A member that is behind. Its state is bounded by the table, whatever happens while it takes nothing in.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// Destinations to tell, by attributes; taken from the end.
    queue: Vec<(Option<AttrId>, Slot)>,
    /// Destinations that changed meanwhile.
    pending: Vec<Slot>,
    /// Paths that it may know and that are gone, unless they have come back.
    gone: Gone,
    /// What follows once all that is said.
    ends: Vec<End>,
    /// Families that are told again after that.
    again: BTreeSet<Family>,
}

/// Prefixes and path identifiers, those of a family in as little room as they need.
#[derive(Debug, Default)]
struct Gone {
    four: Vec<(Ipv4Net, u32)>,
    six: Vec<(Ipv6Net, u32)>,
}

impl Gone {
    fn len(&self) -> usize {
        self.four.len() + self.six.len()
    }

    fn push(&mut self, prefix: IpNet, id: u32) {
        match prefix {
            IpNet::V4(net) => self.four.push((net, id)),
            IpNet::V6(net) => self.six.push((net, id)),
        }
    }

    fn pop(&mut self) -> Option<(IpNet, u32)> {
        let four = self.four.pop().map(|(net, id)| (net.into(), id));
        four.or_else(|| self.six.pop().map(|(net, id)| (net.into(), id)))
    }

    fn dedup(&mut self) {
        self.four.sort_unstable();
        self.four.dedup();
        self.six.sort_unstable();
        self.six.dedup();
    }
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
        let told = group.told_to(member).map(|(slot, _)| slot);
        self.pending.extend(told.filter(|slot| of(slot.family())));
        self.merge(rib);
    }

    /// What changed since something was put in line is told once, with the rest.
    pub(crate) fn merge(&mut self, rib: &LocRib) {
        self.pending
            .extend(self.queue.drain(..).map(|(_, slot)| slot));
        self.sort(rib);
    }

    pub(crate) fn then(&mut self, end: End) {
        if !self.ends.contains(&end) {
            self.ends.push(end);
        }
    }

    /// Whether the first dump of a family has not ended.
    pub(crate) fn owes_end_of_rib(&self, family: Family) -> bool {
        self.ends.contains(&End::OfRib(family))
    }

    /// All of a family is told again after the ends that are due, with a beginning and an end of its own (RFC 7313 §4).
    pub(crate) fn once_more(&mut self, family: Family) {
        self.again.insert(family);
    }

    /// The member's way of being told changes: what it knows by the old one and not by the new one is gone.
    pub(crate) fn regroup(&mut self, old: &Group, new: &Group, rib: &LocRib, member: Told) {
        let kept: BTreeSet<(Slot, u32)> = new.told_to(member).collect();
        let lost = old.told_to(member).filter(|told| !kept.contains(told));
        for (slot, id) in lost {
            self.gone.push(rib.prefix(slot), id);
        }
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
            self.gone.push(prefix, id);
        } else {
            self.pending.push(slot);
        }
    }

    /// Keeps what is pending from growing beyond the table.
    pub(crate) fn trim(&mut self, rib: &LocRib) {
        let places = Family::ALL
            .iter()
            .map(|family| rib.places(*family) as usize);
        let most = 1024 + 2 * places.sum::<usize>();
        if self.pending.len() > most {
            self.pending.sort_unstable();
            self.pending.dedup();
        }
        if self.gone.len() > most {
            self.gone.dedup();
        }
    }

    /// The next octets to the member; `None` once it has caught up.
    pub(crate) fn next(&mut self, group: &Group, rib: &LocRib, member: Told) -> Option<Vec<u8>> {
        loop {
            let mut pack = Pack::default();
            for (prefix, id) in std::iter::from_fn(|| self.gone.pop()).take(GONE) {
                let back = rib
                    .find(&prefix)
                    .is_some_and(|slot| group.tells(slot, id, member));
                if !back {
                    pack.withdraw(Audience::Except(TOLD_NONE), prefix, id);
                }
            }
            if self.gone.len() > 0 {
                if let Some(octets) = Self::encoded(pack, group, rib) {
                    return Some(octets);
                }
                continue;
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
                return self.end(group, rib, member);
            }
            if let Some(octets) = Self::encoded(pack, group, rib) {
                return Some(octets);
            }
        }
    }

    fn encoded(pack: Pack, group: &Group, rib: &LocRib) -> Option<Vec<u8>> {
        let messages = pack.encode(&group.exporter, rib, |_| true);
        let octets = messages.into_iter().map(|(_, octets)| octets);
        let octets = octets.reduce(|mut all, more| {
            all.extend_from_slice(&more);
            all
        });
        octets.filter(|octets| !octets.is_empty())
    }

    fn end(&mut self, group: &Group, rib: &LocRib, member: Told) -> Option<Vec<u8>> {
        if self.ends.is_empty() {
            return None;
        }
        let end = |end| match end {
            End::OfRib(family) => encode_end_of_rib(family),
            End::OfRefresh(family) => encode_route_refresh_mark(family, RefreshMark::End),
        };
        let mut octets: Vec<u8> = self.ends.drain(..).flat_map(end).collect();
        let again = std::mem::take(&mut self.again);
        for family in &again {
            octets.extend(encode_route_refresh_mark(*family, RefreshMark::Begin));
            self.ends.push(End::OfRefresh(*family));
        }
        if !again.is_empty() {
            self.all(group, rib, member, |family| again.contains(&family));
        }
        Some(octets)
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
