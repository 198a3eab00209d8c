use proptest::prelude::*;

use super::*;
use crate::rib::{Freshness, LocRib, Neighbour};
use crate::settings::Reflection;
use crate::wire::{AsPath, NextHop, Origin, PathAttrs, Segment, SegmentKind};

/// A path by peer number `n`; 0 is ourselves.
#[derive(Clone)]
struct Told {
    n: u8,
    kind: PeerKind,
    attrs: PathAttrs,
    freshness: Freshness,
}

/// A path by peer number `n`, through one neighbouring AS, all else usual.
fn path(n: u8, change: impl FnOnce(&mut PathAttrs)) -> Told {
    let mut attrs = PathAttrs {
        as_path: sequence(&[65000]),
        ..PathAttrs::default()
    };
    change(&mut attrs);
    by(n, PeerKind::Ebgp, attrs)
}

fn by(n: u8, kind: PeerKind, attrs: PathAttrs) -> Told {
    Told {
        n,
        kind,
        attrs,
        freshness: Freshness::Fresh,
    }
}

fn sequence(asns: &[u32]) -> AsPath {
    AsPath(vec![Segment {
        kind: SegmentKind::Sequence,
        asns: asns.iter().copied().map(Asn).collect(),
    }])
}

/// The numbers of the selected paths, the best first; the same for every order of the paths.
fn selected(paths: &[Told]) -> Vec<u8> {
    selected_by(paths, BestPath::default())
}

fn selected_by(paths: &[Told], rules: BestPath) -> Vec<u8> {
    let mut results = Vec::new();
    for turn in 0..paths.len() {
        for reversed in [false, true] {
            let mut paths = paths.to_vec();
            paths.rotate_left(turn);
            if reversed {
                paths.reverse();
            }
            results.push(select(&paths, rules));
        }
    }
    results.dedup();
    assert_eq!(results.len(), 1, "depends on the order: {results:?}");
    results.remove(0)
}

/// Puts them into a table one after the other.
fn select(paths: &[Told], rules: BestPath) -> Vec<u8> {
    let mut rib = LocRib::new(1);
    rib.set_rules(rules);
    let prefix = "10.0.0.0/24".parse().unwrap();
    let mut numbers = vec![0];
    for _ in 1..=20_u8 {
        let n = u8::try_from(numbers.len()).unwrap();
        let path = paths.iter().find(|path| path.n == n);
        rib.neighbours.add(Neighbour {
            name: format!("p{n}").into(),
            kind: path.map_or(PeerKind::Ebgp, |path| path.kind),
            address: [192, 0, 2, n].into(),
            bgp_id: BgpId([192, 0, 2, n].into()),
            reflection: Reflection::Ordinary,
        });
        numbers.push(n);
    }
    for path in paths {
        let hop = NextHop::V4([192, 0, 2, path.n].into());
        let attrs = rib.store.intern(&path.attrs, hop);
        let source = SourceId(path.n.into());
        rib.insert(&prefix, source, 0, attrs);
        if path.freshness != Freshness::Fresh {
            let stale = path.freshness;
            rib.sweep(source, |_, _, _| crate::rib::Sweep::Mark(stale));
        }
    }
    let slot = rib.find(&prefix).unwrap();
    let number = |path: &PathRecord| u8::try_from(path.source.0).unwrap();
    rib.selected(slot).iter().map(number).collect()
}

#[test]
fn an_own_prefix_wins_over_everything() {
    let own = path(0, |_| {});
    let better = path(1, |attrs| attrs.local_pref = Some(1000));
    assert_eq!(selected(&[own, better]), [0]);
}

#[test]
fn what_is_stale_for_long_is_the_last_choice() {
    // RFC 9494 §4.3: also what another speaker marks so.
    let mut stale = path(1, |attrs| attrs.local_pref = Some(1000));
    stale.freshness = Freshness::LongStale;
    let fresh = path(2, |_| {});
    assert_eq!(selected(&[stale.clone(), fresh.clone()]), [2]);
    stale.freshness = Freshness::Stale;
    assert_eq!(selected(&[stale.clone(), fresh.clone()]), [1]);
    let marked = path(3, |attrs| {
        attrs.local_pref = Some(1000);
        attrs.communities = vec![crate::wire::community::LLGR_STALE];
    });
    assert_eq!(selected(&[marked, fresh]), [2]);
}

#[test]
fn med_compares_among_all_if_the_settings_say_so() {
    let one = path(1, |a| a.med = Some(10));
    let two = path(2, |a| {
        a.med = Some(5);
        a.as_path = sequence(&[65001]);
    });
    let always = BestPath {
        med: MedComparison::Always,
        ..BestPath::default()
    };
    assert_eq!(selected(&[one.clone(), two.clone()]), [1, 2]);
    assert_eq!(selected_by(&[one, two], always), [2]);
}

#[test]
fn no_more_equal_paths_are_used_than_the_settings_allow() {
    let rules = BestPath {
        multipath_external: 2,
        multipath_internal: 1,
        ..BestPath::default()
    };
    let external: Vec<_> = (1..5).map(|n| path(n, |_| {})).collect();
    assert_eq!(selected_by(&external, rules), [1, 2]);
    let internal: Vec<_> = (1..5)
        .map(|n| by(n, PeerKind::Ibgp, PathAttrs::default()))
        .collect();
    assert_eq!(selected_by(&internal, rules), [1]);
}

#[test]
fn the_steps_in_their_order() {
    let longer = sequence(&[65000, 65001]);
    let rows: [(Told, Told); 6] = [
        // LOCAL_PREF before the length of AS_PATH; none is 100.
        (
            path(2, |a| {
                a.local_pref = Some(101);
                a.as_path = longer.clone();
            }),
            path(1, |_| {}),
        ),
        (path(2, |_| {}), path(1, |a| a.local_pref = Some(99))),
        // The length before ORIGIN.
        (
            path(2, |a| a.origin = Origin::Incomplete),
            path(1, |a| a.as_path = longer.clone()),
        ),
        // ORIGIN before MED.
        (
            path(2, |a| a.med = Some(9)),
            path(1, |a| a.origin = Origin::Egp),
        ),
        // MED, none being 0, before eBGP over iBGP.
        (
            by(2, PeerKind::Ibgp, path(2, |_| {}).attrs),
            path(1, |a| a.med = Some(1)),
        ),
        // eBGP before iBGP.
        (
            path(2, |_| {}),
            by(1, PeerKind::Ibgp, path(1, |_| {}).attrs),
        ),
    ];
    for (index, (winner, loser)) in rows.into_iter().enumerate() {
        assert_eq!(selected(&[winner, loser]), [2], "row {index}");
    }
}

#[test]
fn equal_paths_share_the_traffic_and_the_lowest_identifier_leads() {
    let paths = [path(3, |_| {}), path(1, |_| {}), path(2, |_| {})];
    assert_eq!(selected(&paths), [1, 2, 3]);
}

#[test]
fn a_set_in_the_path_counts_one() {
    let set = path(1, |attrs| {
        attrs.as_path.0.push(Segment {
            kind: SegmentKind::Set,
            asns: vec![Asn(1), Asn(2), Asn(3)],
        });
    });
    let two = path(2, |attrs| attrs.as_path = sequence(&[65000, 65001]));
    assert_eq!(selected(&[set, two]), [1, 2]);
}

#[test]
fn med_compares_only_among_the_paths_of_one_neighbouring_as() {
    // Path 2 loses to 1 by MED; 3 is of another AS.
    let one = path(1, |a| a.med = Some(10));
    let two = path(2, |a| a.med = Some(20));
    let three = path(3, |a| {
        a.med = Some(30);
        a.as_path = sequence(&[65001]);
    });
    assert_eq!(selected(&[one, two, three]), [1, 3]);
}

#[test]
fn a_reflected_path_is_ranked_by_where_it_began() {
    let reflected = path(1, |a| {
        a.originator_id = Some(BgpId([192, 0, 2, 200].into()));
    });
    let twice = path(2, |a| {
        a.originator_id = Some(BgpId([192, 0, 2, 100].into()));
        a.cluster_list = vec![BgpId([1, 1, 1, 1].into()); 2];
    });
    let once = path(3, |a| {
        a.originator_id = Some(BgpId([192, 0, 2, 100].into()));
        a.cluster_list = vec![BgpId([1, 1, 1, 1].into())];
    });
    assert_eq!(selected(&[reflected, twice, once]), [3, 2, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_arrival_is_irrelevant(
        rows in proptest::collection::vec((0..3_u32, 0..2_u32, 0..2_u32, 0..3_u32, any::<bool>()), 1..7)
    ) {
        let paths: Vec<_> = rows
            .into_iter()
            .enumerate()
            .map(|(index, (preference, length, neighbour, med, internal))| {
                let mut asns = vec![65000 + neighbour];
                asns.extend((0..length).map(|n| 1 + n));
                let attrs = PathAttrs {
                    local_pref: (preference > 0).then_some(98 + preference),
                    as_path: sequence(&asns),
                    med: (med > 0).then_some(med),
                    ..PathAttrs::default()
                };
                let kind = if internal { PeerKind::Ibgp } else { PeerKind::Ebgp };
                by(u8::try_from(index).unwrap() + 1, kind, attrs)
            })
            .collect();
        // Asserts inside.
        prop_assert!(!selected(&paths).is_empty());
    }
}
