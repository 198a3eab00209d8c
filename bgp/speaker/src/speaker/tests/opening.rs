//! How sessions begin, and what they agree on.

use super::*;
use crate::settings::{PeerRange, Switch};
use crate::wire::NextHop;

/// RFC 4271 §8.1.1, `DelayOpen`: whoever waits answers the other's OPEN at once.
#[test]
fn an_open_may_wait_for_the_peers() {
    let mut net = Net::mesh(2, 3);
    net.change(0, |_| {});
    net.set(0, 1, |peer| peer.delay_open = Some(seconds(3)));
    net.run_for(seconds(1));
    assert_eq!(net.state(0, "n1"), State::Established);
    // Both wait: until the timer of one runs out.
    let mut net = Net::mesh(2, 3);
    for (node, peer) in [(0, 1), (1, 0)] {
        net.set(node, peer, |peer| {
            peer.delay_open = Some(seconds(3));
            peer.hold_time = HoldTime::from_secs(30);
        });
    }
    net.run_for(seconds(2));
    assert_ne!(net.state(0, "n1"), State::Established);
    net.run_for(seconds(5));
    assert_eq!(net.state(0, "n1"), State::Established);
    assert_eq!(net.routes(0), &net.expected_in_mesh(0));
}

/// RFC 9003.
#[test]
fn a_session_that_is_shut_down_says_why_on_both_sides_and_stays_down() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    net.set(0, 1, |peer| {
        peer.shut_down = Some("moved to rack 7".to_owned());
    });
    net.run_for(seconds(60));
    let ours = &net.status(0)["n1"];
    assert_eq!(
        (ours.state, ours.reason.as_str()),
        (State::Idle, "moved to rack 7")
    );
    let theirs = &net.status(1)["n0"].reason;
    assert!(
        theirs.ends_with("cease: administrative shutdown (6/2): “moved to rack 7”"),
        "{theirs}"
    );
    net.set(0, 1, |peer| peer.shut_down = None);
    net.run_for(seconds(8));
    assert_eq!(net.state(0, "n1"), State::Established);
}

/// RFC 4486 §3: the other side hears whether it may come back.
#[test]
fn an_end_by_other_settings_says_which() {
    type Change = fn(&mut Settings);
    let cases: [(Change, &str); 3] = [
        (
            |settings| settings.peers.clear(),
            "peer de-configured (6/3)",
        ),
        (
            |settings| {
                let mut peers = settings.peers.values_mut();
                peers.next().unwrap().hold_time = HoldTime::from_secs(12);
            },
            "administrative reset (6/4)",
        ),
        (
            |settings| settings.bgp_id = BgpId([192, 0, 2, 99].into()),
            "administrative reset (6/4)",
        ),
    ];
    for (change, words) in cases {
        let mut net = Net::mesh(2, 3);
        net.run_for(seconds(1));
        net.change(0, change);
        net.run_for(Duration::from_millis(20));
        assert!(net.last_end(1).contains(words), "{}", net.last_end(1));
    }
}

/// RFC 6286 §2.1: an identifier is one speaker's in its AS, not in all of them.
#[test]
fn speakers_of_two_as_may_have_one_identifier() {
    let mut net = Net::new(3);
    net.add_router(65001);
    net.add_router(65002);
    net.change(1, |settings| settings.bgp_id = BgpId([192, 0, 2, 1].into()));
    net.peer(0, 1);
    net.run_for(seconds(2));
    assert_eq!(net.state(0, "n1"), State::Established);
    assert_eq!(next_hops(&net, 0, "203.0.1.0/24"), hops(&["192.0.2.2"]));
}

#[test]
fn whoever_dials_from_a_range_becomes_a_peer_and_is_forgotten_afterwards() {
    let mut net = Net::new(3);
    for node in 0..4 {
        net.add_mesh_node(node);
    }
    for other in 1..4 {
        net.peer(0, other);
    }
    net.change(0, |settings| {
        let template = settings.peers["n1"].clone();
        settings.peers.clear();
        let range = PeerRange {
            prefix: "192.0.2.0/29".parse().unwrap(),
            asns: [Asn(64512)].into(),
            template,
            limit: 2,
        };
        settings.ranges.insert("nodes".to_owned(), range);
    });
    net.run_for(seconds(10));
    let status = net.status(0);
    let up = status
        .values()
        .filter(|peer| peer.state == State::Established);
    assert_eq!((status.len(), up.count()), (2, 2), "{:?}", status.keys());
    assert!(
        status
            .values()
            .all(|peer| peer.range.as_deref() == Some("nodes"))
    );
    assert_eq!(net.routes(0).len(), 4);
    // Whose place is free is another's.
    let gone = usize::from(!status.contains_key("nodes-192.0.2.2")) + 1;
    net.shut_down(gone);
    net.run_for(seconds(20));
    let status = net.status(0);
    assert_eq!(status.len(), 2);
    assert!(!status.contains_key(format!("nodes-192.0.2.{}", gone + 1).as_str()));
    net.change(0, |settings| settings.ranges.clear());
    assert_eq!(net.status(0).len(), 0);
    assert!(net.routes(0).is_empty());
}

#[test]
fn a_range_takes_only_its_as_numbers() {
    let mut net = Net::new(3);
    net.add_router(65000);
    net.add_router(65001);
    net.add_router(65002);
    net.peer(0, 1);
    net.peer(0, 2);
    net.change(0, |settings| {
        let template = settings.peers["n1"].clone();
        settings.peers.clear();
        let range = PeerRange {
            prefix: "192.0.2.0/24".parse().unwrap(),
            asns: [Asn(65001), Asn(65003)].into(),
            template,
            limit: 10,
        };
        settings.ranges.insert("tor".to_owned(), range);
    });
    net.run_for(seconds(5));
    assert_eq!(net.state(1, "n0"), State::Established);
    assert_eq!(net.status(0)["tor-192.0.2.2"].asn, Asn(65001));
    assert_ne!(net.state(2, "n0"), State::Established);
    assert!(net.status(2)["n0"].reason.contains("bad peer AS"));
}

/// RFC 8654 §4.
#[test]
fn long_messages_are_sent_where_both_sides_take_them() {
    let many: Vec<String> = (0..9000)
        .map(|n| format!("10.{}.{}.0/24", 1 + n / 256, n % 256))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (extended, expected) in [(Switch::On, 1..=3), (Switch::Off, 9..=14)] {
        let mut net = Net::mesh(2, 3);
        net.set(1, 0, |peer| peer.extended_messages = extended);
        net.run_for(seconds(2));
        let before = net.updates(0);
        net.announce(0, &many);
        net.run_for(seconds(2));
        let updates = net.updates(0) - before;
        assert!(expected.contains(&updates), "{extended:?}: {updates}");
        assert_eq!(net.status(1)["n0"].received, 9000);
    }
}

/// RFC 8950 §4, RFC 2545: IPv4 routes over a network without IPv4 addresses.
#[test]
fn ipv4_routes_have_an_ipv6_next_hop_where_that_is_agreed_on() {
    let mut net = Net::six(3);
    net.add_mesh_node(0);
    net.add_mesh_node(1);
    net.peer(0, 1);
    net.run_for(seconds(2));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["2001:db8::2"]));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&["2001:db8::2"]));
    let best = net.best(0, "10.1.0.0/26").unwrap();
    assert_eq!(best.next_hop, NextHop::V6("2001:db8::2".parse().unwrap()));
    net.set(1, 0, |peer| peer.extended_next_hop = Switch::Off);
    net.run_for(seconds(3));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
    assert!(net.status(1)["n0"].notes[0].starts_with("IPv4 routes are not announced here"));
}

/// RFC 9384.
#[test]
fn a_peer_that_bfd_has_lost_loses_its_routes_at_once() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    net.bfd_down(0, "n1", Duration::from_millis(150));
    assert!(net.routes(0).is_empty());
    assert_eq!(net.status(0)["n1"].reason, "BFD lost the peer");
    net.run_for(Duration::from_millis(50));
    assert!(net.last_end(1).contains("BFD down (6/10)"));
    net.run_for(seconds(8));
    assert_eq!(net.routes(0), &net.expected_in_mesh(0));
}
