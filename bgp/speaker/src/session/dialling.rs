//! Dialling: when, and when not (RFC 4271 §8.2.2, states Idle, Connect and Active).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Action, BACKOFF, ConnectionId, DIAL_TIME, Dialler, Down, Failure, Session};
use crate::settings::Dial;
use crate::types::Family;
use crate::wire::Notification;
use crate::wire::notification::Cease;

impl Session {
    /// The attempt asked for by [`Action::Dial`] has this id.
    pub fn dialling(&mut self, id: ConnectionId, now: Instant) {
        self.dialler = Dialler::Connect {
            id,
            until: now + DIAL_TIME,
        };
        self.note_state(now);
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.restart = None;
        match self.dialler {
            Dialler::Idle => {
                if self.settings.dial == Dial::Passive {
                    self.down = Down::Passive;
                }
                self.wait_for_retry(Duration::ZERO, now);
            }
            Dialler::Connect { .. } | Dialler::Active { .. } => {}
        }
    }

    /// Too many prefixes: away for a while, or until told otherwise.
    pub(super) fn limit(
        &mut self,
        family: Family,
        max: u32,
        restart: Option<Duration>,
        now: Instant,
    ) {
        let down = Down::PrefixLimit {
            family,
            max,
            restart,
        };
        let Some(id) = self.established_connection().map(|other| other.id) else {
            return;
        };
        let notification = Notification::too_many_prefixes(family, max);
        self.fail(id, Some(notification), down, now);
        // One that was to take its place would bring the same.
        while let Some(id) = self.connections.first().map(|other| other.id) {
            let words = Notification::cease(Cease::ConnectionRejected, "");
            self.drop_connection(id, Some(&words), now);
        }
        if let Dialler::Connect { id, .. } = self.dialler {
            self.actions.push_back(Action::Close(id));
        }
        self.dialler = Dialler::Idle;
        self.restart = restart.map(|restart| now + restart);
    }

    pub(super) fn dial_succeeded(&mut self, id: ConnectionId, local: IpAddr, now: Instant) {
        match self.dialler {
            Dialler::Connect { id: dialled, .. } if dialled == id => {
                self.dialler = Dialler::Active { retry: None };
                self.begin(id, local, now);
            }
            // An attempt that was given up meanwhile.
            Dialler::Idle | Dialler::Connect { .. } | Dialler::Active { .. } => {
                self.actions.push_back(Action::Close(id));
            }
        }
    }

    pub(super) fn dial_failed(&mut self, failure: Failure, now: Instant) {
        self.dialler = Dialler::Active { retry: None };
        if self.connections.is_empty() {
            self.down = Down::Dial(failure);
        }
        self.retry_later(now);
    }

    pub(super) fn retry_later(&mut self, now: Instant) {
        let wait = BACKOFF[self.failures.min(BACKOFF.len() - 1)];
        self.failures += 1;
        match self.dialler {
            Dialler::Active { .. } => {
                let wait = self.jitter.shorten(wait);
                self.wait_for_retry(wait, now);
            }
            Dialler::Idle | Dialler::Connect { .. } => {}
        }
    }

    pub(super) fn wait_for_retry(&mut self, wait: Duration, now: Instant) {
        let retry = match self.settings.dial {
            Dial::Active => Some(now + wait),
            Dial::Passive => None,
        };
        self.dialler = Dialler::Active { retry };
    }
}
