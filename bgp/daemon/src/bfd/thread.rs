//! The thread.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use margay_bgp::PeerName;
use margay_bgp::bfd::{Action, Event, Packet, Session, Settings, State};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::socket::{self, MULTIHOP, Place, SINGLE_HOP};
use super::{BfdSettings, BfdStatus, Report, Target, Targets};
use crate::clock::now;

/// How soon to try again what the kernel refused.
const AGAIN: Duration = Duration::from_secs(5);
/// Longer than any packet.
const BUFFER: usize = 512;

pub(super) struct Thread {
    targets: Arc<Mutex<Targets>>,
    woken: UnixStream,
    reports: mpsc::UnboundedSender<Report>,
    watches: BTreeMap<PeerName, Watch>,
    places: BTreeMap<Place, Result<UdpSocket, String>>,
    /// When to try again to open sockets.
    again: Option<Instant>,
    random: RandomState,
    count: u64,
}

/// A peer that is watched.
struct Watch {
    target: Target,
    session: Session,
    /// None if the kernel refused one.
    socket: Option<UdpSocket>,
    /// What was last reported.
    reported: Option<BfdStatus>,
}

impl Target {
    fn place(&self) -> Place {
        Place {
            v4: self.peer.is_ipv4(),
            port: if self.hops.get() == 1 {
                SINGLE_HOP
            } else {
                MULTIHOP
            },
        }
    }

    /// Whether a packet that came in at `place` may be of this peer.
    fn may_have_sent(&self, place: Place, from: SocketAddr, ttl: u8) -> bool {
        let scope = match from {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
            SocketAddr::V4(_) | SocketAddr::V6(_) => 0,
        };
        self.place() == place
            && from.ip() == self.peer
            && scope == self.scope
            // RFC 5881 §5: a packet from the same link still has 255. Over routers there is no such rule (RFC 5883), and
            // not everybody begins with 255: BIRD does not.
            && (self.hops.get() > 1 || ttl == 255)
    }
}

impl Thread {
    pub(super) fn new(
        targets: Arc<Mutex<Targets>>,
        woken: UnixStream,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Self {
        Self {
            targets,
            woken,
            reports,
            watches: BTreeMap::new(),
            places: BTreeMap::new(),
            again: None,
            random: RandomState::new(),
            count: 0,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            self.wait();
            // What has come counts before what has run out.
            self.receive();
            match self.is_ended() {
                None => {}
                Some(false) => self.take_targets(),
                Some(true) => break,
            }
            let now = now();
            if self.again.is_some_and(|at| at <= now) {
                self.open_sockets(now);
            }
            for watch in self.watches.values_mut() {
                watch.session.handle_timeout(now);
            }
            self.act();
        }
        for watch in self.watches.values_mut() {
            watch.session.handle_event(Event::Disable, now());
        }
        self.act();
    }

    fn wait(&self) {
        let due = self
            .watches
            .values()
            .filter_map(|watch| watch.session.poll_timeout());
        let due = due.chain(self.again).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(now());
            // Never too early, or the loop would spin.
            let millis = left.as_micros().div_ceil(1000);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        let sockets = self.places.values().flatten().map(UdpSocket::as_fd);
        let mut waiting: Vec<_> = sockets
            .chain([self.woken.as_fd()])
            .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
            .collect();
        // Whatever it says, everything is looked at.
        if let Err(error) = poll(&mut waiting, timeout) {
            debug!(%error, "poll");
        }
    }

    /// Whether the driver is gone; `None` if it said nothing.
    fn is_ended(&mut self) -> Option<bool> {
        let mut said = None;
        let mut octets = [0; 64];
        loop {
            match self.woken.read(&mut octets) {
                Ok(0) => return Some(true),
                Ok(_) => said = Some(false),
                Err(_) => return said,
            }
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; BUFFER];
        for (place, socket) in &self.places {
            let Ok(socket) = socket else {
                continue;
            };
            while let Some(received) = socket::receive(socket, &mut buffer) {
                let from = received.from;
                let packet = match Packet::decode(&buffer[..received.length]) {
                    Ok(packet) => packet,
                    Err(error) => {
                        debug!(%from, %error, "BFD packet discarded");
                        continue;
                    }
                };
                let mut watches = self.watches.values_mut();
                let watch = watches.find(|watch| {
                    let name = watch.session.discriminator().get();
                    watch.target.may_have_sent(*place, from, received.ttl)
                        && [0, name].contains(&packet.your_discriminator)
                });
                if let Some(watch) = watch {
                    watch.session.handle_event(Event::Received(packet), now());
                } else {
                    debug!(%from, ttl = received.ttl, "BFD packet of nobody here");
                }
            }
        }
    }

    fn take_targets(&mut self) {
        let targets = self
            .targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let now = now();
        let gone: Vec<_> = self
            .watches
            .iter()
            .filter(|(name, watch)| {
                targets
                    .get(*name)
                    .is_none_or(|target| !target.is_same_session(&watch.target))
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(mut watch) = self.watches.remove(&name) {
                watch.session.handle_event(Event::Disable, now);
                watch.act();
            }
        }
        for (name, target) in targets {
            if let Some(watch) = self.watches.get_mut(&name) {
                watch.target = target;
                let settings = settings(target.settings);
                watch.session.handle_event(Event::Settings(settings), now);
            } else {
                let watch = self.begin(target, now);
                self.watches.insert(name, watch);
            }
        }
        self.open_sockets(now);
    }

    fn begin(&mut self, target: Target, now: Instant) -> Watch {
        self.count += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.count);
        let seed = hasher.finish();
        let taken = |name: &NonZeroU32| {
            let mut watches = self.watches.values();
            watches.any(|watch| watch.session.discriminator() == *name)
        };
        let [a, b, c, d, ..] = seed.to_le_bytes();
        let mut discriminator =
            NonZeroU32::new(u32::from_le_bytes([a, b, c, d])).unwrap_or(NonZeroU32::MIN);
        // There are fewer sessions than numbers.
        while taken(&discriminator) {
            discriminator = discriminator.checked_add(1).unwrap_or(NonZeroU32::MIN);
        }
        Watch {
            target,
            session: Session::new(settings(target.settings), discriminator, seed, now),
            socket: None,
            reported: None,
        }
    }

    /// Opens what is missing and closes what nobody needs.
    fn open_sockets(&mut self, now: Instant) {
        let mut refused = false;
        let watches = &self.watches;
        self.places.retain(|place, socket| {
            socket.is_ok() && watches.values().any(|watch| watch.target.place() == *place)
        });
        for watch in self.watches.values_mut() {
            let place = watch.target.place();
            let socket = self.places.entry(place).or_insert_with(|| {
                socket::listen(place).map_err(|error| {
                    format!(
                        "cannot receive BFD packets at UDP port {}: {error}",
                        place.port
                    )
                })
            });
            refused |= socket.is_err();
            if watch.socket.is_none() {
                let Target { local, scope, .. } = watch.target;
                let number = watch.session.discriminator().get();
                watch.socket = socket::sender(local, scope, number).ok();
                refused |= watch.socket.is_none();
            }
        }
        self.again = refused.then(|| now + AGAIN);
    }

    fn act(&mut self) {
        for (name, watch) in &mut self.watches {
            let lost = watch.act();
            if lost.is_some() {
                info!(peer = %name, reason = %watch.session.diagnostic(), "BFD: the peer is lost");
            }
            let problem = match self.places.get(&watch.target.place()) {
                Some(Err(problem)) => problem.clone(),
                Some(Ok(_)) | None => String::new(),
            };
            let status = watch.status(problem);
            if lost.is_some() || watch.reported.as_ref() != Some(&status) {
                watch.reported = Some(status.clone());
                // The driver may be gone: that is found out next.
                let _ = self.reports.send(Report {
                    peer: name.clone(),
                    status,
                    lost,
                });
            }
        }
    }
}

impl Target {
    /// Whether a running session may go on with these settings instead.
    fn is_same_session(&self, other: &Self) -> bool {
        let Self {
            peer,
            local,
            scope,
            hops,
            settings: _,
        } = other;
        (self.peer, self.local, self.scope, self.hops) == (*peer, *local, *scope, *hops)
    }
}

impl Watch {
    /// Sends what there is to send; if the peer was lost, says when it was last known to be there.
    fn act(&mut self) -> Option<Instant> {
        let mut lost = None;
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(packet) => self.send(&packet),
                Action::StateChanged { from, to, .. } => {
                    // RFC 5882 §4.2: what was taken down on purpose is not lost.
                    let on_purpose = self.session.remote_state() == State::AdminDown;
                    if from == State::Up && to == State::Down && !on_purpose {
                        lost = self.session.seen_up();
                    }
                }
            }
        }
        lost
    }

    fn send(&self, packet: &Packet) {
        let Target { peer, scope, .. } = self.target;
        let Some(socket) = &self.socket else {
            return;
        };
        let mut to = SocketAddr::new(peer, self.target.place().port);
        if let (SocketAddr::V6(v6), IpAddr::V6(_)) = (&mut to, peer) {
            v6.set_scope_id(scope);
        }
        // A link that is down takes none; silence tells the rest.
        if let Err(error) = socket.send_to(&packet.encode(), to) {
            debug!(%to, %error, "BFD packet not sent");
        }
    }

    fn status(&self, problem: String) -> BfdStatus {
        BfdStatus {
            state: self.session.state(),
            remote_state: self.session.remote_state(),
            diagnostic: self.session.diagnostic(),
            interval: self.session.interval(),
            detection_time: self.session.detection_time(),
            problem,
        }
    }
}

fn settings(settings: BfdSettings) -> Settings {
    let BfdSettings {
        interval,
        multiplier,
    } = settings;
    Settings {
        min_tx: interval,
        min_rx: interval,
        multiplier,
    }
}
