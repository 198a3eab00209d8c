//! The speaker: many sessions, one table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::interner::Interner;
use crate::jitter::Jitter;
use crate::rib::{LocRib, Selection};
use crate::route::RouteChange;
use crate::session::{self, Down, Failure};
use crate::settings::{PeerSettings, Settings};
use crate::status::PeerStatus;
use crate::types::{PeerName, State};
use crate::wire::notification::Cease;
use crate::wire::{PathAttrs, RESTART_TIME};

mod configure;
mod input;
mod peer;
mod table;

pub use crate::session::ConnectionId;

use peer::Peer;

/// Above so many octets that the kernel has not taken, changes are collected instead of sent.
const BUSY: usize = 64 * 1024;

/// What a driver saw, or an owner wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The settings are these now; only what differs is touched.
    Settings(Settings),
    /// The own prefixes are these now.
    Announce(BTreeSet<IpNet>),
    /// Somebody dialled us.
    Accepted {
        /// Counted by the driver: a [`ConnectionId::Accepted`].
        connection: ConnectionId,
        /// Our address.
        local: IpAddr,
        /// Theirs.
        remote: IpAddr,
    },
    /// A dial succeeded.
    Connected {
        /// The id of [`Action::Connect`].
        connection: ConnectionId,
        /// Our address.
        local: IpAddr,
    },
    /// A dial failed, or a connection ended.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// How.
        why: Failure,
    },
    /// Octets came.
    Received {
        /// Where.
        connection: ConnectionId,
        /// They need not be whole messages.
        octets: &'a [u8],
    },
    /// The kernel took octets of [`Action::Send`].
    Sent {
        /// Where.
        connection: ConnectionId,
        /// How many.
        octets: usize,
    },
}

/// What the speaker wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial; say [`Event::Connected`] or [`Event::Closed`].
    Connect {
        /// What to call it.
        connection: ConnectionId,
        /// Where to.
        to: SocketAddr,
        /// From which address, if not the kernel's choice.
        source: Option<IpAddr>,
    },
    /// Send; say [`Event::Sent`] as the kernel takes it.
    Send {
        /// Where.
        connection: ConnectionId,
        /// Whole messages.
        octets: Vec<u8>,
    },
    /// Close when everything is sent, or give the dial up. No event is expected any more.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// The kernel's route to a prefix is another one now.
    Route(RouteChange),
    /// A session's state changed (for the log).
    StateChanged {
        /// Whose.
        peer: PeerName,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why it is down; `None` while established.
        reason: Option<String>,
    },
    /// A peer sent something bad that the session survives; told once per session (for the log).
    BadUpdate {
        /// Who.
        peer: PeerName,
        /// What.
        error: String,
    },
    /// A connection from an address that no peer has was closed (for the log).
    Stranger {
        /// The address.
        remote: IpAddr,
    },
}

/// A stream of octets and whose it is.
#[derive(Debug)]
struct Stream {
    peer: PeerName,
    /// The start of a message that is not whole yet.
    partial: Vec<u8>,
}

/// Many sessions, one table; without socket, clock or task.
#[derive(Debug)]
pub struct Speaker {
    settings: Settings,
    peers: BTreeMap<PeerName, Peer>,
    streams: BTreeMap<ConnectionId, Stream>,
    rib: LocRib,
    own_attrs: Arc<PathAttrs>,
    /// What of the settings' prefixes is in the table.
    announced: BTreeSet<IpNet>,
    /// Own addresses, of the settings and of established sessions.
    own_addresses: BTreeSet<IpAddr>,
    interner: Interner,
    jitter: Jitter,
    /// Until then we count as restarted (RFC 4724 §4.1).
    fresh_until: Instant,
    dials: u64,
    actions: VecDeque<Action>,
}

impl Speaker {
    /// A speaker with these settings; `seed` makes its timers differ from others'.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let mut speaker = Self {
            settings: Settings {
                peers: BTreeMap::new(),
                announce: BTreeSet::new(),
                ..settings.clone()
            },
            peers: BTreeMap::new(),
            streams: BTreeMap::new(),
            rib: LocRib::default(),
            own_attrs: Arc::default(),
            announced: BTreeSet::new(),
            own_addresses: BTreeSet::new(),
            interner: Interner::default(),
            jitter: Jitter::new(seed),
            fresh_until: now + Duration::from_secs(RESTART_TIME.into()),
            dials: 0,
            actions: VecDeque::new(),
        };
        speaker.handle_event(Event::Settings(settings), now);
        speaker
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Speaker::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.peers.values();
        sessions.filter_map(Peer::poll_timeout).min()
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.poll_timeout().is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if let Some(peer) = self.peers.get_mut(&name) {
                peer.session.handle_timeout(now);
                let void = peer.stale_expired(now);
                self.void(&name, void);
            }
            self.follow(&name, now);
        }
        self.flush(now);
    }

    /// Acts on one event.
    pub fn handle_event(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Settings(settings) => self.set_settings(settings, now),
            Event::Announce(prefixes) => {
                self.settings.announce = prefixes;
                self.announce();
            }
            Event::Accepted {
                connection,
                local,
                remote,
            } => self.accepted(connection, local, remote.to_canonical(), now),
            Event::Connected { connection, local } => {
                let event = session::Event::TcpCrAcked(connection, local.to_canonical());
                self.tell(connection, event, now);
            }
            Event::Closed { connection, why } => {
                let event = session::Event::TcpConnectionFails(connection, why);
                self.tell(connection, event, now);
                self.streams.remove(&connection);
            }
            Event::Received { connection, octets } => self.received(connection, octets, now),
            Event::Sent { connection, octets } => {
                self.tell(connection, session::Event::Sent(connection, octets), now);
            }
        }
        self.flush(now);
    }

    /// Ends all sessions in order. What is left of the actions are NOTIFICATIONs and closes.
    pub fn shut_down(&mut self, now: Instant) {
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.stop(&name, Cease::AdministrativeShutdown, Down::Stopped, now);
        }
    }

    /// How the sessions are.
    pub fn status(&self) -> BTreeMap<PeerName, PeerStatus> {
        self.peers
            .iter()
            .map(|(name, peer)| (name.clone(), peer.status()))
            .collect()
    }

    /// The table.
    pub fn rib(&self) -> &LocRib {
        &self.rib
    }

    /// Takes routes of a peer out of the table.
    fn void(&mut self, name: &PeerName, prefixes: BTreeSet<IpNet>) {
        for prefix in prefixes {
            let selection = self.rib.remove(&prefix, Some(name));
            self.selected(prefix, &selection);
        }
    }

    /// Passes a change of the selection on: to the owner of the routes, and to the peers.
    fn selected(&mut self, prefix: IpNet, selection: &Selection) {
        if let Some(change) = selection.route_change(prefix) {
            self.actions.push_back(Action::Route(change));
        }
        if selection.best_changed() {
            for peer in self.peers.values_mut() {
                peer.touch(prefix);
            }
        }
    }

    /// Does what a session wants.
    fn follow(&mut self, name: &PeerName, now: Instant) {
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
                    let stream = Stream {
                        peer: name.clone(),
                        partial: Vec::new(),
                    };
                    self.streams.insert(connection, stream);
                    self.actions.push_back(Action::Connect {
                        connection,
                        to: SocketAddr::new(address, port),
                        source,
                    });
                }
                session::Action::Send(connection, octets) => {
                    self.actions.push_back(Action::Send { connection, octets });
                }
                session::Action::Close(connection) => {
                    self.streams.remove(&connection);
                    self.actions.push_back(Action::Close { connection });
                }
                session::Action::Up(_) => {
                    let void = peer.up(&self.rib, now);
                    self.void(name, void);
                    self.refresh_addresses();
                }
                session::Action::Down(ending) => {
                    let void = peer.down(ending, self.rib.told_by(name), now);
                    self.void(name, void);
                    self.refresh_addresses();
                }
            }
        }
        self.note_state(name);
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
    fn refresh_addresses(&mut self) {
        let configured = [
            self.settings.next_hops.v4.map(IpAddr::V4),
            self.settings.next_hops.v6.map(IpAddr::V6),
        ];
        let sessions = self.peers.values();
        let local: BTreeSet<IpAddr> = sessions
            .filter_map(|peer| peer.session.established().map(|(.., local)| local))
            .collect();
        for peer in self.peers.values_mut() {
            peer.set_next_hops(self.settings.next_hops, &local, &self.rib);
        }
        self.own_addresses = local
            .into_iter()
            .chain(configured.into_iter().flatten())
            .collect();
    }

    /// Tells peers what there is to tell, unless their connection is busy.
    fn flush(&mut self, now: Instant) {
        let asn = self.settings.asn;
        let mut spoke = Vec::new();
        for (name, peer) in &mut self.peers {
            let Some(exporter) = peer.exporter(asn) else {
                continue;
            };
            while peer.session.unsent() < BUSY
                && let Some(message) = peer.out.next_message(&self.rib, &exporter)
            {
                peer.session.send_update(message, now);
            }
            spoke.push(name.clone());
        }
        for name in spoke {
            self.follow(&name, now);
        }
    }
}

#[cfg(test)]
mod tests;
