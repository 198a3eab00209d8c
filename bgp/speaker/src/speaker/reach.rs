//! Next hops that are tracked, and routes that wait for each other after the start.

use std::net::IpAddr;
use std::time::Instant;

use super::peer::Peer;
use super::{Action, Speaker};
use crate::settings::Deferral;
use crate::types::Family;
use crate::wire::RestartState;

/// Routes are not told yet: peers that kept ours over our restart would take what is missing for withdrawn
/// (RFC 4724 §4.1).
#[derive(Debug)]
pub(super) struct Waiting {
    /// For everybody.
    until: Instant,
    /// For peers that are not there yet; `None` once that is over.
    absent_until: Option<Instant>,
}

impl Waiting {
    pub(super) fn new(deferral: Deferral, now: Instant) -> Self {
        let Deferral { most, absent } = deferral;
        Self {
            until: now + most,
            absent_until: Some(now + absent.min(most)),
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.absent_until.unwrap_or(self.until)
    }
}

impl Speaker {
    /// The next hops that the driver was asked to track.
    pub(super) fn tracked_next_hops(&self) -> Vec<IpAddr> {
        let hops = self.rib.store.hops();
        hops.map(|hops| hops.all().collect()).unwrap_or_default()
    }

    /// Says which next hops are to be tracked and which no longer.
    pub(super) fn ask_for_next_hops(&mut self) {
        let Some(hops) = self.rib.store.hops_mut() else {
            return;
        };
        let actions = hops.take_news().into_iter().map(|(address, there)| {
            if there {
                Action::TrackNextHop(address)
            } else {
                Action::ForgetNextHop(address)
            }
        });
        self.actions.extend(actions);
    }

    /// Whether what there is to tell waits: until everybody has told us everything, or has had time enough.
    pub(super) fn is_waiting(&mut self, now: Instant) -> bool {
        let Some(waiting) = &mut self.waiting else {
            return false;
        };
        if waiting.absent_until.is_some_and(|until| until <= now) {
            waiting.absent_until = None;
        }
        let late = waiting.absent_until.is_none();
        // Who may still come from a range is not known.
        let strangers = !late && !self.settings.ranges.is_empty();
        let complete = !strangers && self.peers.values().all(|peer| peer.has_told_all(late));
        if complete || waiting.until <= now {
            self.waiting = None;
        }
        self.waiting.is_some()
    }
}

impl Peer {
    /// Whether nothing more of what it knew before our restart is to be expected; `late` if it should be there by now.
    fn has_told_all(&self, late: bool) -> bool {
        if self.unusable.is_some()
            || self.settings.shut_down.is_some()
            || !self.settings.restart.graceful.is_on()
        {
            return true;
        }
        let Some(agreed) = self.agreed() else {
            return late;
        };
        match &agreed.restart {
            // It may never say that it is done; or it restarts itself, and waits for us.
            None => true,
            Some(restart) if restart.state == RestartState::Restarted => true,
            Some(_) => {
                let told = |family: &Family| self.end_of_rib.contains(family);
                agreed.families.iter().all(told)
            }
        }
    }
}
