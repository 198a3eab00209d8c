//! Changes of the table on their way to the owner and to the peers.

use std::sync::Arc;
use std::time::Instant;

use super::Speaker;
use crate::export::{Group, Lag, Pack, Told, Transition};
use crate::rib::Slot;
use crate::types::PeerName;
use crate::wire::{self, MAX_EXTENDED, MessageType};

/// Above so many octets that the kernel has not taken, changes are collected instead of sent.
const BUSY: usize = 64 * 1024;
/// More changes than that at once are told to each peer in portions, as it takes them.
const MANY: usize = 8192;

impl Speaker {
    /// Tells everybody what there is to tell, unless their connection is busy.
    pub(super) fn flush(&mut self, now: Instant) {
        self.ask_for_next_hops();
        let waited = self.waiting.is_some();
        if self.is_waiting(now) {
            return;
        }
        let changed = self.rib.take_changed();
        if !changed.is_empty() {
            if self.settings.tell_routes.is_on() {
                self.owner.tell(&self.rib, &changed, &mut self.actions);
            }
            for at in 0..self.groups.len() {
                self.tell_group(at, &changed, now);
            }
            self.rib.settle(changed);
        }
        if waited {
            // All of it is both a change and what sessions begin with.
            let lags = self.peers.values_mut().filter_map(|peer| peer.lag.as_mut());
            lags.for_each(|lag| lag.merge(&self.rib));
        }
        for source in std::mem::take(&mut self.retired) {
            self.rib.neighbours.remove(source);
        }
        let behind: Vec<PeerName> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.lag.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in behind {
            self.catch_up(&name, now);
            self.follow(&name, now);
        }
    }

    /// Tells a group of changes: members that keep pace share the octets, the others take note.
    fn tell_group(&mut self, at: usize, changed: &[Slot], now: Instant) {
        let Self {
            groups, peers, rib, ..
        } = self;
        let Some(Some(group)) = groups.get_mut(at) else {
            return;
        };
        let mut in_step: Vec<(PeerName, Told)> = Vec::new();
        let mut behind: Vec<(&mut Lag, Told)> = Vec::new();
        for peer in peers.values_mut().filter(|peer| peer.group == Some(at)) {
            let Some(told) = peer.told() else {
                continue;
            };
            let busy = peer.session.unsent() >= BUSY || changed.len() > MANY;
            if busy && peer.lag.is_none() {
                peer.lag = Some(Lag::default());
            }
            match &mut peer.lag {
                Some(lag) => behind.push((lag, told)),
                None => in_step.push((peer.name.clone(), told)),
            }
        }
        let hearing: Vec<Told> = in_step.iter().map(|(_, told)| *told).collect();
        let mut pack = Pack::for_members(&hearing);
        let mut note = |transition: Transition| {
            for (lag, told) in &mut behind {
                lag.note(&transition, *told);
            }
        };
        for slot in changed {
            group.change(rib, *slot, &mut pack, &mut note);
        }
        for (lag, _) in &mut behind {
            lag.trim(rib);
        }
        if pack.is_empty() {
            return;
        }
        let messages = pack.encode(&group.exporter, rib, |audience| {
            in_step.iter().any(|(_, told)| audience.includes(*told))
        });
        for (audience, octets) in messages {
            let octets: Arc<[u8]> = octets.into();
            let count = updates(&octets);
            for (name, told) in &in_step {
                if audience.includes(*told)
                    && let Some(peer) = self.peers.get_mut(name)
                {
                    peer.counts.updates_out += count;
                    peer.session.send_update(octets.clone(), now);
                }
            }
        }
        for (name, _) in in_step {
            self.follow(&name, now);
        }
    }

    /// Tells a peer what it lacks, as long as its connection takes it.
    fn catch_up(&mut self, name: &PeerName, now: Instant) {
        let Self {
            groups, peers, rib, ..
        } = self;
        let Some(peer) = peers.get_mut(name) else {
            return;
        };
        let group = peer.group.and_then(|at| groups.get(at)?.as_ref());
        let (Some(group), Some(told), Some(lag)) = (group, peer.told(), &mut peer.lag) else {
            return;
        };
        while peer.session.unsent() < BUSY {
            let Some(octets) = lag.next(group, rib, told) else {
                peer.lag = None;
                return;
            };
            peer.counts.updates_out += updates(&octets);
            peer.session.send_update(octets.into(), now);
        }
    }

    /// Puts every established peer into the group that is told as it is to be told.
    pub(super) fn regroup(&mut self) {
        let Self {
            groups,
            peers,
            rib,
            settings,
            ..
        } = self;
        for peer in peers.values_mut() {
            let (Some(exporter), Some(told)) = (peer.exporter(settings), peer.told()) else {
                continue;
            };
            let current = peer.group.and_then(|at| groups.get(at)?.as_ref());
            if current.is_some_and(|group| group.exporter == exporter) {
                continue;
            }
            let known = groups
                .iter()
                .position(|group| group.as_ref().is_some_and(|g| g.exporter == exporter));
            let at = known.unwrap_or_else(|| {
                let group = Some(Group::new(exporter, rib));
                if let Some(free) = groups.iter().position(Option::is_none) {
                    groups[free] = group;
                    free
                } else {
                    groups.push(group);
                    groups.len() - 1
                }
            });
            let Some(Some(new)) = groups.get(at) else {
                continue;
            };
            let old = peer.group.and_then(|at| groups.get(at)?.as_ref());
            if let Some(old) = old {
                let lag = peer.lag.get_or_insert_default();
                lag.regroup(old, new, rib, told);
            } else {
                let families = peer.agreed().map(|agreed| agreed.families.clone());
                let families = families.unwrap_or_default();
                peer.lag = Some(Lag::start(new, rib, told, &families));
            }
            peer.group = Some(at);
        }
        self.drop_empty_groups();
    }

    pub(super) fn drop_empty_groups(&mut self) {
        for (at, group) in self.groups.iter_mut().enumerate() {
            if !self.peers.values().any(|peer| peer.group == Some(at)) {
                *group = None;
            }
        }
    }
}

/// How many of these messages of our own are UPDATEs.
fn updates(mut messages: &[u8]) -> u64 {
    let mut count = 0;
    while let Ok(Some(frame)) = wire::take_frame_of(&mut messages, MAX_EXTENDED) {
        count += u64::from(frame.kind == MessageType::Update);
    }
    count
}
