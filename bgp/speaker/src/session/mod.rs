//! One peer's session (RFC 4271 §8): dialling, up to two connections until §6.8 picks one, timers.
//!
//! The RFC has a state machine per connection; here the session has one dialler (`Idle`, `Connect`,
//! `Active`) and a connection per direction (`OpenSent`, `OpenConfirm`, `Established`). The session's state
//! is the furthest of these. There is no idle hold: a session that failed waits in `Active`, so that the peer
//! may dial meanwhile, and the wait grows with the failures (250 ms to 5 s).

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jitter::Jitter;
use crate::settings::{PeerSettings, Switch};
use crate::types::{Asn, BgpId, State};
use crate::wire::notification::Cease;
use crate::wire::{Notification, PeerKind, encode_keepalive};

mod connection;
mod dialling;
mod down;
mod event;
mod offer;
mod opening;

pub use connection::{Agreed, ConnectionId};
pub use down::{Down, Failure, Unusable};
pub use event::{Action, Ending, Event};

use connection::{Connection, Expired};

/// How long a dial may take: the `ConnectRetryTimer` in state `Connect`.
const DIAL_TIME: Duration = Duration::from_secs(5);
/// Waits before the next dial, by failures in a row: the `ConnectRetryTimer` in state `Active`.
const BACKOFF: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// A session that held for so long was a good one: the count of failures starts anew.
const STABLE: Duration = Duration::from_secs(10);

/// Who dials, and when next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialler {
    /// Stopped.
    Idle,
    /// An attempt is under way until the deadline.
    Connect { id: ConnectionId, until: Instant },
    /// Waiting; for ever if passive.
    Active { retry: Option<Instant> },
}

/// One peer's session, without socket, clock or task.
#[derive(Debug)]
pub struct Session {
    settings: PeerSettings,
    asn: Asn,
    bgp_id: BgpId,
    dialler: Dialler,
    /// When an idle session begins anew.
    restart: Option<Instant>,
    /// The AS numbers that a peer of a range may have; only the configured one if empty.
    accept_as: BTreeSet<Asn>,
    connections: Vec<Connection>,
    /// Until then our OPEN says that we have just started.
    fresh_until: Instant,
    /// Whether our OPEN offers capabilities; not to a peer that has just said that it knows no such thing.
    capabilities: Switch,
    failures: usize,
    down: Down,
    /// What ended the last established session; kept while attempts to bring it back fail.
    ended: Option<Down>,
    state: State,
    since: Instant,
    jitter: Jitter,
    actions: VecDeque<Action>,
}

impl Session {
    /// A session that has not begun, of a speaker that counts as restarted until `fresh_until`.
    pub fn new(
        settings: PeerSettings,
        asn: Asn,
        bgp_id: BgpId,
        fresh_until: Instant,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            settings,
            asn,
            bgp_id,
            dialler: Dialler::Idle,
            restart: None,
            accept_as: BTreeSet::new(),
            connections: Vec::new(),
            fresh_until,
            capabilities: Switch::On,
            failures: 0,
            down: Down::New,
            ended: None,
            state: State::Idle,
            since: now,
            jitter: Jitter::new(seed),
            actions: VecDeque::new(),
        }
    }

    /// The peer may be in any of these.
    pub fn accept_as(&mut self, asns: BTreeSet<Asn>) {
        self.accept_as = asns;
    }

    /// The peer's AS number: what it said, or is to say.
    pub fn peer_asn(&self) -> Asn {
        self.established()
            .map_or(self.settings.asn, |(_, agreed, _)| agreed.asn)
    }

    /// The longest message that may come over a connection.
    pub fn max_message(&self, id: ConnectionId) -> usize {
        let mut connections = self.connections.iter();
        let connection = connections.find(|connection| connection.id == id);
        let agreed = connection.and_then(|connection| connection.agreed.as_ref());
        match agreed {
            Some(agreed) if agreed.extended_messages.is_on() => crate::wire::MAX_EXTENDED,
            Some(_) | None => crate::wire::MAX_MESSAGE,
        }
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.connections.is_empty() && self.actions.is_empty()
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when it has this state.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Why it is not established, in words: the last attempt's failure, and what ended the session before.
    pub fn reason(&self) -> String {
        match (&self.ended, &self.down) {
            (Some(ended), Down::Dial(_) | Down::BeforeOpen(_)) => {
                format!("{}; the session before ended so: {ended}", self.down)
            }
            (_, down) => down.to_string(),
        }
    }

    /// Why the last attempt or session ended.
    pub fn down(&self) -> &Down {
        &self.down
    }

    /// What to look at. A peer's own words say more than that it refuses us since.
    pub fn hint(&self) -> String {
        match (&self.ended, &self.down) {
            (Some(ended @ Down::Notification(_)), Down::Dial(_) | Down::BeforeOpen(_)) => {
                ended.hint()
            }
            (_, down) => down.hint(),
        }
    }

    /// Whether the peer is in our AS.
    pub fn kind(&self) -> PeerKind {
        self.kind_of(self.peer_asn())
    }

    /// What was agreed on, and our address, while established.
    pub fn established(&self) -> Option<(ConnectionId, &Agreed, IpAddr)> {
        let connection = self.established_connection()?;
        let agreed = connection.agreed.as_ref()?;
        Some((connection.id, agreed, connection.local))
    }

    /// When an established session ends unless the peer is heard of.
    pub fn hold_until(&self) -> Option<Instant> {
        self.established_connection()?.hold
    }

    /// When the peer is dialled next, if nothing comes before.
    pub fn dial_at(&self) -> Option<Instant> {
        match self.dialler {
            Dialler::Idle => self.restart,
            Dialler::Connect { .. } => None,
            Dialler::Active { retry } => retry.filter(|_| self.connections.is_empty()),
        }
    }

    /// Octets that the established connection has not got rid of.
    pub fn unsent(&self) -> usize {
        self.established_connection()
            .map_or(0, |connection| connection.unsent)
    }

    /// Takes settings that need no new session: port, who dials, what to export.
    pub fn set_settings(&mut self, settings: PeerSettings, now: Instant) {
        let limits_changed = settings.prefix_limits != self.settings.prefix_limits;
        self.settings = settings;
        if limits_changed
            && self.dialler == Dialler::Idle
            && matches!(self.down, Down::PrefixLimit { .. })
        {
            self.restart = Some(now);
        }
        if let Dialler::Active { .. } = self.dialler {
            self.wait_for_retry(Duration::ZERO, now);
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Session::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dial = match self.dialler {
            Dialler::Idle => self.restart,
            Dialler::Connect { until, .. } => Some(until),
            // A connection under way may make the dial needless; it is dialled when that one fails.
            Dialler::Active { retry } => retry.filter(|_| self.connections.is_empty()),
        };
        let connections = self.connections.iter().filter_map(Connection::poll_timeout);
        connections.chain(dial).min()
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        let expired: Vec<_> = self
            .connections
            .iter()
            .filter_map(|connection| Some((connection.id, connection.expired(now)?)))
            .collect();
        for (id, expired) in expired {
            self.timer_expires(id, expired, now);
        }
        match self.dialler {
            Dialler::Connect { id, until } if until <= now => {
                self.actions.push_back(Action::Close(id));
                self.dial_failed(Failure::TimedOut, now);
            }
            Dialler::Active { retry: Some(retry) }
                if retry <= now && self.connections.is_empty() =>
            {
                self.dialler = Dialler::Active { retry: None };
                self.actions.push_back(Action::Dial);
            }
            Dialler::Idle if self.restart.is_some_and(|restart| restart <= now) => {
                self.start(now);
            }
            Dialler::Idle | Dialler::Connect { .. } | Dialler::Active { .. } => {}
        }
        self.note_state(now);
    }

    /// `HoldTimer_Expires`, `KeepaliveTimer_Expires`, `SendHoldTimer_Expires`, `DelayOpenTimer_Expires`.
    fn timer_expires(&mut self, id: ConnectionId, expired: Expired, now: Instant) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        match (connection.state, expired) {
            (State::OpenSent | State::OpenConfirm | State::Established, Expired::Hold) => {
                let agreed = connection.agreed.as_ref();
                let down = agreed.map_or(Down::BeforeOpen(Failure::TimedOut), |agreed| {
                    Down::HoldTimer(agreed.hold_time.as_secs())
                });
                self.fail(id, Some(Notification::hold_timer_expired()), down, now);
            }
            (State::OpenSent | State::OpenConfirm | State::Established, Expired::SendHold) => {
                let notification = Notification::send_hold_timer_expired();
                self.fail(id, Some(notification), Down::SendHoldTimer, now);
            }
            (State::OpenConfirm | State::Established, Expired::Keepalive) => {
                self.send(id, encode_keepalive().into(), now);
            }
            (State::Active, Expired::Open) => self.send_open(id, now),
            (State::OpenSent | State::OpenConfirm | State::Established, Expired::Open) => {}
            // No KEEPALIVE before the OPENs agree, and no connection in these states.
            (State::OpenSent, Expired::Keepalive)
            | (State::Idle | State::Connect | State::Active, _) => {}
        }
    }

    /// Acts on one event.
    pub fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::ManualStart => self.start(now),
            Event::ManualStop(cease, down) => self.stop(cease, down, now),
            Event::TcpCrAcked(id, local) => self.dial_succeeded(id, local, now),
            Event::TcpConnectionConfirmed(id, local) => self.accepted(id, local, now),
            Event::TcpConnectionFails(id, failure) => self.tcp_fails(id, failure, now),
            Event::BgpOpen(id, open) => self.open(id, &open, now),
            Event::BgpOpenMsgErr(id, error) => self.bad_open(id, error, now),
            Event::BgpHeaderErr(id, error) => {
                self.fail(id, Some(error.notification()), Down::Header(error), now);
            }
            Event::UpdateMsgErr(id, error) => {
                self.bad_routes(id, error.notification(), Down::Update(error), now);
            }
            Event::RouteRefreshMsgErr(id, error) => {
                self.bad_routes(id, error.notification(), Down::Refresh(error), now);
            }
            Event::PrefixLimit {
                family,
                max,
                restart,
            } => self.limit(family, max, restart, now),
            Event::BfdDown { seen_up } => {
                let established = self.established_connection().map(|other| other.id);
                if let Some(id) = established.filter(|_| self.since <= seen_up) {
                    let notification = Notification::cease(Cease::BfdDown, "");
                    self.fail(id, Some(notification), Down::Bfd, now);
                }
            }
            Event::NotifMsg(id, notification) => self.notified(id, notification, now),
            Event::KeepAliveMsg(id) => self.keepalive(id, now),
            Event::UpdateMsg(id) | Event::RouteRefreshMsg(id) => self.routes(id, now),
            Event::Sent(id, octets) => {
                if let Some(connection) = self.connection(id) {
                    connection.sent(octets, now);
                }
            }
        }
        self.note_state(now);
    }

    /// The established connection has something to say: what [`Event::UpdateMsg`] does there, without the detour.
    pub fn heard(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.connection(id)
            && connection.state == State::Established
        {
            connection.restart_hold(now);
        }
    }

    /// Sends an UPDATE or ROUTE-REFRESH over the established connection.
    pub fn send_update(&mut self, octets: Arc<[u8]>, now: Instant) {
        if let Some(id) = self
            .established_connection()
            .map(|connection| connection.id)
        {
            self.send(id, octets, now);
        }
    }

    fn stop(&mut self, cease: Cease, down: Down, now: Instant) {
        let words = down.to_string();
        while let Some(id) = self.connections.first().map(|connection| connection.id) {
            self.drop_connection(id, Some(&Notification::cease(cease, &words)), now);
        }
        if let Dialler::Connect { id, .. } = self.dialler {
            self.actions.push_back(Action::Close(id));
        }
        self.dialler = Dialler::Idle;
        self.restart = None;
        self.ended = None;
        self.down = down;
    }

    fn tcp_fails(&mut self, id: ConnectionId, failure: Failure, now: Instant) {
        match self.dialler {
            Dialler::Connect { id: dialled, .. } if dialled == id => {
                self.dial_failed(failure, now);
                return;
            }
            Dialler::Idle | Dialler::Connect { .. } | Dialler::Active { .. } => {}
        }
        let Some(connection) = self.connection(id) else {
            return;
        };
        let down = match connection.state {
            State::OpenConfirm | State::Established => Down::Lost(failure),
            State::OpenSent | State::Idle | State::Connect | State::Active => {
                Down::BeforeOpen(failure)
            }
        };
        self.fail(id, None, down, now);
    }

    /// UPDATE and ROUTE-REFRESH.
    fn routes(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        match connection.state {
            State::OpenSent => self.unexpected(id, 1, now),
            State::OpenConfirm => self.unexpected(id, 2, now),
            State::Established => connection.restart_hold(now),
            State::Active => self.unexpected(id, 0, now),
            State::Idle | State::Connect => {}
        }
    }

    /// The same, where they cannot be read.
    fn bad_routes(&mut self, id: ConnectionId, last: Notification, down: Down, now: Instant) {
        if self.established().is_some_and(|(known, ..)| known == id) {
            self.fail(id, Some(last), down, now);
        } else {
            self.routes(id, now);
        }
    }

    fn unexpected(&mut self, id: ConnectionId, subcode: u8, now: Instant) {
        let notification = Notification::fsm_error(subcode);
        self.fail(id, Some(notification), Down::Unexpected, now);
    }

    /// Ends a connection for a reason. The session is down with it unless another connection is left.
    fn fail(&mut self, id: ConnectionId, last: Option<Notification>, down: Down, now: Instant) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let established = connection.state == State::Established;
        let collision = matches!(
            &down,
            Down::Notification(Notification { code: 6, subcode, .. })
                if *subcode == Cease::ConnectionCollision as u8
        );
        if established && self.since + STABLE <= now {
            self.failures = 0;
        }
        let ending = down.ending();
        self.end_connection(id, last.as_ref(), ending, now);
        if established {
            self.ended = Some(down.clone());
            self.capabilities = Switch::On;
        }
        // Nothing is down while another connection is established.
        let stands = !established && self.established_connection().is_some();
        if !stands && (!collision || self.connections.is_empty()) {
            self.down = down;
        }
        if self.connections.is_empty() {
            self.retry_later(now);
        }
    }

    /// Takes a connection out and closes it.
    fn drop_connection(&mut self, id: ConnectionId, last: Option<&Notification>, now: Instant) {
        self.end_connection(id, last, Ending::Orderly, now);
    }

    fn end_connection(
        &mut self,
        id: ConnectionId,
        last: Option<&Notification>,
        ending: Ending,
        now: Instant,
    ) {
        let Some(index) = self.connections.iter().position(|other| other.id == id) else {
            return;
        };
        if let Some(notification) = last {
            let connection = &self.connections[index];
            let agreed = connection.agreed.as_ref();
            let hard = connection.state == State::Established
                && agreed.is_some_and(|agreed| agreed.notification.is_on());
            // Where routes are kept after a NOTIFICATION, an end that is meant says so (RFC 8538 §3).
            let octets = if hard && ending == Ending::Orderly {
                notification.hardened().encode()
            } else {
                notification.encode()
            };
            self.send(id, octets.into(), now);
        }
        let connection = self.connections.remove(index);
        self.actions.push_back(Action::Close(id));
        if connection.state == State::Established {
            self.actions.push_back(Action::Down(ending));
        }
    }

    fn send(&mut self, id: ConnectionId, octets: Arc<[u8]>, now: Instant) {
        let Some(connection) = self.connections.iter_mut().find(|other| other.id == id) else {
            return;
        };
        connection.sending(octets.len(), now);
        connection.restart_keepalive(&mut self.jitter, now);
        self.actions.push_back(Action::Send(id, octets));
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|other| other.id == id)
    }

    fn established_connection(&self) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.state == State::Established)
    }

    fn note_state(&mut self, now: Instant) {
        let furthest = self.connections.iter().map(|connection| connection.state);
        let state = furthest.max().unwrap_or(match self.dialler {
            Dialler::Idle => State::Idle,
            Dialler::Connect { .. } => State::Connect,
            Dialler::Active { .. } => State::Active,
        });
        if state != self.state {
            self.state = state;
            self.since = now;
        }
    }
}

fn is_accepted(id: ConnectionId) -> bool {
    matches!(id, ConnectionId::Accepted(_))
}

#[cfg(test)]
mod tests;
