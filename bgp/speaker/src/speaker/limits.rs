//! How many prefixes a peer may announce (RFC 4271 §6.7).

use std::collections::BTreeMap;
use std::time::Instant;

use ipnet::IpNet;

use super::Speaker;
use super::peer::Peer;
use crate::rib::{Freshness, LocRib, SourceId};
use crate::session;
use crate::settings::{LimitAction, PrefixLimit};
use crate::types::{Family, PeerName};

impl Peer {
    /// How many paths of a family may be there, behind the filter or kept before it.
    pub(super) fn room(&self, family: Family) -> u32 {
        room(self.settings.prefix_limits.get(&family))
    }

    /// The limit that a further path would break. Paths that the peer has yet to tell again (stale ones, and those that
    /// an answer to ROUTE-REFRESH has not come to) do not count: who is back with other prefixes announces no more than
    /// before. All together are never more than twice as many as are allowed.
    pub(super) fn over_limit(
        &self,
        rib: &LocRib,
        source: SourceId,
        family: Family,
        prefix: &IpNet,
        id: u32,
    ) -> Option<PrefixLimit> {
        let limit = *self.settings.prefix_limits.get(&family)?;
        let all = self.counts.paths[family as usize];
        let fresh = self.counts.fresh[family as usize];
        let full = fresh >= limit.max;
        if limit.action == LimitAction::Warn || !(full || all >= limit.max.saturating_mul(2)) {
            return None;
        }
        let known = rib.find(prefix).and_then(|slot| {
            let mut paths = rib.paths(slot).iter();
            paths.find(|path| (path.source, path.id) == (source, id))
        });
        let fits = known.is_some_and(|path| path.freshness == Freshness::Fresh || !full);
        (!fits).then_some(limit)
    }
}

/// How many paths a limit leaves room for.
fn room(limit: Option<&PrefixLimit>) -> u32 {
    match limit {
        Some(limit) if limit.action != LimitAction::Warn => limit.max,
        Some(_) | None => u32::MAX,
    }
}

impl Speaker {
    /// A limit is broken: the session ends if it asks for that.
    pub(super) fn limit_broken(
        &mut self,
        name: &PeerName,
        family: Family,
        limit: PrefixLimit,
        now: Instant,
    ) {
        if let Some(event) = ending(family, limit)
            && let Some(peer) = self.peers.get_mut(name)
        {
            peer.session.handle_event(event, now);
            self.follow(name, now);
        }
    }

    /// The limits of a peer were `old` so far: what is there is held against the new ones, and what the old ones left
    /// out comes in.
    pub(super) fn limits_changed(
        &mut self,
        name: &PeerName,
        old: &BTreeMap<Family, PrefixLimit>,
        now: Instant,
    ) {
        let mut left_out = false;
        for family in Family::ALL {
            let Some(peer) = self.peers.get(name) else {
                return;
            };
            let new = peer.settings.prefix_limits.get(&family).copied();
            let fresh = peer.counts.fresh[family as usize];
            let room_before = room(old.get(&family));
            let room = room(new.as_ref());
            if let Some(limit) = new.filter(|_| fresh > room) {
                self.limit_broken(name, family, limit, now);
            }
            if room < room_before {
                self.trim(name, family, room);
            }
            let blocks = |limit: &PrefixLimit| limit.action == LimitAction::Block;
            left_out |=
                old.get(&family).is_some_and(blocks) && fresh >= room_before && room > fresh;
        }
        if left_out {
            self.filter_changed(name, now);
        }
    }

    /// Takes out what there is no room for any more.
    fn trim(&mut self, name: &PeerName, family: Family, room: u32) {
        let Self { peers, rib, .. } = self;
        let Some(peer) = peers.get_mut(name) else {
            return;
        };
        peer.kept.shrink(&mut rib.store, family, room);
        let Some(source) = peer.source else {
            return;
        };
        let (mut fresh, mut old) = (0, 0);
        let mut excess = Vec::new();
        for slot in rib.slots(family) {
            for path in rib.paths(slot).iter().filter(|path| path.source == source) {
                let count = match path.freshness {
                    Freshness::Fresh => &mut fresh,
                    Freshness::Refreshing | Freshness::Stale | Freshness::LongStale => &mut old,
                };
                *count += 1;
                if *count > room {
                    excess.push((rib.prefix(slot), path.id));
                }
            }
        }
        for (prefix, id) in excess {
            peer.counts.taken(family, rib.remove(&prefix, source, id));
        }
    }
}

/// What a broken limit means for the session, if it ends it.
pub(super) fn ending(family: Family, limit: PrefixLimit) -> Option<session::Event> {
    match limit.action {
        LimitAction::TearDown { restart } => Some(session::Event::PrefixLimit {
            family,
            max: limit.max,
            restart,
        }),
        LimitAction::Warn | LimitAction::Block => None,
    }
}
