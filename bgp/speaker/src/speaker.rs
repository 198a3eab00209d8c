//! The speaker: many sessions, one table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::export::Group;
use crate::jitter::Jitter;
use crate::rib::{LocRib, Reach, SourceId};
use crate::route::RouteChange;
use crate::session::{self, Down, Failure};
use crate::settings::Settings;
use crate::types::{PeerName, State};
use crate::wire::RESTART_TIME;
use crate::wire::notification::Cease;

mod configure;
mod flush;
mod input;
mod kept;
mod limits;
mod originate;
mod owner;
mod peer;
mod reach;
mod recent;
mod refresh;
mod restart;
mod routes;
mod sessions;
mod status;
mod view;

pub use crate::session::ConnectionId;
pub use view::{Destination, PathView};

use owner::Owner;
use peer::Peer;
use reach::Waiting;
use recent::Recent;

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
    /// These next hops are reached so now; others are as they were. Only those of [`Action::TrackNextHop`] count.
    NextHops(BTreeMap<IpAddr, Reach>),
    /// BFD says that a peer cannot be reached (RFC 5882 §4.2): its session ends with Cease 10, if it was there already
    /// when BFD last knew that the peer could be reached.
    BfdDown {
        /// Which.
        peer: &'a PeerName,
        /// When that was.
        seen_up: Instant,
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
        /// Whole messages; peers that are told the same share them.
        octets: Arc<[u8]>,
    },
    /// Close when everything is sent, or give the dial up. No event is expected any more.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Routes have this next hop: say how it is reached ([`Event::NextHops`]), now and whenever that changes. Until
    /// then they are not used.
    TrackNextHop(IpAddr),
    /// No route has this next hop any more.
    ForgetNextHop(IpAddr),
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
        /// The UPDATE, without its header.
        octets: Vec<u8>,
    },
    /// A message of a peer ended a session, or a connection that was to become one (for the log; why is told with the
    /// state).
    BadMessage {
        /// Who.
        peer: PeerName,
        /// The message, without its header; of what has none that can be read, what came.
        octets: Vec<u8>,
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
    /// Peers that are told the same; a place is used again when its last member has left.
    groups: Vec<Option<Group>>,
    owner: Owner,
    recent: Recent,
    /// Room for the key of [`Recent`].
    key: Vec<u8>,
    /// Numbers in the table that nobody uses any more; free once all changes are told.
    retired: Vec<SourceId>,
    /// What of the settings' prefixes is in the table.
    announced: BTreeMap<IpNet, originate::Origination>,
    /// Own addresses, of the settings and of established sessions.
    own_addresses: BTreeSet<IpAddr>,
    jitter: Jitter,
    /// Until then we count as restarted (RFC 4724 §4.1).
    fresh_until: Instant,
    /// Whether what there is to tell waits after the start.
    waiting: Option<Waiting>,
    dials: u64,
    actions: VecDeque<Action>,
}

impl Speaker {
    /// A speaker with these settings; `seed` makes its timers differ from others'.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let mut jitter = Jitter::new(seed);
        let mut speaker = Self {
            settings: Settings::new(settings.asn, settings.bgp_id),
            peers: BTreeMap::new(),
            streams: BTreeMap::new(),
            rib: LocRib::new(jitter.next()),
            groups: Vec::new(),
            owner: Owner::default(),
            recent: Recent::default(),
            key: Vec::new(),
            retired: Vec::new(),
            announced: BTreeMap::new(),
            own_addresses: BTreeSet::new(),
            jitter,
            waiting: settings
                .deferral
                .map(|deferral| Waiting::new(deferral, now)),
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
        let sessions = self.peers.values().filter_map(Peer::poll_timeout);
        let waiting = self.waiting.as_ref().map(Waiting::poll_timeout);
        sessions.chain(waiting).min()
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
                if peer.restart.poll_timeout().is_some_and(|at| at <= now) {
                    self.stale_expired(&name, now);
                }
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
                self.originate();
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
            Event::Received { connection, octets } => self.take_in(connection, octets, now),
            Event::NextHops(reach) => self.rib.set_reach(reach),
            Event::BfdDown {
                peer: name,
                seen_up,
            } => {
                if let Some(peer) = self.peers.get_mut(name) {
                    let event = session::Event::BfdDown { seen_up };
                    peer.session.handle_event(event, now);
                }
                self.follow(name, now);
            }
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
        self.flush(now);
    }
}

#[cfg(test)]
mod tests;
