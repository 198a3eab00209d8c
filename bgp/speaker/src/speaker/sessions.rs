//! What sessions want done.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::{Action, ConnectionId, Speaker, Stream};
use crate::session;
use crate::settings::PeerSettings;
use crate::types::{PeerName, State};

impl Speaker {
    /// Does what a session wants.
    pub(super) fn follow(&mut self, name: &PeerName, now: Instant) {
        while let Some(peer) = self.peers.get_mut(name) {
            let Some(action) = peer.session.poll_action() else {
                break;
            };
            match action {
                session::Action::Dial => {
                    let connection = ConnectionId::Dialled(self.dials);
                    self.dials += 1;
                    peer.session.dialling(connection, now);
                    let PeerSettings {
                        address,
                        port,
                        source,
                        ..
                    } = peer.settings;
                    self.streams.insert(connection, Stream::of(name));
                    self.actions.push_back(Action::Connect {
                        connection,
                        to: SocketAddr::new(address, port),
                        source,
                    });
                }
                session::Action::Send(connection, octets) => {
                    peer.counts.octets_out += octets.len() as u64;
                    self.actions.push_back(Action::Send { connection, octets });
                }
                session::Action::Close(connection) => {
                    self.streams.remove(&connection);
                    self.actions.push_back(Action::Close { connection });
                }
                session::Action::Up(_) => self.up(name, now),
                session::Action::Down(ending) => {
                    peer.forget_session();
                    peer.generation = peer.generation.wrapping_add(1);
                    self.recent.clear(&mut self.rib.store);
                    self.drop_empty_groups();
                    self.lost(name, ending, now);
                    self.refresh_addresses();
                }
            }
        }
        self.note_state(name);
        self.drop_finished_guest(name);
    }

    /// The session is established.
    fn up(&mut self, name: &PeerName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.counts.sessions += 1;
        peer.generation = peer.generation.wrapping_add(1);
        let Some(neighbour) = peer.neighbour() else {
            return;
        };
        match peer.source {
            Some(source) => {
                self.rib.neighbours.set(source, neighbour);
                self.rib.select_again();
            }
            None => peer.source = self.rib.neighbours.add(neighbour),
        }
        // It tells everything anew.
        self.forget_kept(name, |_| true);
        self.restarted(name, now);
        self.refresh_addresses();
    }

    fn note_state(&mut self, name: &PeerName) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let to = peer.session.state();
        let from = std::mem::replace(&mut peer.noted, to);
        if from != to {
            let reason = (to != State::Established).then(|| peer.session.reason());
            self.actions.push_back(Action::StateChanged {
                peer: name.clone(),
                from,
                to,
                reason,
            });
        }
    }

    /// Finds out anew which addresses are ours and which stand as next hops.
    pub(super) fn refresh_addresses(&mut self) {
        let configured = [
            self.settings.next_hops.v4.map(IpAddr::V4),
            self.settings.next_hops.v6.map(IpAddr::V6),
        ];
        let sessions = self.peers.values();
        let local: BTreeSet<IpAddr> = sessions
            .filter_map(|peer| peer.session.established().map(|(.., local)| local))
            .collect();
        for peer in self.peers.values_mut() {
            peer.choose_next_hops(self.settings.next_hops, &local);
        }
        let own = local.into_iter().chain(configured.into_iter().flatten());
        let own: BTreeSet<IpAddr> = own.collect();
        if own != self.own_addresses {
            self.own_addresses = own;
            // What was judged by the old ones is to be judged again.
            self.recent.clear(&mut self.rib.store);
        }
        self.regroup();
    }

    /// A peer of a range is forgotten when its session and its routes are gone.
    pub(super) fn drop_finished_guest(&mut self, name: &PeerName) {
        let finished = self.peers.get(name).is_some_and(|peer| {
            peer.range.is_some() && peer.source.is_none() && peer.session.is_quiet()
        });
        if finished && !self.streams.values().any(|stream| stream.peer == *name) {
            self.peers.remove(name);
        }
    }
}

impl Stream {
    pub(super) fn of(peer: &PeerName) -> Self {
        Self {
            peer: peer.clone(),
            partial: Vec::new(),
        }
    }
}
