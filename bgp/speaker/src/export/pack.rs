//! Changes as messages: sorted by whom they concern and by attributes, as many prefixes to a message as fit.

use ipnet::IpNet;

use super::Exporter;
use super::group::Told;
use crate::filter::Applied;
use crate::rib::{LocRib, PathRecord, Slot};
use crate::types::Family;
use crate::wire::update::{put_announcements, put_withdrawals};

/// Whom octets are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Audience {
    /// Every member but the one that told the route.
    Except(Told),
    /// The member that told a route which replaces what it was told.
    Only(Told),
}

impl Audience {
    pub(crate) fn includes(self, member: Told) -> bool {
        match self {
            Self::Except(told) => told != member,
            Self::Only(told) => told == member,
        }
    }
}

/// A path that is to be told.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) slot: Slot,
    pub(crate) path: PathRecord,
    /// The identifier that it is told with.
    pub(crate) id: u32,
    pub(crate) applied: Applied,
}

/// What a group or one of its members is to be told.
#[derive(Debug, Default)]
pub(crate) struct Pack {
    ears: Ears,
    withdrawn: Vec<(Audience, Family, (u32, IpNet))>,
    items: Vec<Item>,
}

/// Who hears it: what nobody does need not be kept.
#[derive(Clone, Copy, Debug, Default)]
enum Ears {
    Nobody,
    One(Told),
    #[default]
    Several,
}

impl Ears {
    fn hear(self, audience: Audience) -> bool {
        match self {
            Self::Nobody => false,
            Self::One(member) => audience.includes(member),
            Self::Several => true,
        }
    }
}

impl Pack {
    /// For these members of a group and no others.
    pub(crate) fn for_members(members: &[Told]) -> Self {
        let ears = match members {
            [] => Ears::Nobody,
            [member] => Ears::One(*member),
            _ => Ears::Several,
        };
        Self {
            ears,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.withdrawn.is_empty() && self.items.is_empty()
    }

    pub(crate) fn withdraw(&mut self, audience: Audience, prefix: IpNet, id: u32) {
        if !self.ears.hear(audience) {
            return;
        }
        let family = Family::of_prefix(&prefix);
        self.withdrawn.push((audience, family, (id, prefix)));
    }

    pub(crate) fn announce(&mut self, item: Item) {
        if self.ears.hear(Audience::Except(Told::by(item.path.source))) {
            self.items.push(item);
        }
    }

    /// The messages, withdrawals first, for those audiences that anybody `listens` to.
    pub(crate) fn encode(
        mut self,
        exporter: &Exporter,
        rib: &LocRib,
        listens: impl Fn(Audience) -> bool,
    ) -> Vec<(Audience, Vec<u8>)> {
        let mut messages: Vec<(Audience, Vec<u8>)> = Vec::new();
        let mut too_long = Vec::new();
        let key = |item: &Item| (item.path.source, item.slot.family(), item.path.attrs);
        self.items.sort_by(|a, b| {
            let of = |item: &Item| (key(item), item.path.freshness as u8, item.slot);
            of(a).cmp(&of(b)).then_with(|| a.applied.cmp(&b.applied))
        });
        let mut paths = Vec::new();
        for run in self
            .items
            .chunk_by(|a, b| key(a) == key(b) && same_rules(a, b) && !a.path.differs(&b.path))
        {
            let first = &run[0];
            let family = first.slot.family();
            let audience = Audience::Except(Told::by(first.path.source));
            let Some(lane) = exporter.lane(family).filter(|_| listens(audience)) else {
                continue;
            };
            let Some((attrs, next_hop)) = exporter.told(rib, family, &first.path, &first.applied)
            else {
                continue;
            };
            paths.clear();
            paths.extend(run.iter().map(|item| (item.id, rib.prefix(item.slot))));
            let to = buffer(&mut messages, audience);
            let done = put_announcements(to, &attrs, next_hop, family, &paths, lane.shape);
            // Attributes that fill a whole message leave no room for a prefix: what was told before goes.
            too_long.extend(paths[done..].iter().map(|path| (audience, family, *path)));
        }
        self.withdrawn.extend(too_long);
        if self.withdrawn.is_empty() {
            return messages;
        }
        // In the order of the changes: nobody is served by another.
        self.withdrawn
            .sort_by_key(|(audience, family, _)| (*audience, *family));
        let mut all = Vec::new();
        for run in self.withdrawn.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (audience, family, _) = run[0];
            let Some(lane) = exporter.lane(family).filter(|_| listens(audience)) else {
                continue;
            };
            let paths: Vec<_> = run.iter().map(|(.., path)| *path).collect();
            let to = buffer(&mut all, audience);
            put_withdrawals(to, family, &paths, lane.shape.max, lane.shape.ids);
        }
        for (audience, octets) in messages {
            if matches!(all.last(), Some((last, _)) if *last == audience) {
                buffer(&mut all, audience).extend_from_slice(&octets);
            } else {
                all.push((audience, octets));
            }
        }
        all
    }
}

/// Whether the same rules change both. Usually there are none, and the comparison of two empty rows is not free: where
/// it is done by vectors, it reads, masked, from the address that an empty row has, which takes a fault each time.
fn same_rules(a: &Item, b: &Item) -> bool {
    a.applied.len() == b.applied.len() && (a.applied.is_empty() || a.applied == b.applied)
}

/// The last buffer if it is for the same audience, or a new one.
fn buffer(all: &mut Vec<(Audience, Vec<u8>)>, audience: Audience) -> &mut Vec<u8> {
    if !matches!(all.last(), Some((last, _)) if *last == audience) {
        all.push((audience, Vec::new()));
    }
    let last = all.len() - 1;
    &mut all[last].1
}
