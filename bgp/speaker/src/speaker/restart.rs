//! Routes of a session that was lost, kept while the peer restarts (RFC 4724, RFC 8538, RFC 9494). They are in the
//! table, marked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Speaker;
use crate::rib::{Freshness, Marks, SourceId, Sweep};
use crate::session::{Agreed, Ending};
use crate::types::{Family, PeerName};
use crate::wire::GracefulRestart;

/// How long a peer that is back may take for its End-of-RIB before what it has not told again goes.
const STALE_TIME: Duration = Duration::from_mins(6);

/// How the peer restarts, as it said in the present or last session, and what is kept of it.
#[derive(Debug, Default)]
pub(super) struct Restart {
    capability: Option<GracefulRestart>,
    /// Whether a complaint is a loss too.
    notification: bool,
    /// How long stale routes are kept at last, by family.
    long_lived: BTreeMap<Family, Duration>,
    /// Until when stale routes are kept.
    until: Option<Instant>,
    /// Until when those that are stale for long are kept, by family.
    long_until: BTreeMap<Family, Instant>,
}

impl Restart {
    /// What the new session says of the next restart.
    fn agreed(agreed: &Agreed) -> Self {
        Self {
            capability: agreed.restart.clone(),
            notification: agreed.notification.is_on(),
            long_lived: agreed
                .long_lived
                .iter()
                .map(|(family, long)| (*family, Duration::from_secs(long.time.into())))
                .collect(),
            until: None,
            long_until: BTreeMap::new(),
        }
    }

    /// The families whose routes are kept after this ending, and for how long.
    fn kept(&self, ending: Ending) -> (BTreeSet<Family>, Duration) {
        let keeps = match ending {
            Ending::Lost => true,
            Ending::Complaint => self.notification,
            Ending::Orderly => false,
        };
        match &self.capability {
            Some(restart) if keeps => (
                restart.known_families(),
                Duration::from_secs(restart.time.into()),
            ),
            Some(_) | None => (BTreeSet::new(), Duration::ZERO),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let long = self.long_until.values().copied();
        self.until.into_iter().chain(long).min()
    }

    /// How many families' routes are kept, for people.
    pub(super) fn keeps(&self) -> bool {
        self.until.is_some() || !self.long_until.is_empty()
    }
}

impl Speaker {
    /// The session is established: what is kept of families that were not preserved is void.
    pub(super) fn restarted(&mut self, name: &PeerName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let (Some(agreed), Some(source)) = (peer.agreed().cloned(), peer.source) else {
            return;
        };
        let kept = peer.restart.keeps();
        peer.restart = Restart::agreed(&agreed);
        if !kept {
            return;
        }
        let preserved = agreed.restart.as_ref().map(GracefulRestart::preserved);
        let preserved = &preserved.unwrap_or_default() & &agreed.families;
        peer.restart.until = (!preserved.is_empty()).then(|| now + STALE_TIME);
        self.sweep(name, source, |family, freshness, _| match freshness {
            Freshness::Fresh | Freshness::Refreshing => Sweep::Keep,
            Freshness::Stale | Freshness::LongStale if preserved.contains(&family) => Sweep::Keep,
            Freshness::Stale | Freshness::LongStale => Sweep::Remove,
        });
    }

    /// The session is over: its routes are kept, or go.
    pub(super) fn lost(&mut self, name: &PeerName, ending: Ending, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let Some(source) = peer.source else {
            return;
        };
        let (kept, time) = peer.restart.kept(ending);
        let until = now + time;
        peer.restart.until = Some(until);
        self.sweep(name, source, |family, freshness, _| match freshness {
            _ if !kept.contains(&family) => Sweep::Remove,
            Freshness::LongStale => Sweep::Keep,
            Freshness::Fresh | Freshness::Refreshing | Freshness::Stale => {
                Sweep::Mark(Freshness::Stale)
            }
        });
        if time.is_zero() {
            self.stale_expired(name, now);
        }
        self.forget_if_empty(name);
    }

    /// Timers of kept routes.
    pub(super) fn stale_expired(&mut self, name: &PeerName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let Some(source) = peer.source else {
            peer.restart.until = None;
            peer.restart.long_until.clear();
            return;
        };
        let due = |at: &Instant| *at <= now;
        if peer.restart.until.as_ref().is_some_and(due) {
            peer.restart.until = None;
            let established = peer.agreed().is_some();
            let long: BTreeMap<Family, Duration> = if established {
                BTreeMap::new()
            } else {
                let long = peer.restart.long_lived.iter();
                long.filter(|(_, time)| !time.is_zero())
                    .map(|(family, time)| (*family, *time))
                    .collect()
            };
            for (family, time) in &long {
                peer.restart.long_until.insert(*family, now + *time);
            }
            self.sweep(name, source, |family, freshness, marks| match freshness {
                Freshness::Stale if long.contains_key(&family) && !marks.has(Marks::NO_LLGR) => {
                    Sweep::Mark(Freshness::LongStale)
                }
                Freshness::Stale => Sweep::Remove,
                // The peer is back and has not told it again.
                Freshness::LongStale if established => Sweep::Remove,
                Freshness::Fresh | Freshness::Refreshing | Freshness::LongStale => Sweep::Keep,
            });
        }
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let over: BTreeSet<Family> = peer
            .restart
            .long_until
            .extract_if(.., |_, until| due(until))
            .map(|(family, _)| family)
            .collect();
        if !over.is_empty() {
            self.sweep(name, source, |family, freshness, _| {
                if freshness == Freshness::LongStale && over.contains(&family) {
                    Sweep::Remove
                } else {
                    Sweep::Keep
                }
            });
        }
        self.forget_if_empty(name);
    }

    /// The peer has told everything of a family: what it has not told again goes.
    pub(super) fn end_of_rib(&mut self, name: &PeerName, source: SourceId, ended: Family) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.end_of_rib.insert(ended);
        if peer.restart.until.is_none() {
            return;
        }
        let whole = peer.agreed().map(|agreed| &agreed.families);
        if whole.is_some_and(|families| families.is_subset(&peer.end_of_rib)) {
            peer.restart.until = None;
        }
        self.sweep(name, source, |family, freshness, _| match freshness {
            Freshness::Stale | Freshness::LongStale if family == ended => Sweep::Remove,
            Freshness::Fresh | Freshness::Refreshing | Freshness::Stale | Freshness::LongStale => {
                Sweep::Keep
            }
        });
    }

    /// Takes all of a peer's paths out, or some.
    pub(super) fn void(&mut self, name: &PeerName) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.restart.until = None;
        peer.restart.long_until.clear();
        if let Some(source) = peer.source {
            self.sweep(name, source, |_, _, _| Sweep::Remove);
        }
        self.forget_if_empty(name);
    }

    /// Looks at every path of a peer.
    pub(super) fn sweep(
        &mut self,
        name: &PeerName,
        source: SourceId,
        of: impl Fn(Family, Freshness, Marks) -> Sweep,
    ) {
        let removed = self.rib.sweep(source, |family, path, rank| {
            of(family, path.freshness, rank.marks)
        });
        if let Some(peer) = self.peers.get_mut(name) {
            for (count, removed) in peer.counts.paths.iter_mut().zip(removed) {
                *count -= removed;
            }
        }
    }

    /// A peer without session and paths needs no number in the table. It is given back once everybody knows.
    fn forget_if_empty(&mut self, name: &PeerName) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer.counts.paths == [0, 0] && peer.agreed().is_none() {
            peer.restart.until = None;
            peer.restart.long_until.clear();
            self.retired.extend(peer.source.take());
            self.forget_kept(name, |_| true);
        }
    }
}
