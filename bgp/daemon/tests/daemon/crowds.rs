//! Many connections at once: a daemon's memory and descriptors are counted from outside, and another peer goes on.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;

use margay_bgp::wire::Notification;
use margay_bgp::wire::notification::Cease;

use crate::floods::{SICK, Ward, dial, established, nlri, opening, update};

/// Connections of which the daemon may have its end at the same time: those that are about to be closed.
const ENDS: usize = 64;

#[test]
fn thousands_of_strangers_take_no_room() {
    const STRANGERS: u32 = 3000;
    let mut ward = Ward::new(11, "");
    let before = ward.descriptors();
    let mut refused = 0;
    for _ in 0..STRANGERS {
        let mut stranger = dial(Ipv4Addr::new(127, 40, 0, 9), ward.place);
        let mut said = Vec::new();
        // Closed or reset, whichever is quicker.
        let _ = stranger.read_to_end(&mut said);
        assert!(said.is_empty());
        refused += 1;
    }
    assert_eq!(refused, STRANGERS);
    assert!(ward.descriptors() < before + ENDS, "{}", ward.descriptors());
    ward.assert_grown_by_less_than(8);
    ward.send_and_see(&[update(&[], &nlri(1))], nlri(1));
}

/// All of them stay open on their side, and none goes beyond OPEN.
#[test]
fn a_flood_of_opens_takes_no_room_and_keeps_nobody_out() {
    const OPENS: usize = 500;
    let mut ward = Ward::new(12, "");
    let before = ward.descriptors();
    // An end in order: nothing is kept for a graceful restart.
    ward.sick.write_all(&goodbye()).unwrap();
    ward.until("down", |page| page["state"] != "Established");
    let mut held = Vec::new();
    for _ in 0..OPENS {
        let mut peer = dial(SICK, ward.place);
        // One that is closed already takes nothing.
        let _ = peer.write_all(&opening(SICK));
        held.push(peer);
    }
    assert_eq!(held.len(), OPENS);
    ward.until("an end to the flood", |_| {
        ward.descriptors() < before + ENDS
    });
    ward.assert_grown_by_less_than(8);
    ward.sick = established(SICK, ward.place);
    ward.send_and_see(&[update(&[], &nlri(1))], nlri(1));
    drop(held);
    ward.until("a session again", |page| {
        page["state"] == "Established" && page["sessions"].as_u64() >= Some(2)
    });
}

#[test]
fn a_peer_that_comes_and_goes_a_hundred_times_leaves_nothing_behind() {
    const FLAPS: u32 = 100;
    let mut ward = Ward::new(13, "");
    let before = ward.descriptors();
    for number in 0..FLAPS {
        let last = [update(&[], &nlri(number)), goodbye()].concat();
        ward.sick.write_all(&last).unwrap();
        let _ = ward.sick.read_to_end(&mut Vec::new());
        ward.sick = established(SICK, ward.place);
    }
    ward.until("every session counted and no route left", |page| {
        page["state"] == "Established"
            && page["sessions"].as_u64() > Some(FLAPS.into())
            && page["received"] == 0
    });
    assert!(ward.descriptors() <= before + 2, "{}", ward.descriptors());
    ward.assert_grown_by_less_than(8);
    ward.send_and_see(&[update(&[], &nlri(FLAPS))], nlri(FLAPS));
}

fn goodbye() -> Vec<u8> {
    Notification::cease(Cease::AdministrativeReset, "").encode()
}
