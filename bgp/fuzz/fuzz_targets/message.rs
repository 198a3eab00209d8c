//! A stream of octets, taken apart into messages and these into values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use margay_bgp_fuzz::stream;
use margay_bgp::wire::{
    AsWidth, Context, MessageType, Notification, Open, PeerKind, RouteRefresh, Update, take_frame_of,
};

fuzz_target!(|octets: &[u8]| {
    let octets = stream(octets);
    let mut rest = octets.as_slice();
    while let Ok(Some(frame)) = take_frame_of(&mut rest, 65535) {
        match frame.kind {
            MessageType::Open => drop(Open::decode(frame.body)),
            MessageType::Update => {
                let context = Context::new(AsWidth::Four, PeerKind::Ebgp);
                drop(Update::decode(frame.body, context));
            }
            MessageType::Notification => {
                let notification = Notification::decode(frame.body);
                assert!(!notification.to_string().is_empty());
                // Ours are never longer than 4096 octets: what does not fit is cut off.
                let octets = notification.encode();
                assert!(octets.len() <= 4096);
                if frame.body.len() <= 4096 - 19 {
                    assert_eq!(Notification::decode(&octets[19..]), notification);
                }
            }
            MessageType::Keepalive => {}
            MessageType::RouteRefresh => drop(RouteRefresh::decode(frame.body)),
        }
    }
});
