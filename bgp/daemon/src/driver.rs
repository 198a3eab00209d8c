//! The loop that owns the speaker, and reads and writes its streams.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use margay_bgp::session::Failure;
use margay_bgp::{Action, ConnectionId, Event, PeerName, RouteChange, Speaker};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use crate::bfd::{Bfd, Report, Targets};
use crate::clock::now;
use crate::connection::{Connection, Reading};
use crate::listener::Passwords;
use crate::reach::{Tracker, watch};
use crate::transport::Transport;
use crate::trouble::{Counters, Trouble};
use crate::{BfdStatus, Question, Settings, Status, listener, socket};

mod status;
mod witnesses;

/// What other tasks tell the driver.
#[derive(Debug)]
pub(crate) enum Io {
    /// Somebody dialled us.
    Accepted(TcpStream),
    /// A dial succeeded.
    Connected(ConnectionId, TcpStream, Transport),
    /// A dial failed.
    NotConnected(ConnectionId, Failure),
    /// There is something to read, or the end.
    Readable(ConnectionId),
    /// The kernel takes octets again.
    Writable(ConnectionId),
    /// The kernel's routes or links are others now.
    RoutesChanged,
    /// Listening works, or not.
    Listening(SocketAddr, Result<(), String>),
}

/// Events that may wait; whoever tells more has to wait itself.
const EVENTS: usize = 256;
/// How long the streams have for last words when all ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// Streams that may say goodbye at a time; more are cut.
const GOODBYES: usize = 256;
/// Read at once at most.
const READ: usize = 256 * 1024;
/// Octets that are a single change rather than part of a flood.
const LITTLE: usize = 1024;
/// Reads of one stream before it is others' turn.
const READS: usize = 4;

/// How often to look at what the kernel has dropped.
const LOOK: Duration = Duration::from_secs(2);

/// Owns the speaker and everything it acts on.
pub(crate) struct Driver {
    settings: watch::Receiver<Settings>,
    /// What of them is in force.
    current: Settings,
    routes: mpsc::Sender<Vec<RouteChange>>,
    status: watch::Sender<Status>,
    speaker: Speaker,
    dials: BTreeMap<ConnectionId, AbortHandle>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Those with something to read.
    readable: BTreeSet<ConnectionId>,
    /// Those that may be written to.
    writable: BTreeSet<ConnectionId>,
    buffer: Box<[u8]>,
    accepted: u64,
    listeners: BTreeMap<SocketAddr, (AbortHandle, Result<(), String>)>,
    passwords: watch::Sender<Passwords>,
    /// What the kernel had dropped when that was last looked at.
    dropped: Counters,
    troubles: BTreeMap<PeerName, (Trouble, Instant)>,
    questions: mpsc::Receiver<Question>,
    /// The thread, once there was somebody to watch.
    bfd: Option<Bfd>,
    watched: Targets,
    bfd_status: BTreeMap<PeerName, BfdStatus>,
    reports: mpsc::UnboundedReceiver<Report>,
    report: mpsc::UnboundedSender<Report>,
    /// Whether there may be others to watch.
    sessions_changed: bool,
    /// Next hops that routes are used by only if there is a way to them.
    tracker: Tracker,
    /// Who tells of changes of the kernel's routes, once that matters.
    routes_watch: Option<AbortHandle>,
    tasks: JoinSet<()>,
    goodbyes: JoinSet<()>,
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
        questions: mpsc::Receiver<Question>,
    ) -> Self {
        let seed = RandomState::new().build_hasher().finish();
        let first = settings.borrow_and_update().clone();
        let (events, incoming) = mpsc::channel(EVENTS);
        let (report, reports) = mpsc::unbounded_channel();
        let mut driver = Self {
            settings,
            routes,
            status,
            speaker: Speaker::new(first.speaker.clone(), seed, now()),
            passwords: watch::Sender::new(Arc::new(first.passwords())),
            current: first.clone(),
            dropped: Counters::default(),
            troubles: BTreeMap::new(),
            questions,
            bfd: None,
            watched: BTreeMap::new(),
            bfd_status: BTreeMap::new(),
            reports,
            report,
            sessions_changed: false,
            tracker: Tracker::default(),
            routes_watch: None,
            dials: BTreeMap::new(),
            connections: BTreeMap::new(),
            readable: BTreeSet::new(),
            writable: BTreeSet::new(),
            buffer: vec![0; READ].into(),
            accepted: 0,
            listeners: BTreeMap::new(),
            tasks: JoinSet::new(),
            goodbyes: JoinSet::new(),
            events,
            incoming,
            changes: BTreeMap::new(),
            published: None,
            news: true,
            reasons: BTreeMap::new(),
        };
        driver.listen(&first.listen);
        driver.look_for_trouble();
        driver
    }

    pub(crate) async fn run(mut self) {
        let routes = self.routes.clone();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.read();
            let busy = self.act() || !self.readable.is_empty();
            if busy {
                // Others' turn, and the kernel's; then on without waiting.
                tokio::task::yield_now().await;
                self.take_in();
            }
            if std::mem::take(&mut self.sessions_changed) {
                self.watch_peers();
            }
            let publish_at = self.publish_when_due();
            let due = self
                .speaker
                .poll_timeout()
                .into_iter()
                .chain(publish_at)
                .chain(busy.then(now))
                .min();
            let timer = async move {
                match due {
                    Some(due) if due <= now() => {}
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
                    self.take_in();
                }
                Ok(place) = routes.reserve(), if !self.changes.is_empty() => {
                    place.send(std::mem::take(&mut self.changes).into_values().collect());
                }
                Some(_) = self.tasks.join_next() => {}
                Some(_) = self.goodbyes.join_next() => {}
                // Never `None`: the driver has a sender itself.
                Some(report) = self.reports.recv() => self.take_report(report),
                Some(question) = self.questions.recv() => question.answer(&self.speaker),
                _ = look.tick() => self.look_for_trouble(),
                () = timer => self.time_out().await,
            }
        }
        self.end().await;
    }

    /// Takes in what other tasks have told.
    fn take_in(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.take_report(report);
        }
        for _ in 0..EVENTS {
            let Ok(event) = self.incoming.try_recv() else {
                break;
            };
            self.handle(event);
        }
    }

    async fn time_out(&mut self) {
        if self.speaker.poll_timeout().is_none_or(|due| now() < due) {
            return;
        }
        // After the whole process was held up, what came meanwhile counts before what ran out.
        tokio::task::yield_now().await;
        self.take_in();
        self.readable = self.connections.keys().copied().collect();
        self.read();
        self.speaker.handle_timeout(now());
        self.news = true;
    }

    /// Reads from every stream that has something, each for its turn.
    fn read(&mut self) {
        for id in std::mem::take(&mut self.readable) {
            if self.read_one(id) {
                self.readable.insert(id);
            }
        }
    }

    /// Whether there may be more.
    fn read_one(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        for _ in 0..READS {
            match connection.read(&mut self.buffer) {
                Reading::Octets(count) => {
                    self.news = true;
                    let event = Event::Received {
                        connection: id,
                        octets: &self.buffer[..count],
                    };
                    self.speaker.handle_event(event, now());
                    // What little came is answered before it is asked for more.
                    if count == self.buffer.len() || count < LITTLE {
                        return true;
                    }
                }
                Reading::Nothing => return false,
                Reading::Ended(why) => {
                    self.news = true;
                    self.connections.remove(&id);
                    let connection = id;
                    self.tell(Event::Closed { connection, why });
                    return false;
                }
            }
        }
        true
    }

    /// Ends every session in order.
    async fn end(mut self) {
        self.speaker.shut_down(now());
        while self.act() {}
        self.publish();
        for (id, connection) in std::mem::take(&mut self.connections) {
            debug!(?id, "left over");
            drop(connection);
        }
        self.tasks.abort_all();
        let all = async { while self.goodbyes.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, all).await.is_err() {
            debug!("some peers did not take their goodbye");
        }
    }

    fn set_settings(&mut self) {
        self.news = true;
        let settings = self.settings.borrow_and_update().clone();
        self.current = settings.clone();
        self.passwords.send_replace(Arc::new(settings.passwords()));
        self.listen(&settings.listen);
        for connection in self.connections.values_mut() {
            if let Ok((_, remote)) = connection.ends() {
                connection.set_transport(settings.transport(remote.ip()));
            }
        }
        self.troubles.clear();
        self.sessions_changed = true;
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
                let passwords = self.passwords.subscribe();
                let task = listener::listen(*place, passwords, self.events.clone());
                let task = self.tasks.spawn(task);
                let state = Err("not tried yet".to_owned());
                self.listeners.insert(*place, (task, state));
            }
        }
    }

    fn handle(&mut self, event: Io) {
        self.news = true;
        match event {
            Io::Accepted(stream) => self.accept(stream),
            Io::Connected(connection, stream, transport) => {
                self.connected(connection, stream, transport);
            }
            Io::NotConnected(connection, why) => {
                self.dials.remove(&connection);
                self.tell(Event::Closed { connection, why });
            }
            Io::Readable(connection) => {
                self.readable.insert(connection);
            }
            Io::Writable(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.writable();
                    self.writable.insert(id);
                }
            }
            Io::RoutesChanged => self.ask_for_ways(true),
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

    fn accept(&mut self, stream: TcpStream) {
        let id = ConnectionId::Accepted(self.accepted);
        let mut stream = Connection::new(stream, Transport::default());
        let Ok((local, remote)) = stream.ends() else {
            return;
        };
        let transport = self.current.transport(remote.ip());
        if !socket::is_on_its_link(remote, &transport) {
            debug!(%remote, "connection from another link than the peer's, closed");
            return;
        }
        if let Some(ttl) = stream.syn_ttl().filter(|ttl| *ttl < transport.ttl.least()) {
            self.came_from_afar(remote.ip(), ttl);
            return;
        }
        // The password is there already: the kernel takes it over from the listener.
        stream.set_transport(transport);
        self.accepted += 1;
        self.connections.insert(id, stream);
        self.tell(Event::Accepted {
            connection: id,
            local: local.ip(),
            remote: remote.ip(),
        });
        // A stranger is closed at once.
        if self.carry_out() {
            self.ask_for_ways(false);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.watch(id, self.events.clone(), &mut self.tasks);
        }
    }

    fn connected(&mut self, id: ConnectionId, stream: TcpStream, transport: Transport) {
        if self.dials.remove(&id).is_none() {
            return;
        }
        let mut stream = Connection::new(stream, transport);
        match stream.ends() {
            Ok((local, remote)) => {
                // The settings may have changed meanwhile.
                stream.set_transport(self.current.transport(remote.ip()));
                stream.watch(id, self.events.clone(), &mut self.tasks);
                self.connections.insert(id, stream);
                self.tell(Event::Connected {
                    connection: id,
                    local: local.ip(),
                });
            }
            Err(error) => self.tell(Event::Closed {
                connection: id,
                why: socket::failure(error),
            }),
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        self.speaker.handle_event(event, now());
    }

    /// Does what the speaker wants, and hands the kernel what it takes. Says whether that gave the speaker
    /// something to do.
    fn act(&mut self) -> bool {
        let mut moved = self.carry_out();
        if moved {
            self.ask_for_ways(false);
        }
        for id in std::mem::take(&mut self.writable) {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let octets = connection.write(id, &self.events, &mut self.tasks);
            if connection.is_broken() {
                self.readable.insert(id);
            }
            if octets > 0 {
                moved = true;
                let connection = id;
                self.tell(Event::Sent { connection, octets });
            }
        }
        moved
    }

    /// Says whether there are new next hops to ask for.
    fn carry_out(&mut self) -> bool {
        let mut ask = false;
        while let Some(action) = self.speaker.poll_action() {
            match action {
                Action::Connect {
                    connection,
                    to,
                    source,
                } => self.dial(connection, to, source),
                Action::Send { connection, octets } => {
                    if let Some(stream) = self.connections.get_mut(&connection) {
                        stream.send(octets);
                        self.writable.insert(connection);
                    }
                }
                Action::Close { connection } => {
                    if let Some(dial) = self.dials.remove(&connection) {
                        dial.abort();
                    }
                    if let Some(mut stream) = self.connections.remove(&connection) {
                        stream.write(connection, &self.events, &mut self.tasks);
                        stream.close(&mut self.goodbyes, GOODBYES);
                    }
                }
                Action::TrackNextHop(address) => {
                    self.tracker.track(address);
                    ask = true;
                }
                Action::ForgetNextHop(address) => self.tracker.forget(address),
                Action::Route(change) => {
                    if !self.routes.is_closed() {
                        self.changes.insert(change.prefix, change);
                    }
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
        ask
    }

    /// Tells the speaker what the kernel says of next hops, of all or of the new ones.
    fn ask_for_ways(&mut self, all: bool) {
        if self.routes_watch.is_none() {
            let events = self.events.clone();
            let task = self.tasks.spawn(async move {
                if let Err(error) = watch(events).await {
                    warn!(%error, "changes of the kernel's routes are not seen any more");
                }
            });
            self.routes_watch = Some(task);
        }
        let news = self.tracker.ask(all);
        if !news.is_empty() {
            self.tell(Event::NextHops(news));
        }
    }

    fn dial(&mut self, id: ConnectionId, to: SocketAddr, source: Option<IpAddr>) {
        let events = self.events.clone();
        let transport = self.current.transport(to.ip());
        let task = self.tasks.spawn(async move {
            let event = match socket::dial(to, source, transport.clone()).await {
                Ok(stream) => Io::Connected(id, stream, transport),
                Err(failure) => Io::NotConnected(id, failure),
            };
            // The driver may be gone, and then needs no telling.
            let _ = events.send(event).await;
        });
        self.dials.insert(id, task);
    }
}
