//! What is encoded comes back as it was.

use std::net::IpAddr;

use ipnet::IpNet;
use margay_bgp::wire::update::{encode_end_of_rib, encode_withdrawal};
use margay_bgp::wire::{
    Announced, AsWidth, Context, MAX_MESSAGE, Nlri, Notification, Open, PathAttrs, PeerKind,
    Update, take_frame,
};
use margay_bgp::{Asn, Family};
use proptest::prelude::*;

use crate::strategies::{notification, open, prefix, routes};

pub(crate) fn context(as_width: AsWidth) -> Context {
    Context {
        as_width,
        peer: PeerKind::Ibgp,
    }
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
        (reach.next_hop, reach.nlri)
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
        let mut left = prefixes.as_slice();
        let mut back = Vec::new();
        while let Some(message) = encode_withdrawal(family, &mut left) {
            prop_assert!(message.len() <= MAX_MESSAGE);
            let frame = take_frame(&mut message.as_slice()).unwrap().unwrap();
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
    let mut left = prefixes.as_slice();
    let next_hop = "192.0.2.1".parse().unwrap();
    let mut attrs = PathAttrs::default();
    attrs.as_path = attrs.as_path.prepended(Asn(64512));
    let mut messages = Vec::new();
    while let Some(message) =
        margay_bgp::wire::update::encode_announcement(&attrs, next_hop, &mut left, AsWidth::Four)
    {
        messages.push(message.len());
    }
    // 23 octets of lengths and header, 20 of attributes, 4 a prefix.
    assert_eq!(messages, [23 + 20 + 4 * 1000]);
}

#[test]
fn attributes_that_fill_a_message_are_not_sent() {
    let mut attrs = PathAttrs::default();
    for _ in 0..1100 {
        attrs.as_path = attrs.as_path.prepended(Asn(64512));
    }
    let prefixes: [IpNet; 1] = ["10.0.0.0/24".parse().unwrap()];
    for next_hop in ["192.0.2.1", "2001:db8::1"] {
        let mut left = prefixes.as_slice();
        let message = margay_bgp::wire::update::encode_announcement(
            &attrs,
            next_hop.parse().unwrap(),
            &mut left,
            AsWidth::Four,
        );
        assert_eq!((message, left.len()), (None, 1));
    }
}
