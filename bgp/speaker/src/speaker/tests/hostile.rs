//! What a peer may send without harm to anybody else.

use super::*;

/// Octets of an UPDATE whose `AS_PATH` has so many segments of 255 numbers, for 198.51.100.0/24.
fn long_path(segments: usize, width: usize) -> Vec<u8> {
    let mut path = Vec::new();
    for _ in 0..segments {
        path.extend_from_slice(&[2, 255]);
        for asn in 0..255_u8 {
            path.extend_from_slice(&[0, 0, 1, asn][4 - width..]);
            let at = path.len() - 1;
            path[at] = path[at].max(1);
        }
    }
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 3, 4, 192, 0, 2, 2, 0x50, 2];
    attributes.extend_from_slice(&u16::try_from(path.len()).unwrap().to_be_bytes());
    attributes.extend_from_slice(&path);
    let mut body = vec![0, 0];
    body.extend_from_slice(&u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&attributes);
    body.extend_from_slice(&[24, 198, 51, 100]);
    body
}

#[test]
fn a_path_too_long_to_be_passed_on_is_refused_and_a_long_one_is_not_told_where_it_does_not_fit() {
    let mut net = Net::new(3);
    for asn in [65001, 65002, 65003] {
        net.add_router(asn);
    }
    net.peer(1, 0);
    net.peer(0, 2);
    net.transit(0);
    net.set(2, 0, |peer| {
        peer.extended_messages = crate::settings::Switch::Off;
    });
    net.run_for(seconds(2));
    let prefix = "198.51.100.0/24";
    net.inject(1, MessageType::Update, &long_path(20, 4));
    net.run_for(seconds(1));
    assert_eq!(
        net.best(0, prefix).unwrap().attrs.as_path.length(),
        20 * 255
    );
    assert!(
        net.best(2, prefix).is_none(),
        "20 kB of attributes in messages of 4 kB"
    );
    net.inject(1, MessageType::Update, &long_path(63, 4));
    net.run_for(seconds(1));
    assert!(net.best(0, prefix).is_none());
    assert!(net.status(0)["n1"].notes[0].contains("more than can be passed on"));
    assert_eq!(net.resets(0), 0);
    assert_eq!(next_hops(&net, 2, "203.0.1.0/24"), hops(&["192.0.2.1"]));
}

#[test]
fn a_clock_that_jumps_by_less_than_the_hold_time_costs_nothing_and_by_a_day_a_moment() {
    let mut net = Net::mesh(4, 5);
    net.run_for(seconds(2));
    let resets = |net: &Net| -> usize { (0..4).map(|node| net.resets(node)).sum() };
    let before = resets(&net);
    for time in [1, 3, 5] {
        net.sleep(seconds(time));
        net.run_for(seconds(4));
        assert_eq!(resets(&net), before, "{time} s: {}", net.last_end(0));
    }
    net.sleep(seconds(24 * 3600));
    net.run_for(seconds(20));
    for node in 0..4 {
        assert_eq!(net.routes(node), &net.expected_in_mesh(node));
        assert!(
            net.last_end(node).contains("hold timer expired"),
            "{}",
            net.last_end(node)
        );
    }
}
