//! The decision process (RFC 4271 §9.1.2.2).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Path, Source};
use crate::types::{Asn, BgpId};
use crate::wire::PeerKind;

/// Moves the selected paths to the front, the best first, and says how many they are.
///
/// The steps, each among those that the one before left:
/// 1. our own announcement;
/// 2. highest `LOCAL_PREF` (100 where there is none);
/// 3. shortest `AS_PATH`, a set counting one;
/// 4. lowest ORIGIN;
/// 5. lowest MED (0 where there is none) among paths from the same neighbouring AS;
/// 6. eBGP before iBGP.
///
/// What is left is equally good and selected (ECMP). The best of these, which peers are told, has the lowest
/// identifier (`ORIGINATOR_ID` where there is one), then the shortest `CLUSTER_LIST`, then the lowest address.
/// The result does not depend on the order of `paths`.
pub(super) fn select(paths: &mut [Path]) -> usize {
    if paths.len() < 2 {
        return paths.len();
    }
    let best = paths.iter().map(before_med).min();
    let survives = |path: &Path| Some(before_med(path)) == best;
    let mut lowest_med: BTreeMap<Option<Asn>, u32> = BTreeMap::new();
    for path in paths.iter().filter(|path| survives(path)) {
        let lowest = lowest_med.entry(neighbour_as(path)).or_insert(u32::MAX);
        *lowest = med(path).min(*lowest);
    }
    let survives =
        |path: &Path| survives(path) && lowest_med.get(&neighbour_as(path)) == Some(&med(path));
    let nearest = paths
        .iter()
        .filter(|path| survives(path))
        .map(internal)
        .min();
    let survives = |path: &Path| survives(path) && Some(internal(path)) == nearest;
    paths.sort_by_cached_key(|path| (!survives(path), tie_breaker(path)));
    paths.iter().take_while(|path| survives(path)).count()
}

/// Steps 1 to 4; the least is best.
fn before_med(path: &Path) -> impl Ord + use<> {
    (
        path.source != Source::Own,
        Reverse(path.attrs.local_pref.unwrap_or(100)),
        path.attrs.as_path.length(),
        path.attrs.origin,
    )
}

/// Which MEDs compare: those from one AS, and those that began in ours.
fn neighbour_as(path: &Path) -> Option<Asn> {
    path.attrs.as_path.neighbour()
}

fn med(path: &Path) -> u32 {
    path.attrs.med.unwrap_or(0)
}

fn internal(path: &Path) -> bool {
    match &path.source {
        Source::Own => false,
        Source::Peer(neighbour) => neighbour.kind == PeerKind::Ibgp,
    }
}

fn tie_breaker(path: &Path) -> (Option<BgpId>, usize, Option<IpAddr>) {
    let (bgp_id, address) = match &path.source {
        Source::Own => (None, None),
        Source::Peer(neighbour) => (Some(neighbour.bgp_id), Some(neighbour.address)),
    };
    (
        path.attrs.originator_id.or(bgp_id),
        path.attrs.cluster_list.len(),
        address,
    )
}

#[cfg(test)]
mod tests;
