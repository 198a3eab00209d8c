//! The loop that owns the speaker.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use margay_bgp::session::Failure;
use margay_bgp::{Action, ConnectionId, Event, PeerName, RouteChange, Speaker, State};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use crate::clock::now;
use crate::connection::{self, Handle};
use crate::{Settings, Status, listener};

/// What other tasks tell the driver.
#[derive(Debug)]
pub(crate) enum Io {
    /// Somebody dialled us.
    Accepted(TcpStream, SocketAddr),
    /// A dial succeeded, from this address.
    Connected(ConnectionId, IpAddr),
    /// A dial failed or a connection ended.
    Closed(ConnectionId, Failure),
    /// Octets came.
    Received(ConnectionId, Vec<u8>),
    /// The kernel took so many octets.
    Sent(ConnectionId, usize),
    /// Listening works, or not.
    Listening(SocketAddr, Result<(), String>),
}

/// Events that may wait; whoever tells more has to wait itself.
const EVENTS: usize = 256;
/// How long the streams have for last words when all ends.
const GOODBYE: Duration = Duration::from_secs(1);

/// The status is published at once, and again after so long at the earliest: it holds every peer.
const STATUS_PAUSE: Duration = Duration::from_millis(20);

/// Owns the speaker and everything it acts on.
pub(crate) struct Driver {
    settings: watch::Receiver<Settings>,
    routes: mpsc::Sender<Vec<RouteChange>>,
    status: watch::Sender<Status>,
    speaker: Speaker,
    connections: BTreeMap<ConnectionId, Handle>,
    accepted: u64,
    listeners: BTreeMap<SocketAddr, (AbortHandle, Result<(), String>)>,
    tasks: JoinSet<()>,
    events: mpsc::Sender<Io>,
    incoming: mpsc::Receiver<Io>,
    /// Changes that the owner of the routes has not taken yet.
    changes: BTreeMap<IpNet, RouteChange>,
    /// When the status was last published.
    published: Option<Instant>,
    /// Whether something has happened since.
    news: bool,
    /// What was last logged of a peer that is down.
    reasons: BTreeMap<PeerName, String>,
}

impl Driver {
    pub(crate) fn new(
        mut settings: watch::Receiver<Settings>,
        routes: mpsc::Sender<Vec<RouteChange>>,
        status: watch::Sender<Status>,
    ) -> Self {
        let seed = RandomState::new().build_hasher().finish();
        let first = settings.borrow_and_update().clone();
        let (events, incoming) = mpsc::channel(EVENTS);
        let mut driver = Self {
            settings,
            routes,
            status,
            speaker: Speaker::new(first.speaker, seed, now()),
            connections: BTreeMap::new(),
            accepted: 0,
            listeners: BTreeMap::new(),
            tasks: JoinSet::new(),
            events,
            incoming,
            changes: BTreeMap::new(),
            published: None,
            news: true,
            reasons: BTreeMap::new(),
        };
        driver.listen(&first.listen);
        driver
    }

    pub(crate) async fn run(mut self) {
        let routes = self.routes.clone();
        loop {
            self.act();
            let publish_at = self.publish_when_due();
            let due = self
                .speaker
                .poll_timeout()
                .into_iter()
                .chain(publish_at)
                .min();
            let timer = async move {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.settings.changed() => match changed {
                    Ok(()) => self.set_settings(),
                    Err(_) => break,
                },
                // Never `None`: the driver has a sender itself.
                Some(event) = self.incoming.recv() => {
                    self.handle(event);
                    // Whatever waits already is taken in before anything is told to others: one answer.
                    for _ in 1..EVENTS {
                        let Ok(event) = self.incoming.try_recv() else { break };
                        self.handle(event);
                    }
                }
                () = timer => {
                    // After the whole process was held up, what came meanwhile counts before what ran out.
                    tokio::task::yield_now().await;
                    while let Ok(event) = self.incoming.try_recv() {
                        self.handle(event);
                    }
                    self.speaker.handle_timeout(now());
                    self.news = true;
                }
                Ok(place) = routes.reserve(), if !self.changes.is_empty() => {
                    place.send(std::mem::take(&mut self.changes).into_values().collect());
                }
                Some(_) = self.tasks.join_next() => {}
            }
        }
        self.end().await;
    }

    /// Ends every session in order.
    async fn end(mut self) {
        self.speaker.shut_down(now());
        self.act();
        self.publish();
        for (listener, _) in self.listeners.values() {
            listener.abort();
        }
        self.connections.clear();
        let Self {
            tasks, incoming, ..
        } = &mut self;
        // Streams that report something must not be held up by nobody listening.
        let all = async {
            loop {
                tokio::select! {
                    _ = incoming.recv() => {}
                    ended = tasks.join_next() => if ended.is_none() { break },
                }
            }
        };
        if tokio::time::timeout(GOODBYE, all).await.is_err() {
            debug!("some peers did not take their goodbye");
        }
    }

    fn set_settings(&mut self) {
        self.news = true;
        let settings = self.settings.borrow_and_update().clone();
        self.listen(&settings.listen);
        let event = Event::Settings(settings.speaker);
        self.speaker.handle_event(event, now());
    }

    /// Listens at these places and no others.
    fn listen(&mut self, places: &[SocketAddr]) {
        self.listeners.retain(|place, (task, _)| {
            let keep = places.contains(place);
            if !keep {
                task.abort();
            }
            keep
        });
        for place in places {
            if !self.listeners.contains_key(place) {
                let task = listener::listen(*place, self.events.clone());
                let task = self.tasks.spawn(task);
                let state = Err("not tried yet".to_owned());
                self.listeners.insert(*place, (task, state));
            }
        }
    }

    fn handle(&mut self, event: Io) {
        self.news = true;
        match event {
            Io::Accepted(stream, remote) => self.accept(stream, remote.ip()),
            Io::Connected(connection, local) => {
                self.tell(Event::Connected { connection, local });
            }
            Io::Closed(connection, why) => {
                self.connections.remove(&connection);
                self.tell(Event::Closed { connection, why });
            }
            Io::Received(connection, octets) => {
                let octets = &octets;
                self.tell(Event::Received { connection, octets });
            }
            Io::Sent(connection, octets) => self.tell(Event::Sent { connection, octets }),
            Io::Listening(place, result) => {
                if let Some((_, state)) = self.listeners.get_mut(&place) {
                    match &result {
                        Ok(()) => info!(%place, "listening"),
                        Err(error) if *state != result => warn!(%place, error, "not listening"),
                        Err(_) => {}
                    }
                    *state = result;
                }
            }
        }
    }

    fn accept(&mut self, stream: TcpStream, remote: IpAddr) {
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let connection = ConnectionId::Accepted(self.accepted);
        self.accepted += 1;
        let (handle, task) = connection::new(connection, self.events.clone());
        self.connections.insert(connection, handle);
        self.tasks.spawn(task.carry(stream));
        self.tell(Event::Accepted {
            connection,
            local: local.ip(),
            remote,
        });
    }

    fn tell(&mut self, event: Event<'_>) {
        self.speaker.handle_event(event, now());
    }

    /// Does what the speaker wants.
    fn act(&mut self) {
        while let Some(action) = self.speaker.poll_action() {
            match action {
                Action::Connect {
                    connection,
                    to,
                    source,
                } => {
                    let (handle, task) = connection::new(connection, self.events.clone());
                    self.connections.insert(connection, handle);
                    self.tasks.spawn(task.dial(to, source));
                }
                Action::Send { connection, octets } => {
                    if let Some(handle) = self.connections.get(&connection) {
                        // A task that has just ended has said so, or will.
                        let _ = handle.send.send(octets);
                    }
                }
                Action::Close { connection } => {
                    self.connections.remove(&connection);
                }
                Action::Route(change) => {
                    self.changes.insert(change.prefix, change);
                }
                Action::StateChanged {
                    peer,
                    from,
                    to,
                    reason,
                } => self.log_state(peer, from, to, reason),
                Action::BadUpdate { peer, error } => {
                    warn!(peer = %peer, error, "bad UPDATE, session kept");
                }
                Action::Stranger { remote } => {
                    debug!(%remote, "connection from an address that no peer has, closed");
                }
            }
        }
    }

    /// Sessions that come and go are told, and why one is down when that is news; attempts are not.
    fn log_state(&mut self, peer: PeerName, from: State, to: State, reason: Option<String>) {
        let Some(reason) = reason else {
            self.reasons.remove(&peer);
            info!(%peer, %from, "session established");
            return;
        };
        debug!(%peer, %from, %to, "session state changed");
        let waits = matches!(to, State::Idle | State::Active) && from != State::Idle;
        if waits && self.reasons.get(&peer) != Some(&reason) {
            info!(%peer, reason, "session is down");
            self.reasons.insert(peer, reason);
        }
    }

    /// Makes the status current, or says when to come back.
    fn publish_when_due(&mut self) -> Option<Instant> {
        if !self.news {
            return None;
        }
        let now = now();
        let due = self
            .published
            .map_or(now, |published| published + STATUS_PAUSE);
        if now < due {
            return Some(due);
        }
        self.publish();
        self.published = Some(now);
        self.news = false;
        None
    }

    /// Makes the status current, if it is not.
    fn publish(&mut self) {
        let status = Status {
            peers: self.speaker.status(),
            listeners: self
                .listeners
                .iter()
                .map(|(place, (_, state))| (*place, state.clone()))
                .collect(),
        };
        self.reasons
            .retain(|peer, _| status.peers.contains_key(peer));
        self.status.send_if_modified(|current| {
            let modified = *current != status;
            *current = status;
            modified
        });
    }
}
