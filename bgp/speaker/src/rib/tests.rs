use std::collections::BTreeMap;

use super::*;
use crate::jitter::Jitter;
use crate::settings::Reflection;
use crate::types::BgpId;
use crate::wire::PeerKind;

fn rib(peers: u8) -> LocRib {
    let mut rib = LocRib::new(7);
    for n in 1..=peers {
        rib.neighbours.add(Neighbour {
            name: format!("p{n}").into(),
            kind: PeerKind::Ebgp,
            address: [192, 0, 2, n].into(),
            bgp_id: BgpId([192, 0, 2, n].into()),
            reflection: Reflection::Ordinary,
        });
    }
    rib
}

fn attrs(rib: &mut LocRib, med: u32) -> AttrId {
    let attrs = PathAttrs {
        med: Some(med),
        ..PathAttrs::default()
    };
    rib.store.intern(&attrs, NextHop::V4([192, 0, 2, 9].into()))
}

fn prefix(n: u32) -> IpNet {
    if n.is_multiple_of(2) {
        format!("10.0.{n}.0/24").parse().unwrap()
    } else {
        format!("2001:db8:{n}::/48").parse().unwrap()
    }
}

/// Random changes against a plain map of what must be there; nothing is held in the end.
#[test]
fn the_table_holds_what_was_put_in_and_forgets_what_was_taken_out() {
    let mut rib = rib(4);
    let mut random = Jitter::new(3);
    let mut number = |below: u64| u32::try_from(random.next() % below).unwrap();
    let mut model: BTreeMap<(IpNet, u16, u32), u32> = BTreeMap::new();
    for round in 0..20_000 {
        let (prefix, id) = (prefix(number(40)), number(2));
        let source = u16::try_from(number(5)).unwrap();
        if number(3) == 0 {
            let known = model.remove(&(prefix, source, id));
            let fresh = known.map(|_| Freshness::Fresh);
            assert_eq!(rib.remove(&prefix, SourceId(source), id), fresh);
        } else {
            let med = number(5);
            let attrs = attrs(&mut rib, med);
            let known = model.insert((prefix, source, id), med);
            let fresh = known.map(|_| Freshness::Fresh);
            assert_eq!(rib.insert(&prefix, SourceId(source), id, attrs), fresh);
            rib.store.release(attrs);
        }
        if round % 7 == 0 {
            let changed = rib.take_changed();
            rib.settle(changed);
        }
        let there: BTreeMap<_, _> = rib.find(&prefix).map_or(BTreeMap::new(), |slot| {
            assert_eq!(rib.prefix(slot), prefix);
            let paths = rib.paths(slot).iter();
            paths
                .map(|path| ((prefix, path.source.0, path.id), rib.stored(path).rank.med))
                .collect()
        });
        let expected: BTreeMap<_, _> = model
            .range((prefix, 0, 0)..=(prefix, u16::MAX, u32::MAX))
            .map(|(key, med)| (*key, *med))
            .collect();
        assert_eq!(there, expected);
    }
    for (prefix, source, id) in model.into_keys() {
        rib.remove(&prefix, SourceId(source), id);
    }
    let changed = rib.take_changed();
    rib.settle(changed);
    assert_eq!(rib.store.len(), 0);
    assert_eq!(Family::ALL.map(|family| rib.slots(family).count()), [0, 0]);
}

#[test]
fn a_change_is_told_once_and_says_whether_the_best_path_is_concerned() {
    let mut rib = rib(2);
    let (better, worse) = (attrs(&mut rib, 1), attrs(&mut rib, 2));
    let prefix = prefix(0);
    rib.insert(&prefix, SourceId(1), 0, better);
    rib.insert(&prefix, SourceId(1), 0, worse);
    let changed = rib.take_changed();
    assert_eq!(changed.len(), 1);
    assert!(rib.best_changed(changed[0]));
    rib.settle(changed);
    rib.insert(&prefix, SourceId(2), 0, worse);
    let changed = rib.take_changed();
    assert!(!rib.best_changed(changed[0]), "the lower identifier leads");
    rib.settle(changed);
    rib.insert(&prefix, SourceId(2), 0, better);
    let changed = rib.take_changed();
    assert!(rib.best_changed(changed[0]));
}

#[test]
fn a_sweep_marks_and_removes_the_paths_of_one_source() {
    let mut rib = rib(2);
    let attrs = attrs(&mut rib, 1);
    for n in 0..6 {
        rib.insert(&prefix(n), SourceId(1), 0, attrs);
        rib.insert(&prefix(n), SourceId(2), 0, attrs);
    }
    let left = rib.sweep(SourceId(1), |family, _, _| match family {
        Family::Ipv4 => Sweep::Mark(Freshness::Stale),
        Family::Ipv6 => Sweep::Remove,
    });
    let four = Left { paths: 3, fresh: 0 };
    assert_eq!(left, [four, Left::default()]);
    let four = rib.find(&prefix(0)).unwrap();
    let freshness: Vec<_> = rib.paths(four).iter().map(|path| path.freshness).collect();
    assert_eq!(freshness, [Freshness::Stale, Freshness::Fresh]);
    assert_eq!(rib.paths(rib.find(&prefix(1)).unwrap()).len(), 1);
}
