//! Routes of a session that was lost, kept while the peer restarts (RFC 4724, RFC 8538, RFC 9494). They are in the
//! table, marked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Speaker;
use crate::rib::{Freshness, Marks, SourceId, Sweep};
use crate::session::{Agreed, Ending};
use crate::types::{Family, PeerName};
use crate::wire::{Forwarding, GracefulRestart};

/// How long a peer that is back may take for its End-of-RIB before what it has not told again goes.
const STALE_TIME: Duration = Duration::from_mins(6);

/// How the peer restarts, as it said in the present or last session, and what is kept of it.
#[derive(Debug, Default)]
pub(super) struct Restart {
    capability: Option<GracefulRestart>,
    /// Whether a complaint is a loss too.
    notification: bool,
    /// How long stale routes are kept at last, by family; never no time at all.
    long_lived: BTreeMap<Family, Duration>,
    /// Until when stale routes are kept.
    until: Option<Instant>,
    /// Until when those that are stale for long are kept, by family. A new session does not change that before its
    /// End-of-RIB.
    long_until: BTreeMap<Family, Instant>,
    /// Families whose time was over before the peer, back again, had told everything.
    overdue: BTreeSet<Family>,
}

/// What becomes of a family's routes when the session is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They go.
    Void,
    /// They stay for the restart time.
    Stale,
    /// They are the last choice at once.
    LongStale,
}

impl Restart {
    /// What the new session says of the next restart.
    fn agreed(agreed: &Agreed) -> Self {
        let long_lived = agreed.long_lived.iter();
        Self {
            capability: agreed.restart.clone(),
            notification: agreed.notification.is_on(),
            long_lived: long_lived
                .filter(|(_, long)| long.time > 0)
                .map(|(family, long)| (*family, Duration::from_secs(long.time.into())))
                .collect(),
            ..Self::default()
        }
    }

    /// What becomes of the families' routes after this ending.
    fn fates(&self, ending: Ending) -> BTreeMap<Family, Fate> {
        let keeps = match ending {
            Ending::Lost => true,
            Ending::Complaint => self.notification,
            Ending::Orderly => false,
        };
        let Some(restart) = self.capability.as_ref().filter(|_| keeps) else {
            return BTreeMap::new();
        };
        let graceful = restart.known_families();
        let fate = |family: Family| {
            if self.overdue.contains(&family) {
                Fate::Void // RFC 9494 §4.2: the session was lost before it was synchronized
            } else if self.long_until.contains_key(&family) {
                Fate::LongStale
            } else if graceful.contains(&family) {
                Fate::Stale
            } else if self.long_lived.contains_key(&family) {
                Fate::LongStale // §4.2: the restart time counts as zero
            } else {
                Fate::Void
            }
        };
        Family::ALL.map(|family| (family, fate(family))).into()
    }

    /// How long the peer may be away.
    fn time(&self) -> Duration {
        let seconds = self.capability.as_ref().map(|restart| restart.time);
        Duration::from_secs(seconds.unwrap_or_default().into())
    }

    /// Keeps what is stale for long for so long from now on, unless that has begun before: a session that is lost before
    /// its End-of-RIB does not begin it anew (RFC 9494 §4.2).
    fn begin_long(&mut self, family: Family, now: Instant) {
        if let Some(time) = self.long_lived.get(&family) {
            self.long_until.entry(family).or_insert(now + *time);
        }
    }

    /// Nothing is kept any more.
    fn clear(&mut self) {
        self.until = None;
        self.long_until.clear();
        self.overdue.clear();
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let long = self.long_until.values().copied();
        self.until.into_iter().chain(long).min()
    }

    /// Whether routes of a session before are kept.
    pub(super) fn keeps(&self) -> bool {
        self.until.is_some() || !self.long_until.is_empty()
    }
}

impl Speaker {
    /// The session is established: what is kept of families that were not preserved is void. Of routes that are stale for
    /// long the long-lived capability says that (RFC 9494 §4.2), of others the usual one (RFC 4724 §4.2).
    pub(super) fn restarted(&mut self, name: &PeerName, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let (Some(agreed), Some(source)) = (peer.agreed().cloned(), peer.source) else {
            return;
        };
        let new = Restart::agreed(&agreed);
        let before = std::mem::replace(&mut peer.restart, new);
        if !before.keeps() {
            return;
        }
        let preserved = agreed.restart.as_ref().map(GracefulRestart::preserved);
        let preserved = &preserved.unwrap_or_default() & &agreed.families;
        let long_lived = agreed.long_lived.iter();
        let long: BTreeSet<Family> = long_lived
            .filter(|(_, long)| long.forwarding == Forwarding::Preserved)
            .map(|(family, _)| *family)
            .filter(|family| agreed.families.contains(family))
            .collect();
        let restart = &mut peer.restart;
        restart.until = before
            .until
            .filter(|_| !preserved.is_empty())
            .map(|_| now + STALE_TIME);
        restart.long_until = before.long_until;
        restart.long_until.retain(|family, _| long.contains(family));
        self.sweep(name, source, |family, freshness, _| match freshness {
            Freshness::Fresh | Freshness::Refreshing => Sweep::Keep,
            Freshness::Stale if preserved.contains(&family) => Sweep::Keep,
            Freshness::LongStale if long.contains(&family) => Sweep::Keep,
            Freshness::Stale | Freshness::LongStale => Sweep::Remove,
        });
    }

    /// The session is over: its routes are kept, or go. What was stale already has not been told again, and goes
    /// (RFC 4724 §4.2, consecutive restarts), unless its long time runs.
    pub(super) fn lost(&mut self, name: &PeerName, ending: Ending, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let Some(source) = peer.source else {
            return;
        };
        let restart = &mut peer.restart;
        let (fates, time) = (restart.fates(ending), restart.time());
        let fate = |family: Family| fates.get(&family).copied().unwrap_or(Fate::Void);
        restart.overdue.clear();
        for family in Family::ALL {
            match fate(family) {
                Fate::LongStale => restart.begin_long(family, now),
                Fate::Void | Fate::Stale => {
                    restart.long_until.remove(&family);
                }
            }
        }
        let stale = fates.values().any(|fate| *fate == Fate::Stale);
        restart.until = stale.then(|| now + time);
        self.sweep(name, source, |family, freshness, marks| {
            match (fate(family), freshness) {
                (Fate::Void, _) | (_, Freshness::Stale) => Sweep::Remove,
                (Fate::Stale, Freshness::Fresh | Freshness::Refreshing) => {
                    Sweep::Mark(Freshness::Stale)
                }
                (Fate::Stale, Freshness::LongStale) => Sweep::Remove,
                (Fate::LongStale, _) if marks.has(Marks::NO_LLGR) => Sweep::Remove,
                (Fate::LongStale, Freshness::LongStale) => Sweep::Keep,
                (Fate::LongStale, Freshness::Fresh | Freshness::Refreshing) => {
                    Sweep::Mark(Freshness::LongStale)
                }
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
        let established = peer.agreed().is_some();
        let Some(source) = peer.source else {
            peer.restart.clear();
            return;
        };
        let restart = &mut peer.restart;
        let due = |at: &Instant| *at <= now;
        if restart.until.as_ref().is_some_and(due) {
            restart.until = None;
            // A peer that is back has not told them again.
            let long: BTreeSet<Family> = if established {
                BTreeSet::new()
            } else {
                restart.long_lived.keys().copied().collect()
            };
            for family in &long {
                restart.begin_long(*family, now);
            }
            self.sweep(name, source, |family, freshness, marks| match freshness {
                Freshness::Stale if long.contains(&family) && !marks.has(Marks::NO_LLGR) => {
                    Sweep::Mark(Freshness::LongStale)
                }
                Freshness::Stale => Sweep::Remove,
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
            if established {
                peer.restart.overdue.extend(&over);
            }
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
        peer.restart.overdue.remove(&ended);
        if !peer.restart.keeps() {
            return;
        }
        peer.restart.long_until.remove(&ended);
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
        peer.restart.clear();
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
        let left = self.rib.sweep(source, |family, path, rank| {
            of(family, path.freshness, rank.marks)
        });
        if let Some(peer) = self.peers.get_mut(name) {
            peer.counts.paths = left.map(|left| left.paths);
            peer.counts.fresh = left.map(|left| left.fresh);
        }
    }

    /// A peer without session and paths needs no number in the table. It is given back once everybody knows.
    fn forget_if_empty(&mut self, name: &PeerName) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer.counts.paths == [0, 0] && peer.agreed().is_none() {
            peer.restart.clear();
            self.retired.extend(peer.source.take());
            self.forget_kept(name, |_| true);
        }
    }
}
