//! What the owner of the kernel's routes knows.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Action;
use crate::rib::{LocRib, Slot, SourceId};
use crate::route::RouteChange;
use crate::types::PeerName;

/// Next hops, and whose the best of them is.
type Known = (BTreeSet<IpAddr>, Option<PeerName>);

/// What it was told, each way to go once.
#[derive(Debug, Default)]
pub(super) struct Owner {
    told: HashMap<Slot, u32>,
    ways: Vec<(Known, u32)>,
    numbers: BTreeMap<Known, u32>,
    free: Vec<u32>,
}

impl Owner {
    /// Says what of these changes matters to the owner. Own announcements have no next hops: coming and going they
    /// change nothing for the kernel.
    pub(super) fn tell(&mut self, rib: &LocRib, changed: &[Slot], to: &mut VecDeque<Action>) {
        for slot in changed {
            let known = known(rib, *slot);
            let before = self.told.get(slot).copied();
            if before.map(|way| &self.ways[way as usize].0) == known.as_ref() {
                continue;
            }
            let after = known.clone().map(|known| self.hold(known));
            match after {
                Some(after) => {
                    self.told.insert(*slot, after);
                }
                None => {
                    self.told.remove(slot);
                }
            }
            if let Some(before) = before {
                self.release(before);
            }
            let (next_hops, peer) = known.unwrap_or_default();
            to.push_back(Action::Route(RouteChange {
                prefix: rib.prefix(*slot),
                next_hops,
                peer,
            }));
        }
    }

    /// Everything that the owner was told is void: it is told anew from here on.
    pub(super) fn forget(&mut self, rib: &LocRib, to: &mut VecDeque<Action>) {
        let gone: BTreeSet<IpNet> = self.told.keys().map(|slot| rib.prefix(*slot)).collect();
        *self = Self::default();
        to.extend(gone.into_iter().map(|prefix| {
            Action::Route(RouteChange {
                prefix,
                next_hops: BTreeSet::new(),
                peer: None,
            })
        }));
    }

    fn hold(&mut self, known: Known) -> u32 {
        if let Some(way) = self.numbers.get(&known) {
            self.ways[*way as usize].1 += 1;
            return *way;
        }
        let way = if let Some(free) = self.free.pop() {
            self.ways[free as usize] = (known.clone(), 1);
            free
        } else {
            self.ways.push((known.clone(), 1));
            u32::try_from(self.ways.len() - 1).expect("fewer ways than destinations")
        };
        self.numbers.insert(known, way);
        way
    }

    fn release(&mut self, way: u32) {
        let (known, holders) = &mut self.ways[way as usize];
        *holders -= 1;
        if *holders == 0 {
            self.numbers.remove(known);
            *known = Known::default();
            self.free.push(way);
        }
    }
}

/// What the owner is to know of a destination; `None` if there is no way to it, or it is our own.
fn known(rib: &LocRib, slot: Slot) -> Option<Known> {
    let selected = rib.selected(slot);
    let best = selected.first()?;
    let peer = rib.neighbours.get(best.source)?.name.clone();
    let learned = selected.iter().filter(|path| path.source != SourceId::OWN);
    let mut next_hops = BTreeSet::new();
    for path in learned {
        let next_hop = rib.stored(path).next_hop;
        // A next hop that is no neighbour is reached by one (a recursive next hop).
        match rib.store.hops().and_then(|hops| hops.gateways(next_hop)) {
            Some(gateways) => next_hops.extend(gateways),
            None => {
                next_hops.insert(next_hop.address());
            }
        }
    }
    Some((next_hops, Some(peer)))
}
