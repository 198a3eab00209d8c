//! The body of an UPDATE in any context: attributes that can be read are written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use margay_bgp::Family;
use margay_bgp::wire::update::{Shape, put_announcements};
use margay_bgp::wire::{Announced, AsWidth, Context, NextHop, PathIds, PeerKind, Update};

fuzz_target!(|octets: &[u8]| {
    let Some((choice, body)) = octets.split_first() else {
        return;
    };
    let chosen = |bit: u8| choice & (1 << bit) != 0;
    let as_width = if chosen(0) { AsWidth::Four } else { AsWidth::Two };
    let peer = if chosen(1) { PeerKind::Ibgp } else { PeerKind::Ebgp };
    let context = Context {
        add_path: Family::ALL.into_iter().filter(|_| chosen(2)).collect(),
        extended_next_hop: chosen(3).into(),
        ..Context::new(as_width, peer)
    };
    let update = match Update::decode(body, context) {
        Ok(update) => update,
        Err(error) => {
            assert!(!error.notification().to_string().is_empty());
            return;
        }
    };
    update.withdrawn.paths().for_each(drop);
    let paths: Vec<_> = update.nlri.paths().collect();
    let (Announced::Routes(attrs), Some(next_hop)) = (&update.announced, update.next_hop) else {
        return;
    };
    // With numbers of four octets nothing is lost, and iBGP may carry everything.
    let shape = Shape {
        as_width: AsWidth::Four,
        max: 65535,
        ids: if chosen(2) { PathIds::Present } else { PathIds::Absent },
    };
    let mut again = Vec::new();
    let put = put_announcements(&mut again, attrs, NextHop::V4(next_hop), Family::Ipv4, &paths, shape);
    if put == 0 || paths.is_empty() {
        return;
    }
    let length = usize::from(u16::from_be_bytes([again[16], again[17]]));
    let context = Context {
        add_path: context.add_path,
        ..Context::new(AsWidth::Four, PeerKind::Ibgp)
    };
    let second = Update::decode(&again[19..length], context).expect("what we write can be read");
    assert_eq!(second.announced, Announced::Routes(attrs.clone()));
    assert!(second.discarded.is_empty());
});
