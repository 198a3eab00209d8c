//! The table for people: routes with all attributes, and why one is preferred.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Speaker;
use crate::export::Item;
use crate::rib::{Freshness, PathRecord, Slot, Step};
use crate::types::{Family, PeerName};
use crate::wire::{NextHop, PathAttrs};

/// A prefix and all paths to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The prefix.
    pub prefix: IpNet,
    /// The best path first, then its equals, then the others.
    pub paths: Vec<PathView>,
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    /// Who told it; `None` for our own.
    pub peer: Option<PeerName>,
    /// The identifier the peer gave it (RFC 7911); 0 without.
    pub id: u32,
    /// Where packets go; unspecified for our own.
    pub next_hop: NextHop,
    /// All else.
    pub attrs: PathAttrs,
    /// Whether packets go this way: it is the best, or one of its equals.
    pub selected: bool,
    /// Whether it is kept from a session that was lost.
    pub stale: bool,
    /// The step of the decision at which the best path beat this one, and for the best at which it beat the next;
    /// `None` if it is alone.
    pub decided_by: Option<Step>,
}

impl Speaker {
    /// Everything known of a prefix.
    pub fn destination(&self, prefix: &IpNet) -> Option<Destination> {
        self.view(self.rib.find(&prefix.trunc())?)
    }

    /// The destination that packets to `address` take: the longest prefix with a path that contains it.
    pub fn lookup(&self, address: IpAddr) -> Option<Destination> {
        let max: u8 = if address.is_ipv4() { 32 } else { 128 };
        (0..=max).rev().find_map(|length| {
            let prefix = match address {
                IpAddr::V4(address) => IpNet::from(Ipv4Net::new(address, length).ok()?),
                IpAddr::V6(address) => IpNet::from(Ipv6Net::new(address, length).ok()?),
            };
            self.destination(&prefix)
        })
    }

    /// Every prefix of a family that has a path, in order.
    pub fn prefixes(&self, family: Family) -> Vec<IpNet> {
        let slots = self.rib.slots(family);
        let mut prefixes: Vec<IpNet> = slots.map(|slot| self.rib.prefix(slot)).collect();
        prefixes.sort_unstable();
        prefixes
    }

    /// How many prefixes have a path, and how many different attributes they have.
    pub fn size(&self) -> (usize, usize) {
        let slots = Family::ALL
            .into_iter()
            .map(|family| self.rib.slots(family).count());
        (slots.sum(), self.rib.store.len())
    }

    /// What a peer told us and we could use, by prefix: as it stands in the table, behind the import filter.
    pub fn received(&self, peer: &str) -> Vec<(IpNet, PathView)> {
        let Some(source) = self.peers.get(peer).and_then(|peer| peer.source) else {
            return Vec::new();
        };
        let mut received = Vec::new();
        for slot in Family::ALL
            .into_iter()
            .flat_map(|family| self.rib.slots(family))
        {
            for path in self.rib.paths(slot) {
                if path.source == source {
                    received.push((self.rib.prefix(slot), self.path(slot, path)));
                }
            }
        }
        received.sort_by_key(|(prefix, path)| (*prefix, path.id));
        received
    }

    /// What a peer told us before the import filter, if that is kept ([`crate::PeerSettings::keep_received`]).
    pub fn kept(&self, peer: &str) -> Vec<(IpNet, u32, NextHop, PathAttrs)> {
        let kept = self.peers.get(peer).map(|peer| peer.kept.iter());
        kept.into_iter()
            .flatten()
            .map(|(prefix, id, attrs)| {
                let stored = self.rib.store.get(attrs);
                (prefix, id, stored.next_hop, stored.attrs())
            })
            .collect()
    }

    /// What a peer is told, as it sees it: prefix, path identifier, next hop and attributes.
    pub fn advertised(&self, peer: &str) -> Vec<(IpNet, u32, NextHop, PathAttrs)> {
        let Some(peer) = self.peers.get(peer) else {
            return Vec::new();
        };
        let group = peer.group.and_then(|at| self.groups.get(at)?.as_ref());
        let (Some(group), Some(told)) = (group, peer.told()) else {
            return Vec::new();
        };
        let mut items: Vec<Item> = Vec::new();
        let mut last = None;
        for (slot, _) in group.told_to(told) {
            if last.replace(slot) != Some(slot) {
                group.items(&self.rib, slot, told, &mut items);
            }
        }
        let mut advertised: Vec<_> = items
            .into_iter()
            .filter_map(|item| {
                let family = item.slot.family();
                let (attrs, next_hop) =
                    group
                        .exporter
                        .told(&self.rib, family, &item.path, &item.applied)?;
                Some((self.rib.prefix(item.slot), item.id, next_hop, attrs))
            })
            .collect();
        advertised.sort_by_key(|(prefix, id, ..)| (*prefix, *id));
        advertised
    }

    fn view(&self, slot: Slot) -> Option<Destination> {
        let paths = self.rib.paths(slot);
        if paths.is_empty() {
            return None;
        }
        Some(Destination {
            prefix: self.rib.prefix(slot),
            paths: paths.iter().map(|path| self.path(slot, path)).collect(),
        })
    }

    fn path(&self, slot: Slot, path: &PathRecord) -> PathView {
        let paths = self.rib.paths(slot);
        let stored = self.rib.stored(path);
        let decided_by = match paths {
            [best, next, ..] if best == path => Some(self.rib.step(best, next)),
            [best, _, ..] => Some(self.rib.step(best, path)),
            _ => None,
        };
        PathView {
            peer: self
                .rib
                .neighbours
                .get(path.source)
                .map(|peer| peer.name.clone()),
            id: path.id,
            next_hop: stored.next_hop,
            attrs: stored.attrs(),
            selected: self.rib.selected(slot).contains(path),
            stale: matches!(path.freshness, Freshness::Stale | Freshness::LongStale),
            decided_by,
        }
    }
}
