//! Settings that change while sessions run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use ipnet::IpNet;

use super::Speaker;
use super::peer::Peer;
use crate::rib::{Path, Source};
use crate::session::{self, Down, Session, Unusable};
use crate::settings::{PeerSettings, Settings};
use crate::types::{Asn, BgpId, PeerName};
use crate::wire::notification::Cease;

impl Speaker {
    pub(super) fn set_settings(&mut self, settings: Settings, now: Instant) {
        let Settings {
            asn,
            bgp_id,
            next_hops,
            peers,
            announce,
            ..
        } = settings;
        let identity_changed = (asn, bgp_id) != (self.settings.asn, self.settings.bgp_id);
        self.settings.asn = asn;
        self.settings.bgp_id = bgp_id;
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            if !peers.contains_key(&name) {
                self.stop(&name, Cease::PeerDeconfigured, Down::Removed, now);
                self.peers.remove(&name);
            }
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
                if let Some(peer) = self.peers.get_mut(name) {
                    peer.set_settings(new.clone(), &self.rib, now);
                }
                self.follow(name, now);
            } else {
                self.stop(name, Cease::AdministrativeReset, Down::Settings, now);
                begin.push((name.clone(), new.clone(), unusable));
            }
        }
        for (name, settings, unusable) in begin {
            let seed = self.jitter.next();
            let session = Session::new(settings.clone(), asn, bgp_id, self.fresh_until, seed, now);
            let peer = Peer::new(name.clone(), settings, session, unusable);
            self.peers.insert(name.clone(), peer);
            self.start(&name, now);
        }
        self.settings.peers = peers;
        self.settings.announce = announce;
        self.announce();
        if next_hops != self.settings.next_hops {
            self.settings.next_hops = next_hops;
            self.refresh_addresses();
        }
    }

    fn start(&mut self, name: &PeerName, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.unusable.is_none()
        {
            peer.session.handle_event(session::Event::ManualStart, now);
        }
        self.follow(name, now);
    }

    pub(super) fn stop(&mut self, name: &PeerName, cease: Cease, down: Down, now: Instant) {
        if let Some(peer) = self.peers.get_mut(name) {
            let event = session::Event::ManualStop(cease, down);
            peer.session.handle_event(event, now);
        }
        self.follow(name, now);
        if let Some(peer) = self.peers.get_mut(name) {
            let void = peer.no_stale();
            self.void(name, void);
        }
    }

    /// Brings own prefixes in the table in line with the settings.
    pub(super) fn announce(&mut self) {
        let wanted: BTreeSet<IpNet> = self.settings.announce.iter().map(IpNet::trunc).collect();
        let gone: Vec<_> = self.announced.difference(&wanted).copied().collect();
        let new: Vec<_> = wanted.difference(&self.announced).copied().collect();
        self.announced = wanted;
        for prefix in gone {
            let selection = self.rib.remove(&prefix, None);
            self.selected(prefix, &selection);
        }
        for prefix in new {
            let path = Path {
                source: Source::Own,
                attrs: self.own_attrs.clone(),
                next_hop: unspecified(&prefix),
            };
            let selection = self.rib.insert(prefix, path);
            self.selected(prefix, &selection);
        }
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
        let problem = if no_host {
            Some(Unusable::Address(address))
        } else if asn == Asn(0) || peer.asn == Asn(0) {
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

/// The unspecified address of a prefix' family.
fn unspecified(prefix: &IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
