use super::*;
use crate::wire::{AsPath, Segment, SegmentKind};

fn check(change: impl FnOnce(&mut PathAttrs), next_hop: &str) -> Result<(), Refusal> {
    let own = BTreeSet::from(["2001:db8::1".parse().unwrap()]);
    let importer = importer("192.0.2.1", &own);
    let mut attrs = PathAttrs::default();
    change(&mut attrs);
    importer.check(&attrs, next_hop.parse::<IpAddr>().unwrap().into())
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
    let importer = importer("127.0.0.2", &own);
    let next_hop = "127.0.0.3".parse::<IpAddr>().unwrap().into();
    assert_eq!(importer.check(&PathAttrs::default(), next_hop), Ok(()));
}

#[test]
fn over_a_link_its_link_local_addresses_are_next_hops() {
    let own = BTreeSet::new();
    let importer = importer("fe80::1", &own);
    let next_hop = "fe80::2".parse::<IpAddr>().unwrap().into();
    assert_eq!(importer.check(&PathAttrs::default(), next_hop), Ok(()));
}

#[test]
fn our_own_as_may_stand_in_the_path_as_often_as_is_allowed() {
    let own = BTreeSet::new();
    let mut importer = importer("192.0.2.1", &own);
    importer.allow_own_as = 2;
    let next_hop = || "192.0.2.2".parse::<IpAddr>().unwrap().into();
    let mut attrs = PathAttrs::default();
    for times in 1..4 {
        attrs.as_path = attrs.as_path.prepended(Asn(64512));
        let expected = if times > 2 {
            Err(Refusal::AsLoop)
        } else {
            Ok(())
        };
        assert_eq!(importer.check(&attrs, next_hop()), expected);
    }
}

fn importer<'a>(local: &str, own: &'a BTreeSet<IpAddr>) -> Importer<'a> {
    let id = BgpId([192, 0, 2, 1].into());
    Importer {
        asn: Asn(64512),
        allow_own_as: 0,
        local_as: None,
        bgp_id: id,
        cluster: id,
        kind: PeerKind::Ebgp,
        graceful_shutdown: Switch::On,
        without_policy: Switch::Off,
        local: local.parse().unwrap(),
        own,
    }
}
