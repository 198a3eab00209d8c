//! What others than the peer tell of it: BFD, and the kernel's counters of what it dropped.

use std::net::IpAddr;
use std::time::Duration;

use margay_bgp::Event;
use margay_bgp::session::Failure;
use tracing::{debug, warn};

use super::Driver;
use crate::bfd::{Bfd, Report, Target, Targets};
use crate::clock::now;
use crate::trouble::{Counters, Trouble};
use crate::{socket, trouble};

/// For how long what the kernel has dropped explains why a peer is down.
const TROUBLE: Duration = Duration::from_secs(30);

impl Driver {
    /// Has BFD watch those peers that want it, from their first session on.
    pub(super) fn watch_peers(&mut self) {
        let mut targets = Targets::new();
        for (name, peer) in self.speaker.status() {
            let transport = self.current.transport(peer.address);
            let Some(settings) = transport.bfd else {
                continue;
            };
            let before = self.watched.get(&name);
            let before = before.filter(|target| target.peer == peer.address);
            let local = peer.local_address.or(before.map(|target| target.local));
            let (Some(local), Ok(scope)) = (local, socket::scope(peer.address, &transport)) else {
                continue;
            };
            let target = Target {
                peer: peer.address,
                local,
                scope,
                hops: transport.ttl.hops(),
                settings,
            };
            targets.insert(name, target);
        }
        if targets == self.watched {
            return;
        }
        self.bfd_status.retain(|name, _| targets.contains_key(name));
        if self.bfd.is_none() {
            match Bfd::start(self.report.clone()) {
                Ok(bfd) => self.bfd = Some(bfd),
                Err(error) => warn!(%error, "no BFD: its thread cannot be started"),
            }
        }
        if let Some(bfd) = &self.bfd {
            bfd.watch(targets.clone());
            self.watched = targets;
        }
    }

    pub(super) fn take_report(&mut self, report: Report) {
        let Report { peer, status, lost } = report;
        self.news = true;
        if !self.watched.contains_key(&peer) {
            return;
        }
        self.bfd_status.insert(peer.clone(), status);
        if let Some(seen_up) = lost {
            let peer = &peer;
            self.tell(Event::BfdDown { peer, seen_up });
        }
    }

    /// Finds out what the kernel has dropped, if a peer is down that this may be about.
    pub(super) fn look_for_trouble(&mut self) {
        let Ok(text) = std::fs::read_to_string(trouble::COUNTERS) else {
            return;
        };
        let dropped = Counters::parse(&text);
        let before = std::mem::replace(&mut self.dropped, dropped);
        let now = now();
        self.troubles.retain(|_, (_, seen)| now < *seen + TROUBLE);
        if dropped == before {
            return;
        }
        let mut silent = Vec::new();
        for (name, peer) in &self.current.speaker.peers {
            let transport = self.current.transport(peer.address);
            if let Some(trouble) = dropped.since(before, &transport) {
                self.news = true;
                self.troubles.insert(name.clone(), (trouble, now));
                silent.push(peer.address);
            }
        }
        // The kernel drops the end of such a stream too: whoever waited for it would wait for long.
        let useless = self.connections.iter().filter(|(_, connection)| {
            let mut peers = silent.iter();
            peers.any(|peer| connection.is_silence_of(*peer))
        });
        for id in useless.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.connections.remove(&id);
            self.tell(Event::Closed {
                connection: id,
                why: Failure::TimedOut,
            });
        }
    }

    pub(super) fn came_from_afar(&mut self, remote: IpAddr, ttl: u8) {
        let peers = &self.current.speaker.peers;
        if let Some((name, _)) = peers.iter().find(|(_, peer)| peer.address == remote) {
            let trouble = Trouble::TooFar { ttl: Some(ttl) };
            self.troubles.insert(name.clone(), (trouble, now()));
        }
        debug!(%remote, ttl, "connection from too far away, closed");
    }
}
