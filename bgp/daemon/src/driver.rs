//! The loop that owns the speaker, and reads and writes its streams.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use margay_bgp::session::Failure;
use margay_bgp::{ConnectionId, Event, PeerName, Speaker};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

use crate::advertise::Advertiser;
use crate::bfd::{Bfd, Report, Targets};
use crate::clock::now;
use crate::connection::Connection;
use crate::listener::Signatures;
use crate::reach::Tracker;
use crate::transport::Transport;
use crate::trouble::{Counters, Trouble};
use crate::unnumbered::Unnumbered;
use crate::{BfdStatus, Question, RouteChange, Settings, Status, advertise, sys};

mod actions;
mod configure;
mod shown;
mod status;
mod streams;
mod witnesses;

use shown::Shown;

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
    /// Its neighbours or links are.
    NeighboursChanged,
    /// Listening works, or not.
    Listening(SocketAddr, Result<(), String>),
}

/// Events that may wait; whoever tells more has to wait itself.
const EVENTS: usize = 256;
/// How long the streams have for last words when all ends.
const GOODBYE: Duration = Duration::from_secs(1);
/// Read at once at most.
const READ: usize = 256 * 1024;

/// How often to look at what the kernel has dropped.
const LOOK: Duration = Duration::from_secs(2);

/// Owns the speaker and everything it acts on.
pub(crate) struct Driver {
    settings: watch::Receiver<Settings>,
    /// What of them is in force, with the addresses that unnumbered peers have.
    current: Settings,
    /// Who these are.
    unnumbered: Unnumbered,
    /// Their links.
    links: BTreeSet<String>,
    advertiser: Advertiser,
    /// Who tells of changes of the kernel's neighbours, once that matters.
    neighbours_watch: Option<AbortHandle>,
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
    signatures: watch::Sender<Signatures>,
    /// Whether the kernel has TCP-AO.
    has_ao: bool,
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
    shown: Shown,
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
        let told = settings.borrow_and_update().clone();
        let links = Unnumbered::links(&told);
        let mut unnumbered = Unnumbered::default();
        unnumbered.look(&links);
        let first = unnumbered.resolve(&told);
        let has_ao = sys::has_ao();
        let (events, incoming) = mpsc::channel(EVENTS);
        let (report, reports) = mpsc::unbounded_channel();
        let mut driver = Self {
            settings,
            routes,
            status,
            speaker: Speaker::new(first.speaker.clone(), seed, now()),
            signatures: watch::Sender::new(Arc::new(first.signatures(has_ao))),
            has_ao,
            current: first.clone(),
            unnumbered,
            links,
            advertiser: Advertiser::default(),
            neighbours_watch: None,
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
            shown: Shown::default(),
            reasons: BTreeMap::new(),
        };
        driver.listen(&first.listen);
        driver.watch_links();
        driver.look_for_trouble();
        driver
    }

    pub(crate) async fn run(mut self) {
        let routes = self.routes.clone();
        let mut look = tokio::time::interval(LOOK);
        let mut advertise = tokio::time::interval(advertise::PAUSE);
        advertise.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                _ = advertise.tick(), if !self.links.is_empty() => {
                    self.advertiser.advertise(&self.links);
                    // Of whom the kernel heard for the first time it tells nobody.
                    self.look_for_routers();
                }
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
            Io::NeighboursChanged => self.look_for_routers(),
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

    fn tell(&mut self, event: Event<'_>) {
        self.speaker.handle_event(event, now());
    }
}
