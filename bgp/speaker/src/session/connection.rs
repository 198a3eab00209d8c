//! One TCP stream of a session, from our OPEN on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::jitter::Jitter;
use crate::settings::{HoldTime, Switch};
use crate::types::{Asn, BgpId, Family, FamilySet, State};
use crate::wire::{AsWidth, GracefulRestart, LongLived};

/// Which TCP stream: who began it, and a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionId {
    /// We dialled; the speaker counts.
    Dialled(u64),
    /// The peer dialled; the driver counts.
    Accepted(u64),
}

/// How long the peer has for its OPEN. RFC 4271 §8.2.2 suggests 4 minutes; but a link that is cut at this
/// moment should not take so long to be missed.
const OPEN_WAIT: Duration = Duration::from_mins(1);
/// The least time in which the peer must take in something (RFC 9687 §4).
const SEND_HOLD: Duration = Duration::from_mins(8);

/// A connection and its timers.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) local: IpAddr,
    pub(super) state: State,
    /// What the OPENs agreed on; from `OpenConfirm` on.
    pub(super) agreed: Option<Agreed>,
    pub(super) hold: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
    pub(super) send_hold: Option<Instant>,
    /// When our OPEN goes, if it waits for the peer's.
    pub(super) open: Option<Instant>,
    /// Octets handed out and not yet taken by the kernel.
    pub(super) unsent: usize,
}

/// What both OPENs together say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The lower hold time.
    pub hold_time: HoldTime,
    /// The families that both speak.
    pub families: BTreeSet<Family>,
    /// Width of AS numbers in UPDATEs.
    pub as_width: AsWidth,
    /// The peer's AS number.
    pub asn: Asn,
    /// The peer's identifier.
    pub bgp_id: BgpId,
    /// Whether the peer answers ROUTE-REFRESH (RFC 2918).
    pub refresh: Switch,
    /// Whether answers have a beginning and an end (RFC 7313).
    pub enhanced_refresh: Switch,
    /// Whether the peer says when it has told everything: it knows graceful restart, whether or not we want it (RFC 4724
    /// §3).
    pub ends_rib: Switch,
    /// Whether messages may have 65535 octets (RFC 8654).
    pub extended_messages: Switch,
    /// Whether IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: Switch,
    /// The families of which the peer sends several paths (RFC 7911).
    pub paths_in: FamilySet,
    /// The families of which the peer takes several paths.
    pub paths_out: FamilySet,
    /// Whether routes are kept after a NOTIFICATION too (RFC 8538).
    pub notification: Switch,
    /// How long the peer's stale routes are kept in the end (RFC 9494).
    pub long_lived: BTreeMap<Family, LongLived>,
    /// How the peer restarts, if it does so gracefully.
    pub restart: Option<GracefulRestart>,
    /// What the peer's OPEN offered, for people.
    pub capabilities: BTreeSet<String>,
}

/// A timer of a connection that has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    Open,
    Hold,
    SendHold,
    Keepalive,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, local: IpAddr, now: Instant) -> Self {
        Self {
            id,
            local,
            state: State::OpenSent,
            agreed: None,
            hold: Some(now + OPEN_WAIT),
            keepalive: None,
            send_hold: None,
            open: None,
            unsent: 0,
        }
    }

    /// Our OPEN goes at `until` (`DelayOpenTimer`), or when the peer's is there.
    pub(super) fn delay_open(&mut self, until: Instant) {
        self.state = State::Active;
        self.hold = None;
        self.open = Some(until);
    }

    /// Our OPEN goes now.
    pub(super) fn opening(&mut self, now: Instant) {
        self.state = State::OpenSent;
        self.open = None;
        self.hold = Some(now + OPEN_WAIT);
    }

    pub(super) fn restart_hold(&mut self, now: Instant) {
        let hold_time = self.agreed.as_ref().map(|agreed| agreed.hold_time);
        self.hold = hold_time
            .and_then(HoldTime::duration)
            .map(|hold| now + hold);
    }

    /// A third of the hold time, shortened by jitter (RFC 4271 §4.4, §10).
    pub(super) fn restart_keepalive(&mut self, jitter: &mut Jitter, now: Instant) {
        let hold_time = self.agreed.as_ref().map(|agreed| agreed.hold_time);
        self.keepalive = hold_time
            .and_then(HoldTime::duration)
            .map(|hold| now + jitter.shorten(hold / 3));
    }

    pub(super) fn sending(&mut self, octets: usize, now: Instant) {
        if self.unsent == 0 {
            self.restart_send_hold(now);
        }
        self.unsent += octets;
    }

    pub(super) fn sent(&mut self, octets: usize, now: Instant) {
        self.unsent = self.unsent.saturating_sub(octets);
        if self.unsent == 0 {
            self.send_hold = None;
        } else {
            self.restart_send_hold(now);
        }
    }

    fn restart_send_hold(&mut self, now: Instant) {
        let hold_time = self.agreed.as_ref().map(|agreed| agreed.hold_time);
        let twice = hold_time
            .and_then(HoldTime::duration)
            .unwrap_or_default()
            .saturating_mul(2);
        self.send_hold = Some(now + SEND_HOLD.max(twice));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.open, self.hold, self.keepalive, self.send_hold]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn expired(&self, now: Instant) -> Option<Expired> {
        let due = |timer: Option<Instant>| timer.is_some_and(|at| at <= now);
        if due(self.open) {
            Some(Expired::Open)
        } else if due(self.hold) {
            Some(Expired::Hold)
        } else if due(self.send_hold) {
            Some(Expired::SendHold)
        } else if due(self.keepalive) {
            Some(Expired::Keepalive)
        } else {
            None
        }
    }
}
