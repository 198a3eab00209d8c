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
        // Before End-of-RIB there is no beginning, where the peer says that (RFC 7313 §4).
        let told = |family| !agreed.ends_rib.is_on() || peer.end_of_rib.contains(&family);
        match message {
            RouteRefresh::Request(family) if families.contains(&family) => {
                self.answer(name, family, now);
            }
            RouteRefresh::Begin(family)
                if enhanced && families.contains(&family) && told(family) =>
            {
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

    /// Tells a peer all routes of a family again. Where RFC 7313 was agreed on, not before it has all of them a first time:
    /// no beginning may go before End-of-RIB (§4).
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
        if !enhanced {
            lag.all(group, rib, told, |of| of == family);
            lag.then(End::OfRib(family));
        } else if lag.owes_end_of_rib(family) {
            lag.once_more(family);
        } else {
            lag.all(group, rib, told, |of| of == family);
            lag.then(End::OfRefresh(family));
            let begin = encode_route_refresh_mark(family, RefreshMark::Begin);
            peer.session.send_update(begin.into(), now);
        }
    }

    /// Forgets what a peer told of some families before the filter.
    pub(super) fn forget_kept(&mut self, name: &PeerName, of: impl Fn(Family) -> bool) {
        if let Some(peer) = self.peers.get_mut(name) {
            peer.kept.forget(&mut self.rib.store, of);
        }
    }

    /// The import filter of a peer is another now, or the limits leave more room: its routes go through again, from what
    /// was kept if that is all of them.
    pub(super) fn filter_changed(&mut self, name: &PeerName, now: Instant) {
        let Some(peer) = self.peers.get(name) else {
            return;
        };
        if peer.agreed().is_some() && peer.settings.keep_received.is_on() && peer.kept.is_whole() {
            if let Some((family, limit)) = self.filter_again(name) {
                self.limit_broken(name, family, limit, now);
            }
        } else {
            self.import_again(name, now);
        }
    }

    /// Which of a peer's routes can be used has changed, whatever the filter: they are asked for, or come by a new session
    /// if the peer cannot be asked. What was kept would not do, as what was refused is not among it.
    pub(super) fn import_again(&mut self, name: &PeerName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.generation = peer.generation.wrapping_add(1);
        let Some(agreed) = peer.agreed().cloned() else {
            return;
        };
        if agreed.refresh.is_on() {
            peer.kept.forget(&mut self.rib.store, |_| true);
            for family in &agreed.families {
                let message = encode_route_refresh(*family);
                peer.session.send_update(message.into(), now);
            }
            self.follow(name, now);
        } else {
            self.stop(name, Cease::AdministrativeReset, Down::Settings, now);
            self.start(name, now);
        }
    }
}
