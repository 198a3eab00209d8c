//! The speaker: many sessions, one table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::interner::Interner;
use crate::jitter::Jitter;
use crate::rib::{LocRib, Path, Selection, Source};
use crate::route::RouteChange;
use crate::session::{self, Down, Failure, Session};
use crate::settings::{PeerSettings, Settings};
use crate::status::PeerStatus;
use crate::types::{PeerName, State};
use crate::wire::notification::Cease;
use crate::wire::{
    MessageType, Notification, Open, PathAttrs, RESTART_TIME, RouteRefresh, Update, take_frame,
};

mod peer;

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

    fn set_settings(&mut self, settings: Settings, now: Instant) {
        let Settings {
            asn,
            bgp_id,
            next_hops,
            peers,
            announce,
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
        let usable = peer::check(asn, bgp_id, &peers);
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

    fn stop(&mut self, name: &PeerName, cease: Cease, down: Down, now: Instant) {
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

    /// Takes routes of a peer out of the table.
    fn void(&mut self, name: &PeerName, prefixes: BTreeSet<IpNet>) {
        for prefix in prefixes {
            let selection = self.rib.remove(&prefix, Some(name));
            self.selected(prefix, &selection);
        }
    }

    /// Brings own prefixes in the table in line with the settings.
    fn announce(&mut self) {
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
                next_hop: peer::unspecified(&prefix),
            };
            let selection = self.rib.insert(prefix, path);
            self.selected(prefix, &selection);
        }
    }

    fn accepted(&mut self, connection: ConnectionId, local: IpAddr, remote: IpAddr, now: Instant) {
        let known = self
            .peers
            .iter()
            .find(|(_, peer)| peer.settings.address == remote && peer.unusable.is_none());
        let Some(name) = known.map(|(name, _)| name.clone()) else {
            self.actions.push_back(Action::Stranger { remote });
            self.actions.push_back(Action::Close { connection });
            return;
        };
        let stream = Stream {
            peer: name.clone(),
            partial: Vec::new(),
        };
        self.streams.insert(connection, stream);
        let event = session::Event::TcpConnectionConfirmed(connection, local.to_canonical());
        self.tell(connection, event, now);
    }

    /// Hands an event to the session that the connection is of.
    fn tell(&mut self, connection: ConnectionId, event: session::Event, now: Instant) {
        let Some(stream) = self.streams.get(&connection) else {
            return;
        };
        let name = stream.peer.clone();
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.session.handle_event(event, now);
        }
        self.follow(&name, now);
    }

    /// Takes whole messages out of what came.
    fn received(&mut self, connection: ConnectionId, octets: &[u8], now: Instant) {
        let Some(stream) = self.streams.get_mut(&connection) else {
            return;
        };
        if stream.partial.is_empty() {
            let left = self.messages(connection, octets, now);
            if let Some(stream) = self.streams.get_mut(&connection) {
                stream.partial = left.to_vec();
            }
        } else {
            let mut whole = std::mem::take(&mut stream.partial);
            whole.extend_from_slice(octets);
            let left = self.messages(connection, &whole, now).len();
            if let Some(stream) = self.streams.get_mut(&connection) {
                whole.drain(..whole.len() - left);
                stream.partial = whole;
            }
        }
    }

    /// Acts on every whole message in `octets`; gives back the rest. Ends early when the connection does.
    fn messages<'a>(
        &mut self,
        connection: ConnectionId,
        mut octets: &'a [u8],
        now: Instant,
    ) -> &'a [u8] {
        while self.streams.contains_key(&connection) {
            match take_frame(&mut octets) {
                Ok(None) => return octets,
                Ok(Some(frame)) => self.message(connection, frame.kind, frame.body, now),
                Err(error) => {
                    let event = session::Event::BgpHeaderErr(connection, error);
                    self.tell(connection, event, now);
                }
            }
        }
        &[]
    }

    fn message(&mut self, connection: ConnectionId, kind: MessageType, body: &[u8], now: Instant) {
        let event = match kind {
            MessageType::Open => match Open::decode(body) {
                Ok(open) => session::Event::BgpOpen(connection, open),
                Err(error) => session::Event::BgpOpenMsgErr(connection, error),
            },
            MessageType::Notification => {
                session::Event::NotifMsg(connection, Notification::decode(body))
            }
            MessageType::Keepalive => session::Event::KeepAliveMsg(connection),
            MessageType::Update => self.update(connection, body),
            MessageType::RouteRefresh => self.route_refresh(connection, body),
        };
        self.tell(connection, event, now);
    }

    /// Takes an UPDATE into the table; says what it means for the session.
    fn update(&mut self, connection: ConnectionId, body: &[u8]) -> session::Event {
        let Some(context) = self.established(connection).map(Peer::context) else {
            return session::Event::UpdateMsg(connection);
        };
        match Update::decode(body, context) {
            Ok(update) => {
                self.apply(connection, update);
                session::Event::UpdateMsg(connection)
            }
            Err(error) => session::Event::UpdateMsgErr(connection, error),
        }
    }

    fn route_refresh(&mut self, connection: ConnectionId, body: &[u8]) -> session::Event {
        if let RouteRefresh::Request(family) = RouteRefresh::decode(body) {
            let Self {
                peers,
                streams,
                rib,
                ..
            } = self;
            let stream = streams.get(&connection);
            if let Some(peer) = stream.and_then(|stream| peers.get_mut(&stream.peer)) {
                peer.refresh(connection, family, rib);
            }
        }
        session::Event::RouteRefreshMsg(connection)
    }

    /// The peer whose established session runs over `connection`.
    fn established(&self, connection: ConnectionId) -> Option<&Peer> {
        let peer = self.peers.get(&self.streams.get(&connection)?.peer)?;
        let (established, ..) = peer.session.established()?;
        (established == connection).then_some(peer)
    }

    fn apply(&mut self, connection: ConnectionId, update: Update<'_>) {
        let Some(name) = self
            .streams
            .get(&connection)
            .map(|stream| stream.peer.clone())
        else {
            return;
        };
        let Self {
            settings,
            peers,
            rib,
            own_addresses,
            interner,
            actions,
            ..
        } = self;
        let Some(peer) = peers.get_mut(&name) else {
            return;
        };
        let importer = peer.importer(settings.asn, settings.bgp_id, own_addresses);
        let changes = peer.apply(update, importer.as_ref(), rib, interner);
        if let Some(error) = peer.complaint.take() {
            let peer = name.clone();
            actions.push_back(Action::BadUpdate { peer, error });
        }
        for (prefix, selection) in changes {
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
