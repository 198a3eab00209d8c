use std::net::Ipv6Addr;

use super::*;
use crate::wire::Notification;
use crate::wire::octets::{len16, put_u16};

// The attributes of a good route: ORIGIN, AS_PATH 65000, NEXT_HOP 192.0.2.2.
const ORIGIN: &str = "40 01 01 00";
const AS_PATH: &str = "40 02 06 02 01 0000fde8";
const NEXT_HOP: &str = "40 03 04 c0000202";
// MP_REACH_NLRI for 2001:db8:1::/48 by 2001:db8::2.
const MP_REACH: &str = "80 0e 1c 0002 01 10 20010db8000000000000000000000002 00 30 20010db80001";

/// What becomes of the route 198.51.100.0/24, and of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// As if nothing was wrong.
    Fine,
    /// The attribute is dropped, the route stays.
    Discard,
    /// The route counts as withdrawn.
    Withdraw,
    /// NOTIFICATION 3 with this subcode.
    Reset(u8),
}

use Fate::{Discard, Fine, Reset, Withdraw};

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect()
}

/// An UPDATE that announces 198.51.100.0/24 with these attributes.
fn update(attributes: &[&str]) -> Vec<u8> {
    let attributes = octets(&attributes.concat());
    let mut body = vec![0, 0];
    put_u16(&mut body, len16(attributes.len()));
    body.extend_from_slice(&attributes);
    body.extend_from_slice(&[24, 198, 51, 100]);
    body
}

fn context(peer: PeerKind) -> Context {
    Context::new(AsWidth::Four, peer)
}

fn fate(body: &[u8], context: Context) -> Fate {
    match Update::decode(body, context) {
        Err(error) => {
            let notification = error.notification();
            assert_eq!(notification.code, 3);
            Reset(notification.subcode)
        }
        Ok(update) => match update.announced {
            Announced::Nothing => panic!("the route was lost sight of"),
            Announced::Unusable(_) => Withdraw,
            Announced::Routes(_) if update.discarded.is_empty() => Fine,
            Announced::Routes(_) => Discard,
        },
    }
}

/// What it is, the attribute in hex, its fate from an eBGP and from an iBGP peer.
#[rustfmt::skip]
const ROWS: &[(&str, &str, Fate, Fate)] = &[
    // §7.1
    ("ORIGIN of length 0", "40 01 00", Withdraw, Withdraw),
    ("ORIGIN of length 2", "40 01 02 0000", Withdraw, Withdraw),
    ("ORIGIN 3", "40 01 01 03", Withdraw, Withdraw),
    ("ORIGIN 255", "40 01 01 ff", Withdraw, Withdraw),
    ("ORIGIN optional", "c0 01 01 00", Withdraw, Withdraw),
    ("ORIGIN not transitive", "00 01 01 00", Withdraw, Withdraw),
    ("ORIGIN partial", "60 01 01 00", Fine, Fine),
    ("ORIGIN with two octets of length", "50 01 0001 00", Fine, Fine),
    // §7.2, RFC 7607
    ("AS_PATH empty", "40 02 00", Fine, Fine),
    ("AS_PATH segment type 0", "40 02 06 00 01 0000fde8", Withdraw, Withdraw),
    ("AS_PATH segment type 5", "40 02 06 05 01 0000fde8", Withdraw, Withdraw),
    ("AS_PATH segment without numbers", "40 02 02 02 00", Withdraw, Withdraw),
    ("AS_PATH segment over the end", "40 02 06 02 02 0000fde8", Withdraw, Withdraw),
    ("AS_PATH segment short of the end", "40 02 07 02 01 0000fde8 02", Withdraw, Withdraw),
    ("AS_PATH with AS 0", "40 02 06 02 01 00000000", Withdraw, Withdraw),
    ("AS_PATH optional", "c0 02 06 02 01 0000fde8", Withdraw, Withdraw),
    ("AS_PATH with a set", "40 02 06 01 01 0000fde8", Fine, Fine),
    // RFC 5065 §3
    ("AS_PATH with a confederation's sequence and set", "40 02 12 03 01 0000fc01 04 01 0000fc02 02 01 0000fde8", Fine, Fine),
    // §7.3
    ("NEXT_HOP of length 3", "40 03 03 c00002", Withdraw, Withdraw),
    ("NEXT_HOP of length 16", "40 03 10 00000000000000000000000000000001", Withdraw, Withdraw),
    ("NEXT_HOP optional", "c0 03 04 c0000202", Withdraw, Withdraw),
    // §7.4
    ("MULTI_EXIT_DISC", "80 04 04 00000001", Fine, Fine),
    ("MULTI_EXIT_DISC of length 3", "80 04 03 000001", Withdraw, Withdraw),
    ("MULTI_EXIT_DISC of length 5", "80 04 05 0000000001", Withdraw, Withdraw),
    ("MULTI_EXIT_DISC transitive", "c0 04 04 00000001", Withdraw, Withdraw),
    // §7.5
    ("LOCAL_PREF", "40 05 04 00000064", Discard, Fine),
    ("LOCAL_PREF of length 3", "40 05 03 000064", Discard, Withdraw),
    ("LOCAL_PREF optional", "c0 05 04 00000064", Discard, Withdraw),
    // §7.6
    ("ATOMIC_AGGREGATE", "40 06 00", Fine, Fine),
    ("ATOMIC_AGGREGATE of length 1", "40 06 01 00", Discard, Discard),
    ("ATOMIC_AGGREGATE optional", "c0 06 00", Withdraw, Withdraw),
    // §7.7, RFC 7607
    ("AGGREGATOR", "c0 07 08 0000fde8 c0000202", Fine, Fine),
    ("AGGREGATOR of length 5", "c0 07 05 0000fde8 c0", Discard, Discard),
    ("AGGREGATOR of length 6 between new speakers", "c0 07 06 fde8 c0000202", Discard, Discard),
    ("AGGREGATOR of length 9", "c0 07 09 0000fde8 c0000202 00", Discard, Discard),
    ("AGGREGATOR with AS 0", "c0 07 08 00000000 c0000202", Discard, Discard),
    ("AGGREGATOR not transitive", "80 07 08 0000fde8 c0000202", Withdraw, Withdraw),
    // §7.8
    ("COMMUNITIES", "c0 08 08 fde80001 fde80002", Fine, Fine),
    ("COMMUNITIES of length 0", "c0 08 00", Withdraw, Withdraw),
    ("COMMUNITIES of length 6", "c0 08 06 fde80001 fde8", Withdraw, Withdraw),
    ("COMMUNITIES not transitive", "80 08 04 fde80001", Withdraw, Withdraw),
    // §7.9
    ("ORIGINATOR_ID", "80 09 04 c0000209", Discard, Fine),
    ("ORIGINATOR_ID of length 3", "80 09 03 c00002", Discard, Withdraw),
    ("ORIGINATOR_ID transitive", "c0 09 04 c0000209", Discard, Withdraw),
    // §7.10
    ("CLUSTER_LIST", "80 0a 08 c0000209 c000020a", Discard, Fine),
    ("CLUSTER_LIST of length 0", "80 0a 00", Discard, Withdraw),
    ("CLUSTER_LIST of length 5", "80 0a 05 c0000209 c0", Discard, Withdraw),
    // §7.11
    ("MP_REACH_NLRI", MP_REACH, Fine, Fine),
    ("MP_REACH_NLRI transitive", "c0 0e 05 0002 01 00 00", Reset(4), Reset(4)),
    ("MP_REACH_NLRI without family", "80 0e 02 0002", Reset(9), Reset(9)),
    ("MP_REACH_NLRI, next hop of length 0", "80 0e 05 0002 01 00 00", Reset(9), Reset(9)),
    ("MP_REACH_NLRI, next hop of length 17", "80 0e 16 0002 01 11 20010db800000000000000000000000200 00", Reset(9), Reset(9)),
    ("MP_REACH_NLRI, next hop over the end", "80 0e 08 0002 01 10 20010db8", Reset(9), Reset(9)),
    ("MP_REACH_NLRI, prefix of 129 bits", "80 0e 26 0002 01 10 20010db8000000000000000000000002 00 81 20010db800000000000000000000000000", Reset(10), Reset(10)),
    ("MP_REACH_NLRI of another family", "80 0e 05 0001 80 00 00", Fine, Fine),
    ("MP_REACH_NLRI over the end of the attributes", "80 0e 30 0002 01", Reset(9), Reset(9)),
    // §7.12
    ("MP_UNREACH_NLRI", "80 0f 0a 0002 01 30 20010db80001", Fine, Fine),
    ("MP_UNREACH_NLRI without family", "80 0f 02 0002", Reset(9), Reset(9)),
    ("MP_UNREACH_NLRI, prefix over the end", "80 0f 05 0002 01 30 20", Reset(10), Reset(10)),
    // RFC 6793 §6
    ("AS4_PATH between new speakers", "c0 11 06 02 01 0000fde8", Discard, Discard),
    ("AS4_AGGREGATOR between new speakers", "c0 12 08 0000fde8 c0000202", Discard, Discard),
    // RFC 8092 §6
    ("large communities", "c0 20 0c 0000fde8 00000001 00000002", Fine, Fine),
    ("large communities of length 0", "c0 20 00", Withdraw, Withdraw),
    ("large communities of length 8", "c0 20 08 0000fde8 00000001", Withdraw, Withdraw),
    // RFC 4271 §5, §6.3
    ("unknown, optional, transitive", "c0 c8 03 010203", Fine, Fine),
    ("unknown, optional, not transitive", "80 c8 03 010203", Fine, Fine),
    ("unknown and well known", "40 c8 03 010203", Reset(2), Reset(2)),
    // §4
    ("an attribute over the end of all", "c0 c8 40 010203", Withdraw, Withdraw),
    ("half a header at the end of all", "c0", Withdraw, Withdraw),
];

/// The attribute of each row stands in place of the good one of its type, or beside the good ones.
#[test]
fn malformed_attributes_have_the_fate_that_rfc_7606_gives_them() {
    for (what, attribute, ebgp, ibgp) in ROWS {
        let code = octets(attribute).get(1).copied();
        let good = [(1, ORIGIN), (2, AS_PATH), (3, NEXT_HOP)];
        let mut attributes: Vec<&str> = good
            .iter()
            .filter(|(other, _)| Some(*other) != code)
            .map(|(_, attribute)| *attribute)
            .collect();
        attributes.push(attribute);
        let body = update(&attributes);
        assert_eq!(fate(&body, context(PeerKind::Ebgp)), *ebgp, "{what}, eBGP");
        assert_eq!(fate(&body, context(PeerKind::Ibgp)), *ibgp, "{what}, iBGP");
    }
}

#[test]
fn a_route_without_a_mandatory_attribute_counts_as_withdrawn() {
    let context = context(PeerKind::Ebgp);
    assert_eq!(fate(&update(&[ORIGIN, AS_PATH, NEXT_HOP]), context), Fine);
    for attributes in [[ORIGIN, AS_PATH], [ORIGIN, NEXT_HOP], [AS_PATH, NEXT_HOP]] {
        assert_eq!(fate(&update(&attributes), context), Withdraw);
    }
}

#[test]
fn of_an_attribute_that_stands_twice_the_first_counts() {
    let body = update(&[ORIGIN, AS_PATH, NEXT_HOP, "40 01 01 02"]);
    let update = Update::decode(&body, context(PeerKind::Ebgp)).unwrap();
    assert_eq!(update.discarded, [UpdateError::Twice(1)]);
    let Announced::Routes(attrs) = update.announced else {
        panic!("usable");
    };
    assert_eq!(attrs.origin, Origin::Igp);
}

#[test]
fn prefixes_that_stand_twice_in_mp_attributes_end_the_session() {
    let body = update(&[ORIGIN, AS_PATH, NEXT_HOP, MP_REACH, MP_REACH]);
    assert_eq!(fate(&body, context(PeerKind::Ebgp)), Reset(1));
}

#[test]
fn lengths_that_do_not_fit_end_the_session() {
    for body in [
        "",
        "00",
        "0000",
        "0000 00",
        "0005 0000",
        "0000 0001",
        "0001 00 0002 00",
    ] {
        let error = Update::decode(&octets(body), context(PeerKind::Ebgp)).unwrap_err();
        assert_eq!(
            error.notification(),
            Notification::new(3, 1, &[]),
            "{body:?}"
        );
    }
}

#[test]
fn prefixes_that_cannot_be_told_apart_end_the_session() {
    for body in [
        "0000 0000 21 c633640001",
        "0000 0000 18 c633",
        "0002 21 c6 0000",
    ] {
        let error = Update::decode(&octets(body), context(PeerKind::Ebgp)).unwrap_err();
        assert_eq!(
            error.notification(),
            Notification::new(3, 10, &[]),
            "{body:?}"
        );
    }
}

#[test]
fn host_bits_of_a_prefix_are_cleared() {
    let mut rest = &[20, 198, 51, 255][..];
    let prefix = super::super::prefix::take_prefix(Family::Ipv4, &mut rest);
    assert_eq!(prefix, Ok(Some("198.51.240.0/20".parse().unwrap())));
}

#[test]
fn an_old_speakers_path_gets_its_long_numbers_back() {
    let old = Context::new(AsWidth::Two, PeerKind::Ebgp);
    let path = |attributes: &[&str]| {
        let body = update(attributes);
        match Update::decode(&body, old).unwrap().announced {
            Announced::Routes(attrs) => {
                let asns = attrs.as_path.0.into_iter().flat_map(|segment| segment.asns);
                asns.map(|asn| asn.0).collect::<Vec<_>>()
            }
            Announced::Nothing | Announced::Unusable(_) => panic!("usable"),
        }
    };
    // 65001, AS_TRANS, AS_TRANS; AS4_PATH knows the last two.
    let long = "c0 11 0a 02 02 fa56ea01 fa56ea02";
    let short = "40 02 08 02 03 fde9 5ba0 5ba0";
    assert_eq!(
        path(&[ORIGIN, short, NEXT_HOP, long]),
        [65001, 4_200_000_001, 4_200_000_002]
    );
    // An AS4_PATH that is longer than AS_PATH is of no use (RFC 6793 §4.2.3).
    let shorter = "40 02 04 02 01 5ba0";
    assert_eq!(path(&[ORIGIN, shorter, NEXT_HOP, long]), [23456]);
    // Whoever aggregated without AS_TRANS has made AS4_AGGREGATOR and AS4_PATH void.
    let aggregator = "c0 07 06 fde9 c0000202";
    let aggregator4 = "c0 12 08 fa56ea01 c0000202";
    assert_eq!(
        path(&[ORIGIN, short, NEXT_HOP, aggregator, long, aggregator4]),
        [65001, 23456, 23456]
    );
}

/// RFC 6793 §6: segments of a confederation have no place in `AS4_PATH`; the others count.
#[test]
fn segments_of_a_confederation_in_as4_path_are_left_out() {
    let old = Context::new(AsWidth::Two, PeerKind::Ebgp);
    let short = "40 02 06 02 02 fde9 5ba0";
    let long = "c0 11 0c 03 01 0000fc01 02 01 fa56ea01";
    let body = update(&[ORIGIN, short, NEXT_HOP, long]);
    let update = Update::decode(&body, old).unwrap();
    assert_eq!(update.discarded, []);
    let Announced::Routes(attrs) = update.announced else {
        panic!("usable");
    };
    let sequence = Segment {
        kind: SegmentKind::Sequence,
        asns: vec![Asn(65001), Asn(4_200_000_001)],
    };
    assert_eq!(attrs.as_path.0, [sequence]);
}

/// RFC 6793 §4.2.2: an old speaker hears `AS_TRANS`, and what really stands there goes beside it; confederations never do.
#[test]
fn an_old_speaker_is_told_long_numbers_beside_the_short_ones() {
    let segment = |kind, asns: &[u32]| Segment {
        kind,
        asns: asns.iter().copied().map(Asn).collect(),
    };
    let attrs = |asns: &[u32], aggregator: u32| PathAttrs {
        as_path: AsPath(vec![segment(SegmentKind::Sequence, asns)]),
        aggregator: Some(Aggregator {
            asn: Asn(aggregator),
            address: [192, 0, 2, 9].into(),
        }),
        ..PathAttrs::default()
    };
    let told = |attrs: &PathAttrs, width| {
        let mut to = Vec::new();
        attrs.put(&mut to, Some([192, 0, 2, 2].into()), width);
        to
    };
    let long = attrs(&[65001, 4_200_000_001], 4_200_000_002);
    let expected = "40010100 400206 0202 fde9 5ba0 400304 c0000202 c00706 5ba0 c0000209 \
                    c0110a 0202 0000fde9 fa56ea01 c01208 fa56ea02 c0000209";
    assert_eq!(told(&long, AsWidth::Two), octets(expected));
    let expected =
        "40010100 40020a 0202 0000fde9 fa56ea01 400304 c0000202 c00708 fa56ea02 c0000209";
    assert_eq!(told(&long, AsWidth::Four), octets(expected));
    // Where two octets say it all, they are enough.
    let short = attrs(&[65001, 65002], 65003);
    let expected = "40010100 400206 0202 fde9 fdea 400304 c0000202 c00706 fdeb c0000209";
    assert_eq!(told(&short, AsWidth::Two), octets(expected));
    let mut inside = long;
    let first = segment(SegmentKind::ConfedSequence, &[64513]);
    inside.as_path.0.insert(0, first);
    let told = told(&inside, AsWidth::Two);
    let expected = octets("c0110a 0202 0000fde9 fa56ea01");
    assert!(
        told.windows(expected.len())
            .any(|window| window == expected)
    );
}

/// RFC 4271 §5: transitive attributes that we do not know go on, marked as partial; those that we only do not look into are
/// known.
#[test]
fn what_nobody_knows_is_passed_on_as_partial() {
    let opaque = |code, value: &[u8]| Opaque {
        code,
        value: value.into(),
    };
    let attrs = PathAttrs {
        unknown: vec![
            opaque(code::ONLY_TO_CUSTOMER, &[0, 0, 0xfd, 0xe8]),
            opaque(200, &[1, 2, 3]),
        ],
        ..PathAttrs::default()
    };
    let mut to = Vec::new();
    attrs.put(&mut to, None, AsWidth::Four);
    let expected = "40010100 400200 c02304 0000fde8 e0c803 010203";
    assert_eq!(to, octets(expected));
}

/// RFC 8092 §3.
#[test]
fn a_large_community_that_stands_twice_counts_once() {
    let [one, two] = ["0000fde8 00000001 00000002", "0000fde8 00000001 00000003"];
    let attribute = format!("c0 20 30 {one} {two} {one} {two}");
    let body = update(&[ORIGIN, AS_PATH, NEXT_HOP, &attribute]);
    let update = Update::decode(&body, context(PeerKind::Ebgp)).unwrap();
    let Announced::Routes(attrs) = update.announced else {
        panic!("usable");
    };
    assert_eq!(attrs.large_communities, [[65000, 1, 2], [65000, 1, 3]]);
}

/// RFC 2545 §3: a global address, with or without the link-local one beside it. RFC 8950 §4: the same for IPv4 routes, if that
/// was agreed on.
#[test]
fn a_next_hop_may_be_two_addresses() {
    let global = "20010db8000000000000000000000002";
    let link = "fe800000000000000000000000000002";
    let zero = "00000000000000000000000000000000";
    let six = "30 20010db80001";
    let next_hop = |family: &str, addresses: &[&str], nlri: &str, extended| {
        let length = 16 * addresses.len();
        let value = format!("{family} {length:02x} {} 00 {nlri}", addresses.concat());
        let attribute = format!("80 0e {:02x} {value}", octets(&value).len());
        let attributes = octets(&[ORIGIN, AS_PATH, &attribute].concat());
        let mut body = vec![0, 0];
        put_u16(&mut body, len16(attributes.len()));
        body.extend_from_slice(&attributes);
        let context = Context {
            extended_next_hop: Switch::from(extended),
            ..context(PeerKind::Ebgp)
        };
        let reach = Update::decode(&body, context).map(|update| update.mp_nlri.unwrap().next_hop);
        reach.map_err(|error| error.notification().subcode)
    };
    let [g, l] = ["2001:db8::2", "fe80::2"].map(|text| text.parse::<Ipv6Addr>().unwrap());
    for (addresses, expected) in [
        (vec![global], NextHop::V6(g)),
        (vec![link], NextHop::V6(l)),
        (vec![global, link], NextHop::V6Pair(g, l)),
        // As some speakers write one address.
        (vec![global, global], NextHop::V6(g)),
        (vec![global, zero], NextHop::V6(g)),
        (vec![zero, link], NextHop::V6(l)),
        (vec![link, link], NextHop::V6(l)),
    ] {
        assert_eq!(next_hop("0002 01", &addresses, six, false), Ok(expected));
        assert_eq!(
            next_hop("0001 01", &addresses, "18 c63364", true),
            Ok(expected)
        );
        assert_eq!(next_hop("0001 01", &addresses, "18 c63364", false), Err(9));
    }
    assert_eq!(NextHop::V6Pair(g, l).address(), g);
    assert_eq!(NextHop::V6Pair(g, l).gateway(), l, "where packets go");
}

#[test]
fn only_a_bare_update_is_an_end_of_rib() {
    let end = |hex: &str| {
        let body = octets(hex);
        Update::decode(&body, context(PeerKind::Ebgp))
            .unwrap()
            .end_of_rib
    };
    assert_eq!(end("0000 0000"), Some(Family::Ipv4));
    assert_eq!(end("0000 0006 80 0f 03 0002 01"), Some(Family::Ipv6));
    assert_eq!(end("0000 0006 80 0f 03 0001 01"), Some(Family::Ipv4));
    // Of a family that is not ours.
    assert_eq!(end("0000 0006 80 0f 03 0001 80"), None);
    assert_eq!(end("0000 0008 80 0f 05 0002 01 08 20"), None);
    assert_eq!(end("0002 08 0a 0000"), None);
    assert_eq!(end("0000 0004 40 01 01 00"), None);
    assert_eq!(end("0000 000a 80 0f 03 0002 01 40 01 01 00"), None);
}
