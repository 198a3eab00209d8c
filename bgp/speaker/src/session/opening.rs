//! From a TCP connection to an established session: OPEN, collisions, confirmation (RFC 4271 §8.2.2, §6.8).

use std::net::IpAddr;
use std::time::Instant;

use super::connection::{Agreed, Connection, ConnectionId};
use super::{Action, DIAL_TIME, Dialler, Down, Session, is_accepted};
use crate::settings::Switch;
use crate::types::{Family, State};
use crate::wire::notification::Cease;
use crate::wire::{Notification, Open, OpenError, encode_keepalive};

impl Session {
    pub(super) fn accepted(&mut self, id: ConnectionId, local: IpAddr, now: Instant) {
        if self.dialler == Dialler::Idle {
            self.actions.push_back(Action::Close(id));
            return;
        }
        if let Some(established) = self.established_connection() {
            let probed = established.id;
            if !self.may_have_restarted(now) {
                // Collides with a session that stands (§6.8). If the peer dials because it knows nothing of that
                // one any more, its kernel answers our KEEPALIVE with a reset, and the next attempt gets through.
                let words = Notification::cease(Cease::ConnectionCollision, "");
                self.actions
                    .push_back(Action::Send(id, words.encode().into()));
                self.actions.push_back(Action::Close(id));
                self.send(probed, encode_keepalive().into(), now);
                return;
            }
        }
        // A peer dials once at a time: an earlier connection from it is dead. Only an OPEN says that of the established
        // one.
        let mut others = self.connections.iter();
        let earlier =
            others.find(|other| is_accepted(other.id) && other.state != State::Established);
        if let Some(earlier) = earlier.map(|other| other.id) {
            self.drop_connection(earlier, None, now);
        }
        self.begin(id, local, now);
    }

    /// Whether a further connection may mean that the peer has lost the established one: it said that it restarts
    /// gracefully, and the session is older than any dial that may have begun before it (RFC 4724 §4.2, §5).
    fn may_have_restarted(&self, now: Instant) -> bool {
        let agreed = self.established().map(|(_, agreed, _)| agreed);
        let graceful = agreed.and_then(|agreed| agreed.restart.as_ref());
        graceful.is_some_and(|restart| !restart.families.is_empty())
            && self.since + DIAL_TIME <= now
    }

    /// A new connection: our OPEN goes first, unless the peer's is waited for (`DelayOpen`).
    pub(super) fn begin(&mut self, id: ConnectionId, local: IpAddr, now: Instant) {
        let mut connection = Connection::new(id, local, now);
        if let Some(delay) = self.settings.delay_open {
            connection.delay_open(now + delay);
            self.connections.push(connection);
        } else {
            self.connections.push(connection);
            self.send_open(id, now);
        }
    }

    pub(super) fn send_open(&mut self, id: ConnectionId, now: Instant) {
        let open = self.offer(now).encode();
        if let Some(connection) = self.connection(id) {
            connection.opening(now);
        }
        self.send(id, open.into(), now);
    }

    pub(super) fn open(&mut self, id: ConnectionId, open: &Open, now: Instant) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        match connection.state {
            State::OpenSent => match self.agree(open) {
                Ok(agreed) => self.opened(id, agreed, now),
                Err((notification, down)) => self.fail(id, Some(notification), down, now),
            },
            State::OpenConfirm => self.unexpected(id, 2, now),
            State::Established => self.unexpected(id, 3, now),
            // Event 20, BGPOpen with DelayOpenTimer running: ours goes before the answer (RFC 4271 §8.2.2).
            State::Active => {
                self.send_open(id, now);
                self.open(id, open, now);
            }
            State::Idle | State::Connect => {}
        }
    }

    /// An OPEN that cannot be used; where none belongs, that is what is wrong with it (RFC 6608 §3).
    pub(super) fn bad_open(&mut self, id: ConnectionId, error: OpenError, now: Instant) {
        match self.connection(id).map(|connection| connection.state) {
            Some(State::Established) => self.unexpected(id, 3, now),
            Some(
                State::Idle | State::Connect | State::Active | State::OpenSent | State::OpenConfirm,
            )
            | None => self.fail(id, Some(error.notification()), Down::Open(error), now),
        }
    }

    /// The peer ends the connection. If it does not know what capabilities are, the next OPEN has none: then the session
    /// carries IPv4 routes and nothing more (RFC 5492 §3).
    pub(super) fn notified(&mut self, id: ConnectionId, notification: Notification, now: Instant) {
        let state = self.connection(id).map(|connection| connection.state);
        let unknown = state == Some(State::OpenSent)
            && notification.numbers() == Notification::UNKNOWN_PARAMETER
            && self.settings.families.contains(&Family::Ipv4);
        self.capabilities = Switch::from(!(unknown && self.capabilities.is_on()));
        self.fail(id, None, Down::Notification(notification), now);
    }

    /// Both OPENs are there and agree: unless this connection loses a collision, confirm.
    fn opened(&mut self, id: ConnectionId, agreed: Agreed, now: Instant) {
        if let Some(other) = self.connections.iter().find(|other| other.id != id) {
            let (other_id, other_state) = (other.id, other.state);
            if let (State::Established, Some(known)) = (other_state, &other.agreed) {
                if (known.bgp_id, known.asn) == (agreed.bgp_id, agreed.asn) {
                    // It has restarted, and knows nothing of the old connection (RFC 4724 §4.2).
                    self.fail(other_id, None, Down::Replaced, now);
                } else {
                    let words = Notification::cease(Cease::ConnectionCollision, "");
                    self.drop_connection(id, Some(&words), now);
                    return;
                }
            }
            let keep_dialled = (self.bgp_id, self.asn) > (agreed.bgp_id, agreed.asn);
            let loser = match other_state {
                State::OpenConfirm if is_accepted(id) == keep_dialled => Some(id),
                State::OpenConfirm => Some(other_id),
                // It is decided when the other's OPEN comes; and the established one is gone.
                State::OpenSent
                | State::Established
                | State::Idle
                | State::Connect
                | State::Active => None,
            };
            if let Some(loser) = loser {
                let words = Notification::cease(Cease::ConnectionCollision, "");
                self.drop_connection(loser, Some(&words), now);
            }
            if loser == Some(id) {
                return;
            }
        }
        if let Some(connection) = self.connection(id) {
            connection.state = State::OpenConfirm;
            connection.agreed = Some(agreed);
            connection.restart_hold(now);
        }
        self.send(id, encode_keepalive().into(), now);
    }

    pub(super) fn keepalive(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        match connection.state {
            State::OpenSent => self.unexpected(id, 1, now),
            State::Active => self.unexpected(id, 0, now),
            State::OpenConfirm => {
                connection.state = State::Established;
                connection.restart_hold(now);
                self.establish(id, now);
            }
            State::Established => connection.restart_hold(now),
            State::Idle | State::Connect => {}
        }
    }

    /// This connection it is: others and the dial end.
    fn establish(&mut self, id: ConnectionId, now: Instant) {
        let others = self.connections.iter().map(|other| other.id);
        for other in others.filter(|other| *other != id).collect::<Vec<_>>() {
            let words = Notification::cease(Cease::ConnectionCollision, "");
            self.drop_connection(other, Some(&words), now);
        }
        if let Dialler::Connect { id: dialled, .. } = self.dialler {
            self.actions.push_back(Action::Close(dialled));
        }
        self.dialler = Dialler::Active { retry: None };
        self.ended = None;
        self.actions.push_back(Action::Up(id));
    }
}
