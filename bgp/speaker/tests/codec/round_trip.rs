//! What is encoded comes back as it was.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use margay_bgp::wire::update::{put_announcements, put_withdrawals};
use margay_bgp::wire::{
    Announced, AsWidth, Context, MAX_MESSAGE, NextHop, Nlri, Notification, Open, PathAttrs,
    PathIds, PeerKind, Shape, Update, encode_end_of_rib, take_frame,
};
use margay_bgp::{Asn, Family, Switch};
use proptest::prelude::*;

use crate::strategies::{notification, open, prefix, routes};

pub(crate) fn context(as_width: AsWidth) -> Context {
    Context::new(as_width, PeerKind::Ibgp)
}

/// Reads an UPDATE that announces routes.
fn announcement(message: &[u8], width: AsWidth) -> (PathAttrs, IpAddr, Vec<IpNet>) {
    assert!(message.len() <= MAX_MESSAGE);
    let mut rest = message;
    let frame = take_frame(&mut rest).unwrap().unwrap();
    assert!(rest.is_empty());
    let update = Update::decode(frame.body, context(width)).unwrap();
    assert_eq!(update.discarded, []);
    let Announced::Routes(attrs) = update.announced else {
        panic!("{:?}", update.announced);
    };
    let (next_hop, nlri) = if let Some(reach) = update.mp_nlri {
        assert!(update.nlri.is_empty());
        (reach.next_hop.address(), reach.nlri)
    } else {
        (IpAddr::V4(update.next_hop.unwrap()), update.nlri)
    };
    (attrs, next_hop, nlri.prefixes().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn announcements(routes in routes(1..40), four in any::<bool>()) {
        let width = if four { AsWidth::Four } else { AsWidth::Two };
        let mut prefixes = Vec::new();
        let messages = routes.encode(width);
        // Attributes may leave no room.
        prop_assume!(!messages.is_empty());
        for message in messages {
            let (attrs, next_hop, some) = announcement(&message, width);
            prop_assert_eq!(&attrs, &routes.attrs);
            prop_assert_eq!(next_hop, routes.next_hop);
            prefixes.extend(some);
        }
        prop_assert_eq!(prefixes, routes.prefixes);
    }

    #[test]
    fn withdrawals(prefixes in any::<bool>().prop_flat_map(|six| {
        let family = if six { Family::Ipv6 } else { Family::Ipv4 };
        (Just(family), proptest::collection::vec(prefix(family), 1..1500))
    })) {
        let (family, prefixes) = prefixes;
        let paths: Vec<_> = prefixes.iter().map(|prefix| (0, *prefix)).collect();
        let (mut octets, mut back) = (Vec::new(), Vec::new());
        put_withdrawals(&mut octets, family, &paths, MAX_MESSAGE, PathIds::Absent);
        let mut left = octets.as_slice();
        while let Some(frame) = take_frame(&mut left).unwrap() {
            let update = Update::decode(frame.body, context(AsWidth::Four)).unwrap();
            prop_assert_eq!(&update.announced, &Announced::Nothing);
            back.extend(update.withdrawn.prefixes());
            back.extend(update.mp_withdrawn.iter().flat_map(Nlri::prefixes));
        }
        prop_assert_eq!(back, prefixes);
    }

    #[test]
    fn opens(open in open()) {
        let message = open.encode();
        let frame = take_frame(&mut message.as_slice()).unwrap().unwrap();
        prop_assert_eq!(Open::decode(frame.body), Ok(open));
    }

    #[test]
    fn notifications(notification in notification()) {
        let message = notification.encode();
        let frame = take_frame(&mut message.as_slice()).unwrap().unwrap();
        prop_assert_eq!(Notification::decode(frame.body), notification);
    }
}

#[test]
fn the_end_of_a_family() {
    for family in Family::ALL {
        let message = encode_end_of_rib(family);
        let frame = take_frame(&mut message.as_slice()).unwrap().unwrap();
        let update = Update::decode(frame.body, context(AsWidth::Four)).unwrap();
        assert_eq!(update.end_of_rib, Some(family));
    }
}

#[test]
fn a_thousand_prefixes_go_into_as_few_messages_as_fit() {
    let prefixes: Vec<IpNet> = (0..1000_u32)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap())
        .collect();
    let paths: Vec<_> = prefixes.into_iter().map(|prefix| (0, prefix)).collect();
    let next_hop: IpAddr = "192.0.2.1".parse().unwrap();
    let mut attrs = PathAttrs::default();
    attrs.as_path = attrs.as_path.prepended(Asn(64512));
    let (mut octets, shape) = (Vec::new(), Shape::plain(AsWidth::Four));
    let done = put_announcements(
        &mut octets,
        &attrs,
        next_hop.into(),
        Family::Ipv4,
        &paths,
        shape,
    );
    // 23 octets of lengths and header, 20 of attributes, 4 a prefix: one message.
    assert_eq!((done, octets.len()), (1000, 23 + 20 + 4 * 1000));
    // RFC 8654: sixteen times as many fit where both sides take them.
    let paths: Vec<_> = (0..12_000_u32)
        .map(|n| (0, Ipv4Net::new_assert((n << 8).into(), 24).into()))
        .collect();
    let shape = Shape {
        max: 65535,
        ..shape
    };
    octets.clear();
    put_announcements(
        &mut octets,
        &attrs,
        next_hop.into(),
        Family::Ipv4,
        &paths,
        shape,
    );
    assert_eq!(octets.len(), 23 + 20 + 4 * 12_000);
}

#[test]
fn path_identifiers_survive() {
    // RFC 7911 §3.
    let paths: Vec<(u32, IpNet)> = vec![
        (1, "10.0.0.0/24".parse().unwrap()),
        (2, "10.0.0.0/24".parse().unwrap()),
        (u32::MAX, "0.0.0.0/0".parse().unwrap()),
    ];
    let next_hop: IpAddr = "192.0.2.1".parse().unwrap();
    let shape = Shape {
        ids: PathIds::Present,
        ..Shape::plain(AsWidth::Four)
    };
    let mut octets = Vec::new();
    let attrs = PathAttrs::default();
    put_announcements(
        &mut octets,
        &attrs,
        next_hop.into(),
        Family::Ipv4,
        &paths,
        shape,
    );
    let context = Context {
        add_path: [Family::Ipv4].into_iter().collect(),
        ..context(AsWidth::Four)
    };
    let frame = take_frame(&mut octets.as_slice()).unwrap().unwrap();
    let update = Update::decode(frame.body, context).unwrap();
    assert_eq!(update.nlri.paths().collect::<Vec<_>>(), paths);
    octets.clear();
    put_withdrawals(
        &mut octets,
        Family::Ipv4,
        &paths,
        MAX_MESSAGE,
        PathIds::Present,
    );
    let frame = take_frame(&mut octets.as_slice()).unwrap().unwrap();
    let update = Update::decode(frame.body, context).unwrap();
    assert_eq!(update.withdrawn.paths().collect::<Vec<_>>(), paths);
}

#[test]
fn an_ipv4_route_may_have_an_ipv6_next_hop_where_that_is_agreed_on() {
    // RFC 8950 §3.
    let paths: Vec<(u32, IpNet)> = vec![(0, "10.0.0.0/24".parse().unwrap())];
    let hops = [
        NextHop::V6("2001:db8::1".parse().unwrap()),
        NextHop::V6Pair("2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap()),
        NextHop::V6("fe80::1".parse().unwrap()),
    ];
    for hop in hops {
        let mut octets = Vec::new();
        let (attrs, shape) = (PathAttrs::default(), Shape::plain(AsWidth::Four));
        put_announcements(&mut octets, &attrs, hop, Family::Ipv4, &paths, shape);
        let frame = take_frame(&mut octets.as_slice()).unwrap().unwrap();
        assert!(Update::decode(frame.body, context(AsWidth::Four)).is_err());
        let context = Context {
            extended_next_hop: Switch::On,
            ..context(AsWidth::Four)
        };
        let update = Update::decode(frame.body, context).unwrap();
        let reach = update.mp_nlri.unwrap();
        assert_eq!(
            (reach.next_hop, reach.nlri.paths().collect()),
            (hop, paths.clone())
        );
    }
}

#[test]
fn attributes_that_fill_a_message_are_not_sent() {
    let mut attrs = PathAttrs::default();
    for _ in 0..1100 {
        attrs.as_path = attrs.as_path.prepended(Asn(64512));
    }
    let paths: [(u32, IpNet); 1] = [(0, "10.0.0.0/24".parse().unwrap())];
    for next_hop in ["192.0.2.1", "2001:db8::1"] {
        let next_hop: IpAddr = next_hop.parse().unwrap();
        let (mut octets, shape) = (Vec::new(), Shape::plain(AsWidth::Four));
        let family = Family::of_address(next_hop);
        let done = put_announcements(&mut octets, &attrs, next_hop.into(), family, &paths, shape);
        assert_eq!((done, octets.len()), (0, 0));
    }
}
