//! Settings that change while sessions run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::peer::Peer;
use super::{Action, Speaker};
use crate::session::{self, Down, Session, Unusable};
use crate::settings::{PeerSettings, Settings};
use crate::types::{Asn, BgpId, PeerName};
use crate::wire::PeerKind;
use crate::wire::notification::Cease;

impl Speaker {
    pub(super) fn set_settings(&mut self, settings: Settings, now: Instant) {
        let old = std::mem::replace(&mut self.settings, settings);
        let Settings {
            asn,
            bgp_id,
            next_hops: _,
            peers,
            announce: _,
            announcements: _,
            aggregates: _,
            cluster_id,
            best_path,
            ranges,
            ebgp_requires_policy,
            graceful_shutdown: _,
            honour_graceful_shutdown,
            tell_routes,
            track_next_hops,
            deferral: _,
        } = self.settings.clone();
        let identity_changed = (asn, bgp_id) != (old.asn, old.bgp_id);
        let judged_anew = (cluster_id, ebgp_requires_policy, honour_graceful_shutdown)
            != (
                old.cluster_id,
                old.ebgp_requires_policy,
                old.honour_graceful_shutdown,
            );
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            let range = self.peers.get(&name).and_then(|peer| peer.range.clone());
            let stays = match range {
                None => peers.contains_key(&name),
                Some(range) => !identity_changed && ranges.get(&range) == old.ranges.get(&range),
            };
            if !stays {
                self.stop(&name, Cease::PeerDeconfigured, Down::Removed, now);
                self.peers.remove(&name);
            }
        }
        self.rib.set_rules(best_path);
        let tracked: Vec<IpAddr> = self.tracked_next_hops();
        self.rib.track(track_next_hops.is_on());
        if !track_next_hops.is_on() {
            let forget = tracked.into_iter().map(Action::ForgetNextHop);
            self.actions.extend(forget);
        }
        let usable = check(asn, bgp_id, &peers);
        // First end what must end, so that an address may move from one peer to another at once.
        let mut begin = Vec::new();
        for (name, new) in &peers {
            let unusable = usable.get(name).cloned();
            let keep = self.peers.get(name).is_some_and(|peer| {
                !identity_changed && peer.unusable == unusable && peer.same_session(new)
            });
            if keep {
                self.adjust(name, new, judged_anew, now);
            } else {
                match &new.shut_down {
                    Some(text) => {
                        let down = Down::ShutDown(text.clone());
                        self.stop(name, Cease::AdministrativeShutdown, down, now);
                    }
                    None => self.stop(name, Cease::AdministrativeReset, Down::Settings, now),
                }
                begin.push((name.clone(), new.clone(), unusable));
            }
        }
        for (name, settings, unusable) in begin {
            self.add(name, settings, unusable, now);
        }
        if judged_anew {
            let guests = self.peers.values().filter(|peer| peer.range.is_some());
            for name in guests.map(|peer| peer.name.clone()).collect::<Vec<_>>() {
                self.import_again(&name, now);
            }
        }
        self.originate();
        if tell_routes != old.tell_routes {
            self.owner.forget(&self.rib, &mut self.actions);
            if tell_routes.is_on() {
                let Self {
                    owner,
                    rib,
                    actions,
                    ..
                } = self;
                let all: Vec<_> = crate::types::Family::ALL
                    .into_iter()
                    .flat_map(|family| rib.slots(family))
                    .collect();
                owner.tell(rib, &all, actions);
            }
        }
        self.refresh_addresses();
    }

    /// Adds a peer and begins.
    pub(super) fn add(
        &mut self,
        name: PeerName,
        settings: PeerSettings,
        unusable: Option<Unusable>,
        now: Instant,
    ) {
        let seed = self.jitter.next();
        let Settings { asn, bgp_id, .. } = self.settings;
        let session = Session::new(settings.clone(), asn, bgp_id, self.fresh_until, seed, now);
        let peer = Peer::new(name.clone(), settings, session, unusable);
        self.peers.insert(name.clone(), peer);
        self.start(&name, now);
    }

    /// New settings of a peer whose session stays.
    fn adjust(&mut self, name: &PeerName, new: &PeerSettings, judged_anew: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let needs_policy =
            self.settings.ebgp_requires_policy.is_on() && peer.session.kind() == PeerKind::Ebgp;
        let old = std::mem::replace(&mut peer.settings, new.clone());
        if old != *new {
            peer.session.set_settings(new.clone(), now);
        }
        if old.reflection != new.reflection
            && let (Some(source), Some(neighbour)) = (peer.source, peer.neighbour())
        {
            self.rib.neighbours.set(source, neighbour);
            self.rib.touch(source);
        }
        if !new.keep_received.is_on() {
            self.forget_kept(name, |_| true);
        }
        if old.prefix_limits != new.prefix_limits {
            self.limits_changed(name, &old.prefix_limits, now);
        }
        let has_filter = |settings: &PeerSettings| settings.import_filter.is_some();
        // RFC 8212: without filter there was nothing to keep, or is nothing to be used now.
        let first_or_none = needs_policy && has_filter(&old) != has_filter(new);
        let keeps_now = new.keep_received.is_on() && !old.keep_received.is_on();
        if judged_anew || first_or_none || keeps_now || old.allow_own_as != new.allow_own_as {
            self.import_again(name, now);
        } else if old.import_filter != new.import_filter {
            self.filter_changed(name, now);
        }
        self.follow(name, now);
    }

    pub(super) fn start(&mut self, name: &PeerName, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.unusable.is_none()
        {
            match peer.settings.shut_down.clone() {
                None => peer.session.handle_event(session::Event::ManualStart, now),
                Some(text) => {
                    let (cease, down) = (Cease::AdministrativeShutdown, Down::ShutDown(text));
                    let stop = session::Event::ManualStop(cease, down);
                    peer.session.handle_event(stop, now);
                }
            }
        }
        self.follow(name, now);
    }

    pub(super) fn stop(&mut self, name: &PeerName, cease: Cease, down: Down, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name) {
            let event = session::Event::ManualStop(cease, down);
            peer.session.handle_event(event, now);
        }
        self.follow(name, now);
        self.void(name);
    }
}

/// The peers whose settings cannot be used. Of several with one address the first by name may have it.
fn check(
    asn: Asn,
    bgp_id: BgpId,
    peers: &BTreeMap<PeerName, PeerSettings>,
) -> BTreeMap<PeerName, Unusable> {
    let mut owners: BTreeMap<IpAddr, &PeerName> = BTreeMap::new();
    let mut unusable = BTreeMap::new();
    for (name, peer) in peers {
        let address = peer.address;
        let no_host = address.is_unspecified()
            || address.is_multicast()
            || address == IpAddr::V4(Ipv4Addr::BROADCAST);
        let local_as_zero = peer.local_as.is_some_and(|local| local.asn == Asn(0));
        let problem = if no_host {
            Some(Unusable::Address(address))
        } else if asn == Asn(0) || peer.asn == Asn(0) || local_as_zero {
            Some(Unusable::AsZero)
        } else if bgp_id.0.is_unspecified() {
            Some(Unusable::IdZero)
        } else if peer.port == 0 {
            Some(Unusable::PortZero)
        } else if peer.families.is_empty() {
            Some(Unusable::NoFamily)
        } else if let Some(owner) = owners.get(&address) {
            Some(Unusable::SameAddress((*owner).clone()))
        } else {
            owners.insert(address, name);
            None
        };
        unusable.extend(problem.map(|problem| (name.clone(), problem)));
    }
    unusable
}
