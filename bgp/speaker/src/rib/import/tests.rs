use super::*;
use crate::wire::{AsPath, Segment, SegmentKind};

fn check(change: impl FnOnce(&mut PathAttrs), next_hop: &str) -> Result<(), Refusal> {
    let own = BTreeSet::from(["2001:db8::1".parse().unwrap()]);
    let importer = Importer {
        asn: Asn(64512),
        bgp_id: BgpId([192, 0, 2, 1].into()),
        local: "192.0.2.1".parse().unwrap(),
        own: &own,
    };
    let mut attrs = PathAttrs::default();
    change(&mut attrs);
    importer.check(&attrs, next_hop.parse().unwrap())
}

fn segment(kind: SegmentKind, asn: u32) -> AsPath {
    AsPath(vec![Segment {
        kind,
        asns: vec![Asn(asn)],
    }])
}

#[test]
fn a_usable_route_is_used() {
    assert_eq!(
        check(
            |a| a.as_path = segment(SegmentKind::Sequence, 65000),
            "192.0.2.2"
        ),
        Ok(())
    );
    assert_eq!(
        check(
            |a| a.as_path = segment(SegmentKind::Set, 65000),
            "2001:db8::2"
        ),
        Ok(())
    );
}

#[test]
fn a_route_that_has_been_here_is_not_used() {
    let ours = |kind| check(|a| a.as_path = segment(kind, 64512), "192.0.2.2");
    assert_eq!(ours(SegmentKind::Sequence), Err(Refusal::AsLoop));
    assert_eq!(ours(SegmentKind::Set), Err(Refusal::AsLoop));
    let id = BgpId([192, 0, 2, 1].into());
    let originated = check(|a| a.originator_id = Some(id), "192.0.2.2");
    assert_eq!(originated, Err(Refusal::Reflected));
    let reflected = check(|a| a.cluster_list = vec![id], "192.0.2.2");
    assert_eq!(reflected, Err(Refusal::Reflected));
    let confederation = check(
        |a| a.as_path = segment(SegmentKind::ConfedSequence, 65000),
        "192.0.2.2",
    );
    assert_eq!(confederation, Err(Refusal::Confederation));
}

#[test]
fn next_hops_that_lead_nowhere_are_not_used() {
    for ours in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(
            check(|_| {}, ours),
            Err(Refusal::NextHopIsOurs(ours.parse().unwrap()))
        );
    }
    for nowhere in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "fe80::1",
    ] {
        assert_eq!(
            check(|_| {}, nowhere),
            Err(Refusal::NextHop(nowhere.parse().unwrap()))
        );
    }
}

#[test]
fn speakers_of_one_host_may_use_loopback() {
    let own = BTreeSet::new();
    let importer = Importer {
        asn: Asn(64512),
        bgp_id: BgpId([192, 0, 2, 1].into()),
        local: "127.0.0.2".parse().unwrap(),
        own: &own,
    };
    let next_hop = "127.0.0.3".parse().unwrap();
    assert_eq!(importer.check(&PathAttrs::default(), next_hop), Ok(()));
}
