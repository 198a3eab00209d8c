//! What the driver says of its peers: log and status.

use std::time::{Duration, Instant};

use margay_bgp::session::Failure;
use margay_bgp::{PeerName, PeerStatus, State};
use tracing::{debug, info};

use super::Driver;
use crate::Status;
use crate::clock::now;

/// The status is published at once, and again after so long at the earliest: it holds every peer.
const STATUS_PAUSE: Duration = Duration::from_millis(20);

/// Reason and hint of a peer that the kernel cannot sign for.
const NO_AO: (&str, &str) = (
    "this kernel has no TCP-AO (RFC 5925), which the peer is to have",
    "Linux has it from 6.7 on, if built with CONFIG_TCP_AO; or agree on a `password` (TCP MD5) with the peer",
);

impl Driver {
    /// Sessions that come and go are told, and why one is down when that is news; attempts are not.
    pub(super) fn log_state(
        &mut self,
        peer: PeerName,
        from: State,
        to: State,
        reason: Option<String>,
    ) {
        let Some(reason) = reason else {
            self.reasons.remove(&peer);
            self.sessions_changed = true;
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

    /// Adds what only the kernel knows.
    fn explain(&self, name: &PeerName, peer: &mut PeerStatus) {
        if peer.state == State::Established {
            return;
        }
        if let Some(unknown) = self.unnumbered.unknown(&self.settings.borrow(), name) {
            peer.reason = unknown.to_string();
            unknown.hint().clone_into(&mut peer.hint);
        } else if self.current.transport(peer.address).ao.is_some() && !self.has_ao {
            NO_AO.0.clone_into(&mut peer.reason);
            NO_AO.1.clone_into(&mut peer.hint);
        } else if let Some((trouble, _)) = self.troubles.get(name) {
            peer.reason = trouble.to_string();
            trouble.hint().clone_into(&mut peer.hint);
        } else if self.current.transport(peer.address).signature().is_some()
            && peer.reason.contains(&Failure::TimedOut.to_string())
        {
            // A kernel does not answer segments whose signature is not the one it expects.
            peer.hint
                .push_str(" Or the peer's password or key is another than ours, or it has none");
        }
    }

    /// Makes the status current, or says when to come back.
    pub(super) fn publish_when_due(&mut self) -> Option<Instant> {
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
    pub(super) fn publish(&mut self) {
        // Whoever sees the status may count on having the routes: on End-of-RIB the owner sweeps what nobody told again.
        if !self.changes.is_empty()
            && let Ok(place) = self.routes.try_reserve()
        {
            place.send(std::mem::take(&mut self.changes).into_values().collect());
        }
        let mut peers = self.speaker.status();
        for (name, peer) in &mut peers {
            self.explain(name, peer);
        }
        let status = Status {
            peers,
            bfd: self.bfd_status.clone(),
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
