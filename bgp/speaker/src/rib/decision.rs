//! The decision process (RFC 4271 §9.1.2.2).

use std::cmp::Reverse;
use std::net::IpAddr;

use super::hops::UNREACHABLE;
use super::neighbours::Neighbours;
use super::paths::{Freshness, PathRecord, SourceId};
use super::store::{AttrStore, Marks, Rank};
use crate::settings::{BestPath, MedComparison};
use crate::types::{Asn, BgpId};
use crate::wire::PeerKind;

/// Where one path is better than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// There is a way to its next hop (RFC 4271 §9.1.2.1).
    Reachable,
    /// Our own announcement.
    Own,
    /// Not kept from a session that has been lost for long (RFC 9494 §4.3).
    LongLived,
    /// Higher `LOCAL_PREF`.
    LocalPref,
    /// Shorter `AS_PATH`.
    AsPath,
    /// Lower ORIGIN.
    Origin,
    /// Lower MED.
    Med,
    /// eBGP before iBGP.
    External,
    /// The nearer next hop.
    Metric,
    /// Equally good; the lower identifier is told to peers.
    BgpId,
    /// Equally good; the shorter `CLUSTER_LIST` is told to peers.
    ClusterList,
    /// Equally good; the lower address, or path identifier, is told to peers.
    Address,
}

/// What paths are compared by.
pub(super) struct Judge<'a> {
    pub(super) store: &'a AttrStore,
    pub(super) neighbours: &'a Neighbours,
    pub(super) rules: BestPath,
}

impl Judge<'_> {
    /// Moves the selected paths to the front, the best first, and says how many they are.
    ///
    /// The steps, each among those that the one before left:
    /// 1. a way to the next hop, where that is tracked;
    /// 2. our own announcement;
    /// 3. not stale for long (RFC 9494);
    /// 4. highest `LOCAL_PREF` (100 where there is none);
    /// 5. shortest `AS_PATH`, a set counting one;
    /// 6. lowest ORIGIN;
    /// 7. lowest MED (0 where there is none) among paths from the same neighbouring AS, or among all;
    /// 8. eBGP before iBGP;
    /// 9. the nearest next hop, where that is tracked.
    ///
    /// What is left is equally good and selected (ECMP), up to the limit. The best of these, which peers are told,
    /// has the lowest identifier (`ORIGINATOR_ID` where there is one), then the shortest `CLUSTER_LIST`, then the
    /// lowest address, then the lowest path identifier. The result does not depend on the order of `paths`.
    pub(super) fn select(&self, paths: &mut [PathRecord]) -> usize {
        if paths.len() < 2 {
            return paths.len();
        }
        let best = paths.iter().map(|path| self.before_med(path)).min();
        let mut lowest: Vec<(Option<Asn>, u32)> = Vec::new();
        for path in paths.iter() {
            if Some(self.before_med(path)) != best {
                continue;
            }
            let (group, med) = self.med(path);
            match lowest.iter_mut().find(|(other, _)| *other == group) {
                Some((_, lowest)) => *lowest = med.min(*lowest),
                None => lowest.push((group, med)),
            }
        }
        let survives_med = |path: &PathRecord| {
            Some(self.before_med(path)) == best && lowest.contains(&self.med(path))
        };
        let nearest = paths
            .iter()
            .filter(|path| survives_med(path))
            .map(|path| (self.kind(path), self.cost(path)))
            .min();
        let survives = |path: &PathRecord| {
            survives_med(path) && Some((self.kind(path), self.cost(path))) == nearest
        };
        paths.sort_by_cached_key(|path| {
            (
                !survives(path),
                self.before_med(path),
                self.kind(path),
                self.cost(path),
                self.tie_breaker(path),
            )
        });
        let limit = match nearest.map(|(kind, _)| kind) {
            Some(Kind::Internal) => self.rules.multipath_internal,
            Some(Kind::Own | Kind::External) | None => self.rules.multipath_external,
        };
        let equal = paths.iter().take_while(|path| survives(path)).count();
        equal.min(usize::from(limit).max(1))
    }

    /// The first step at which `better` beats `other`, given that the selection put them in this order.
    pub(super) fn step(&self, better: &PathRecord, other: &PathRecord) -> Step {
        let (a, b) = (self.before_med(better), self.before_med(other));
        if a.0 != b.0 {
            Step::Reachable
        } else if a.1 != b.1 {
            Step::Own
        } else if a.2 != b.2 {
            Step::LongLived
        } else if a.3 != b.3 {
            Step::LocalPref
        } else if a.4 != b.4 {
            Step::AsPath
        } else if a.5 != b.5 {
            Step::Origin
        } else if self.med(better).0 == self.med(other).0 && self.med(better) != self.med(other) {
            Step::Med
        } else if self.kind(better) != self.kind(other) {
            Step::External
        } else if self.cost(better) != self.cost(other) {
            Step::Metric
        } else {
            let (a, b) = (self.tie_breaker(better), self.tie_breaker(other));
            if a.0 != b.0 {
                Step::BgpId
            } else if a.1 != b.1 {
                Step::ClusterList
            } else {
                Step::Address
            }
        }
    }

    fn rank(&self, path: &PathRecord) -> &Rank {
        &self.store.get(path.attrs).rank
    }

    /// Of the way to the next hop.
    fn cost(&self, path: &PathRecord) -> u32 {
        self.store.get(path.attrs).cost
    }

    /// Steps 1 to 6; the least is best.
    fn before_med(&self, path: &PathRecord) -> (bool, bool, bool, Reverse<u32>, u16, u8) {
        let rank = self.rank(path);
        (
            self.cost(path) == UNREACHABLE,
            path.source != SourceId::OWN,
            path.freshness == Freshness::LongStale || rank.marks.has(Marks::LLGR_STALE),
            Reverse(rank.local_pref),
            rank.path_length,
            rank.origin,
        )
    }

    /// With which others its MED compares, and the MED. Paths that began in our AS are one group.
    fn med(&self, path: &PathRecord) -> (Option<Asn>, u32) {
        let rank = self.rank(path);
        match self.rules.med {
            MedComparison::SameNeighbour => (rank.neighbour, rank.med),
            MedComparison::Always => (None, rank.med),
        }
    }

    fn kind(&self, path: &PathRecord) -> Kind {
        match self.neighbours.get(path.source) {
            None => Kind::Own,
            Some(neighbour) => match neighbour.kind {
                PeerKind::Ebgp => Kind::External,
                PeerKind::Ibgp => Kind::Internal,
            },
        }
    }

    fn tie_breaker(&self, path: &PathRecord) -> (Option<BgpId>, u16, Option<IpAddr>, u32) {
        let rank = self.rank(path);
        let neighbour = self.neighbours.get(path.source);
        (
            rank.originator.or(neighbour.map(|n| n.bgp_id)),
            rank.clusters,
            neighbour.map(|n| n.address),
            path.id,
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Own,
    External,
    Internal,
}

#[cfg(test)]
mod tests;
