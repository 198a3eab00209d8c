//! ROUTE-REFRESH both ways (RFC 2918, RFC 7313), and import policy that changes while a session runs.

use std::time::Instant;

use super::Speaker;
use crate::export::End;
use crate::rib::{Freshness, Sweep};
use crate::session::{ConnectionId, Down, Event};
use crate::types::{Family, PeerName};
use crate::wire::notification::Cease;
use crate::wire::{RefreshMark, RouteRefresh, encode_route_refresh, encode_route_refresh_mark};

impl Speaker {
    pub(super) fn route_refresh(
        &mut self,
        connection: ConnectionId,
        name: &PeerName,
        body: &[u8],
        now: Instant,
    ) -> Event {
        let message = match RouteRefresh::decode(body) {
            Ok(message) => message,
            Err(error) => return Event::RouteRefreshMsgErr(connection, error),
        };
        let Some(peer) = self.peers.get(name) else {
            return Event::RouteRefreshMsg(connection);
        };
        let (Some(agreed), Some(source)) = (peer.agreed(), peer.source) else {
            return Event::RouteRefreshMsg(connection);
        };
        let (families, enhanced) = (agreed.families.clone(), agreed.enhanced_refresh.is_on());
        match message {
            RouteRefresh::Request(family) if families.contains(&family) => {
                self.answer(name, family, now);
            }
            RouteRefresh::Begin(family) if enhanced && families.contains(&family) => {
                self.forget_kept(name, |of| of == family);
                self.sweep(name, source, |of, freshness, _| {
                    if of == family && freshness == Freshness::Fresh {
                        Sweep::Mark(Freshness::Refreshing)
                    } else {
                        Sweep::Keep
                    }
                });
            }
            RouteRefresh::End(family) if enhanced && families.contains(&family) => {
                self.sweep(name, source, |of, freshness, _| {
                    if of == family && freshness == Freshness::Refreshing {
                        Sweep::Remove
                    } else {
                        Sweep::Keep
                    }
                });
            }
            RouteRefresh::Request(_)
            | RouteRefresh::Begin(_)
            | RouteRefresh::End(_)
            | RouteRefresh::Other => {}
        }
        Event::RouteRefreshMsg(connection)
    }

    /// Tells a peer all routes of a family again.
    fn answer(&mut self, name: &PeerName, family: Family, now: Instant) {
        let Self {
            groups, peers, rib, ..
        } = self;
        let Some(peer) = peers.get_mut(name) else {
            return;
        };
        let group = peer.group.and_then(|at| groups.get(at)?.as_ref());
        let (Some(group), Some(told)) = (group, peer.told()) else {
            return;
        };
        let enhanced = peer.agreed().is_some_and(|a| a.enhanced_refresh.is_on());
        let lag = peer.lag.get_or_insert_default();
        lag.all(group, rib, told, |of| of == family);
        if enhanced {
            lag.then(End::OfRefresh(family));
            let begin = encode_route_refresh_mark(family, RefreshMark::Begin);
            peer.session.send_update(begin.into(), now);
        } else {
            lag.then(End::OfRib(family));
        }
    }

    /// Forgets what a peer told of some families before the filter.
    pub(super) fn forget_kept(&mut self, name: &PeerName, of: impl Fn(Family) -> bool) {
        let Self { peers, rib, .. } = self;
        if let Some(peer) = peers.get_mut(name) {
            peer.kept.retain(|(prefix, _), attrs| {
                let keep = !of(Family::of_prefix(prefix));
                if !keep {
                    rib.store.release(*attrs);
                }
                keep
            });
        }
    }

    /// What a peer's routes become has changed: they go through the new policy, from what was kept, or by asking the
    /// peer for them, or by a new session if it cannot be asked.
    pub(super) fn import_again(&mut self, name: &PeerName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.generation = peer.generation.wrapping_add(1);
        let Some(agreed) = peer.agreed().cloned() else {
            return;
        };
        if !peer.kept.is_empty() {
            self.filter_again(name);
        } else if agreed.refresh.is_on() {
            for family in &agreed.families {
                let message = encode_route_refresh(*family);
                peer.session.send_update(message.into(), now);
            }
        } else {
            self.stop(name, Cease::AdministrativeReset, Down::Settings, now);
            self.start(name, now);
        }
    }
}
