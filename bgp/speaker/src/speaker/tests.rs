use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::settings::{Dial, Export, HoldTime, NextHops, PeerSettings};
use crate::status::PeerStatus;
use crate::types::{Asn, BgpId, Family};
use crate::wire::MessageType;

mod filters;
mod helping;
mod hostile;
mod keeping;
mod limits;
mod model;
mod net;
mod opening;
mod originating;
mod paths;
mod policy;
mod reach;
mod reflection;
mod restarting;
mod scale;
mod scripted;

use net::Net;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn prefixes(list: &[&str]) -> BTreeSet<IpNet> {
    list.iter().map(|prefix| prefix.parse().unwrap()).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Next hops that node `at` has for `prefix`.
fn next_hops(net: &Net, at: usize, prefix: &str) -> BTreeSet<IpAddr> {
    net.routes(at)
        .get(&prefix.parse().unwrap())
        .cloned()
        .unwrap_or_default()
}

fn hops(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|text| address(text)).collect()
}

#[test]
fn two_speakers_exchange_their_prefixes() {
    let mut net = Net::mesh(2, 1);
    net.run_for(seconds(1));
    assert_eq!(net.state(0, "n1"), State::Established);
    assert_eq!(net.state(1, "n0"), State::Established);
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    assert_eq!(next_hops(&net, 1, "10.0.0.0/26"), hops(&["192.0.2.1"]));
    let status = &net.status(0)["n1"];
    assert_eq!((status.received, status.announced), (2, 2));
    assert_eq!(status.reason, "");
    assert_eq!(status.end_of_rib, Family::ALL.into());
}

#[test]
fn ipv6_routes_travel_over_an_ipv4_session_with_the_configured_next_hop() {
    let mut net = Net::mesh(2, 1);
    // Where the session itself has an address of the family, that is the next hop.
    net.change(1, |settings| {
        settings.next_hops.v4 = Some("192.0.2.77".parse().unwrap());
    });
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&["2001:db8::2"]));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
}

#[test]
fn without_an_address_of_its_family_a_route_is_not_announced_and_the_status_says_so() {
    let mut net = Net::mesh(2, 1);
    net.change(1, |settings| settings.next_hops = NextHops::default());
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&[]));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    let status = &net.status(1)["n0"];
    assert_eq!(status.announced, 1);
    assert!(status.notes[0].starts_with("IPv6 routes are not announced here"));
    // Once the address is known, they are.
    net.change(1, |settings| {
        settings.next_hops.v6 = Some("2001:db8::2".parse().unwrap());
    });
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&["2001:db8::2"]));
    assert_eq!(net.resets(0), 0);
}

#[test]
fn a_next_hop_that_changes_is_told() {
    let mut net = Net::mesh(2, 1);
    net.run_for(seconds(1));
    net.change(1, |settings| {
        settings.next_hops.v6 = Some("2001:db8::99".parse().unwrap());
    });
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&["2001:db8::99"]));
    assert_eq!(net.resets(0), 0);
}

#[test]
fn a_new_hold_time_is_agreed_on_by_a_new_session() {
    let mut net = Net::mesh(2, 1);
    net.run_for(seconds(1));
    assert_eq!(net.status(1)["n0"].hold_time, Some(HoldTime::from_secs(9)));
    net.change(0, |settings| {
        settings.peers.get_mut("n1").unwrap().hold_time = HoldTime::from_secs(6);
    });
    net.run_for(seconds(1));
    assert_eq!(net.status(1)["n0"].hold_time, Some(HoldTime::from_secs(6)));
    // Who dials and what is exported need none.
    let resets = net.resets(0);
    net.change(0, |settings| {
        let peer = settings.peers.get_mut("n1").unwrap();
        (peer.dial, peer.export, peer.port) = (Dial::Passive, Export::All, 1179);
    });
    net.run_for(seconds(1));
    assert_eq!(net.resets(0), resets);
}

#[test]
fn routes_vanish_when_they_are_no_longer_announced() {
    let mut net = Net::mesh(3, 5);
    net.run_for(seconds(1));
    net.announce(2, &["10.2.0.64/26"]);
    net.run_for(seconds(1));
    for node in [0, 1] {
        assert_eq!(next_hops(&net, node, "10.2.0.0/26"), hops(&[]));
        assert_eq!(next_hops(&net, node, "fd00:2::/122"), hops(&[]));
        assert_eq!(next_hops(&net, node, "10.2.0.64/26"), hops(&["192.0.2.3"]));
    }
}

#[test]
fn a_prefix_of_several_nodes_has_all_their_next_hops() {
    let mut net = Net::mesh(4, 5);
    for node in [1, 2, 3] {
        net.announce(node, &["10.99.0.1/32"]);
    }
    net.run_for(seconds(1));
    let all = hops(&["192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    assert_eq!(next_hops(&net, 0, "10.99.0.1/32"), all);
    // Our own announcement needs no route.
    assert_eq!(next_hops(&net, 1, "10.99.0.1/32"), hops(&[]));
    net.announce(2, &[]);
    net.run_for(seconds(1));
    assert_eq!(
        next_hops(&net, 0, "10.99.0.1/32"),
        hops(&["192.0.2.2", "192.0.2.4"])
    );
}

#[test]
fn a_node_does_not_pass_on_what_it_learned() {
    // n0 — n1 — n2 in one AS, and a router r beside n1.
    let mut net = Net::new(7);
    net.add_mesh_node(0);
    net.add_mesh_node(1);
    net.add_mesh_node(2);
    let router = net.add_router(65000);
    net.peer(0, 1);
    net.peer(1, 2);
    net.peer(1, router);
    net.run_for(seconds(2));
    assert_eq!(next_hops(&net, 2, "10.0.0.0/26"), hops(&[]));
    assert_eq!(next_hops(&net, router, "10.0.0.0/26"), hops(&[]));
    assert_eq!(next_hops(&net, 2, "203.0.3.0/24"), hops(&[]));
    assert_eq!(next_hops(&net, 1, "203.0.3.0/24"), hops(&["192.0.2.4"]));
    assert_eq!(next_hops(&net, router, "10.1.0.0/26"), hops(&["192.0.2.2"]));
}

#[test]
fn a_transit_speaker_passes_on_as_rfc_4271_says() {
    let mut net = Net::new(7);
    net.add_mesh_node(0);
    net.add_mesh_node(1);
    net.add_mesh_node(2);
    let left = net.add_router(65001);
    let right = net.add_router(65002);
    net.peer(0, 1);
    net.peer(1, 2);
    net.peer(1, left);
    net.peer(1, right);
    net.change(1, |settings| {
        for peer in settings.peers.values_mut() {
            peer.export = Export::All;
        }
    });
    net.run_for(seconds(2));
    // From iBGP and eBGP to eBGP, with the speaker as next hop.
    assert_eq!(next_hops(&net, right, "10.0.0.0/26"), hops(&["192.0.2.2"]));
    assert_eq!(next_hops(&net, right, "203.0.3.0/24"), hops(&["192.0.2.2"]));
    let path = net.best(right, "203.0.3.0/24").unwrap().attrs.as_path;
    assert_eq!(path.length(), 2);
    assert_eq!(path.neighbour(), Some(Asn(64512)));
    // From eBGP to iBGP.
    assert_eq!(next_hops(&net, 0, "203.0.3.0/24"), hops(&["192.0.2.2"]));
    let attrs = net.best(0, "203.0.3.0/24").unwrap().attrs;
    assert_eq!((attrs.local_pref, attrs.as_path.length()), (Some(100), 1));
    // All it knows but what that peer told: two own prefixes, two of each node, the other router's one.
    assert_eq!(net.status(1)["n3"].announced, 7);
    // From iBGP to iBGP never.
    assert_eq!(next_hops(&net, 2, "10.0.0.0/26"), hops(&[]));
}

#[test]
fn a_mesh_under_random_cuts_restarts_and_changes_converges() {
    for seed in 0..60 {
        let size = 3 + usize::try_from(seed % 3).unwrap();
        let mut net = Net::mesh(size, seed);
        for round in 0..12 {
            let node = net.random(size);
            let other = (node + 1 + net.random(size - 1)) % size;
            match net.random(5) {
                0 | 1 => net.cut(node, other),
                2 => net.join(node, other),
                3 => net.restart(node),
                _ => net.announce(node, &[&format!("10.{node}.{round}.0/26"), "10.99.0.1/32"]),
            }
            let pause = net.random(4000);
            net.run_for(Duration::from_millis(u64::try_from(pause).unwrap()));
        }
        // Hold time, backoff and dial time together; or the restart time of one that was cut off while it restarted.
        net.run_for(seconds(140));
        for node in 0..size {
            assert_eq!(
                net.routes(node),
                &net.expected_in_mesh(node),
                "seed {seed}, node {node}"
            );
        }
        // Then all links are whole again.
        for node in 0..size {
            for other in 0..node {
                net.join(node, other);
            }
        }
        net.run_for(seconds(40));
        for node in 0..size {
            assert_eq!(
                net.routes(node),
                &net.expected_in_mesh(node),
                "seed {seed}, node {node}"
            );
        }
    }
}

#[test]
fn a_quiet_mesh_stays_up_and_says_little() {
    let mut net = Net::mesh(4, 11);
    net.run_for(seconds(2));
    net.run_for(seconds(600));
    for node in 0..4 {
        assert_eq!(net.resets(node), 0);
        assert_eq!(net.routes(node), &net.expected_in_mesh(node));
    }
}

#[test]
fn a_cut_link_is_noticed_by_the_hold_timer_and_comes_back() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    net.cut(0, 1);
    net.run_for(seconds(10));
    assert!(net.routes(0).is_empty());
    net.run_for(seconds(10));
    let status = net.status(0)["n1"].clone();
    assert_eq!(
        status.reason,
        "cannot connect: no answer; the session before ended so: hold timer expired: nothing heard for 9 s"
    );
    assert_ne!(status.hint, "");
    net.join(0, 1);
    net.run_for(seconds(7));
    assert_eq!(net.routes(0), &net.expected_in_mesh(0));
}

#[test]
fn a_peer_that_restarts_is_back_at_once() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(30));
    net.restart(1);
    net.run_for(Duration::from_millis(400));
    assert_eq!(net.routes(0), &net.expected_in_mesh(0));
    assert_eq!(net.routes(1), &net.expected_in_mesh(1));
}

#[test]
fn adding_and_removing_a_peer_leaves_the_other_sessions_alone() {
    let mut net = Net::mesh(3, 3);
    net.run_for(seconds(1));
    net.change(0, |settings| {
        settings.peers.remove("n2");
    });
    net.run_for(seconds(1));
    assert_eq!(net.resets(1), 0);
    assert_eq!(next_hops(&net, 0, "10.2.0.0/26"), hops(&[]));
    let status = &net.status(2)["n0"];
    assert_ne!(status.state, State::Established);
    let mut back = PeerSettings::new(address("192.0.2.3"), Asn(64512));
    back.hold_time = HoldTime::from_secs(9);
    net.change(0, |settings| {
        settings.peers.insert("n2".into(), back);
    });
    net.run_for(seconds(1));
    assert_eq!(net.resets(1), 0);
    assert_eq!(next_hops(&net, 0, "10.2.0.0/26"), hops(&["192.0.2.3"]));
}

#[test]
fn a_new_as_number_resets_the_sessions_and_both_sides_say_why_it_does_not_fit() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    net.change(1, |settings| {
        settings.asn = Asn(64513);
        for peer in settings.peers.values_mut() {
            peer.asn = Asn(64512);
        }
    });
    net.run_for(seconds(2));
    let status = &net.status(0)["n1"];
    assert_eq!(
        status.reason,
        "wrong AS: the peer is in AS 64513, configured is AS 64512"
    );
    let status = &net.status(1)["n0"];
    assert_eq!(
        status.reason,
        "the peer ended it: OPEN error: bad peer AS (2/2)"
    );
    assert_eq!(status.hint, "the peer expects another AS number than ours");
    net.change(0, |settings| {
        settings.peers.get_mut("n1").unwrap().asn = Asn(64513);
    });
    net.run_for(seconds(6));
    assert_eq!(net.state(0, "n1"), State::Established);
}

#[test]
fn unusable_settings_of_one_peer_are_told_and_harm_no_other() {
    let mut net = Net::mesh(2, 3);
    net.change(0, |settings| {
        let same = settings.peers["n1"].clone();
        settings.peers.insert("n1-again".into(), same);
        let nowhere = PeerSettings::new(address("0.0.0.0"), Asn(64512));
        settings.peers.insert("nowhere".into(), nowhere);
    });
    net.run_for(seconds(1));
    assert_eq!(net.state(0, "n1"), State::Established);
    let status = net.status(0);
    let of = |name: &str| (status[name].state, status[name].reason.clone());
    assert_eq!(
        of("n1-again"),
        (
            State::Idle,
            "unusable settings: peer n1 has the same address".into()
        )
    );
    assert_eq!(
        of("nowhere"),
        (
            State::Idle,
            "unusable settings: 0.0.0.0 is not the address of a host".into()
        )
    );
}

#[test]
fn only_one_side_needs_to_dial() {
    for passive in [0, 1] {
        let mut net = Net::mesh(2, 3);
        net.change(passive, |settings| {
            for peer in settings.peers.values_mut() {
                peer.dial = Dial::Passive;
            }
        });
        net.run_for(seconds(1));
        net.restart(1 - passive);
        net.run_for(seconds(6));
        assert_eq!(net.state(0, "n1"), State::Established);
        assert_eq!(net.routes(1), &net.expected_in_mesh(1));
    }
}

#[test]
fn a_stranger_gets_no_session() {
    let mut net = Net::mesh(2, 3);
    net.change(1, |settings| settings.peers.clear());
    net.run_for(seconds(3));
    let status = &net.status(0)["n1"];
    assert_eq!(
        status.reason,
        "connection ended before OPEN: closed by the peer"
    );
    assert_eq!(
        status.hint,
        "the peer probably does not have our address as a neighbour"
    );
}

#[test]
fn two_speakers_with_one_identifier_say_so() {
    let mut net = Net::mesh(2, 3);
    net.change(1, |settings| {
        settings.bgp_id = BgpId("192.0.2.1".parse().unwrap());
    });
    net.run_for(seconds(3));
    assert_ne!(net.state(0, "n1"), State::Established);
    let reasons = [&net.status(0)["n1"], &net.status(1)["n0"]].map(|s| s.reason.clone());
    let same = "both sides have the BGP identifier 192.0.2.1";
    assert!(reasons.iter().any(|reason| reason == same), "{reasons:?}");
}

#[test]
fn shutting_down_says_goodbye_with_a_reason() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    net.shut_down(1);
    net.run_for(Duration::from_millis(100));
    let status = &net.status(0)["n1"];
    assert!(net.routes(0).is_empty());
    assert_eq!(
        status.reason,
        "connection ended before OPEN: closed by the peer; the session before ended so: the peer ended it: \
         cease: administrative shutdown (6/2): “this speaker is shutting down”"
    );
    assert_eq!(status.hint, "the session is shut down at the peer");
}

#[test]
fn a_peer_that_is_killed_and_comes_back_loses_no_route_meanwhile() {
    let mut net = Net::mesh(3, 11);
    net.run_for(seconds(1));
    let before = net.changes(0);
    net.kill(1);
    net.run_for(seconds(60));
    assert_ne!(net.state(0, "n1"), State::Established);
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    let note = "2 routes are kept from the session before";
    assert!(net.status(0)["n1"].notes[0].starts_with(note));
    net.start_announcing(1, &["10.1.0.0/26", "fd00:1::/122"]);
    net.run_for(seconds(30));
    assert_eq!(net.state(0, "n1"), State::Established);
    assert_eq!(net.changes(0), before);
    assert_eq!(net.status(0)["n1"].received, 2);
    assert_eq!(net.status(0)["n1"].notes, Vec::<String>::new());
    // Nothing is kept any more: an orderly end takes all.
    net.shut_down(1);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
}

#[test]
fn what_a_restarted_peer_does_not_tell_again_goes_at_its_end_of_rib() {
    let mut net = Net::mesh(2, 12);
    net.run_for(seconds(1));
    net.kill(1);
    net.run_for(seconds(5));
    net.start_announcing(1, &["10.1.0.64/26", "fd00:1::/122"]);
    net.run_for(seconds(10));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
    assert_eq!(next_hops(&net, 0, "10.1.0.64/26"), hops(&["192.0.2.2"]));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&["2001:db8::2"]));
    assert_eq!(net.status(0)["n1"].received, 2);
}

#[test]
fn a_killed_peer_that_stays_away_loses_its_routes_after_its_restart_time() {
    let mut net = Net::mesh(2, 13);
    net.run_for(seconds(1));
    net.kill(1);
    net.run_for(seconds(119));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    net.run_for(seconds(3));
    assert_eq!(net.routes(0), &BTreeMap::new());
    assert_eq!(net.status(0)["n1"].received, 0);
}

#[test]
fn a_killed_peer_that_is_no_longer_configured_loses_its_routes_at_once() {
    let mut net = Net::mesh(2, 14);
    net.run_for(seconds(1));
    net.kill(1);
    net.run_for(seconds(5));
    net.change(0, |settings| settings.peers.clear());
    assert_eq!(net.routes(0), &BTreeMap::new());
}

#[test]
fn a_large_mesh_that_starts_at_once_is_complete_within_a_second_and_packs_its_routes() {
    let mut net = Net::mesh(40, 17);
    net.run_for(seconds(1));
    for node in 0..40 {
        assert_eq!(net.routes(node), &net.expected_in_mesh(node));
        // One for each family to each peer, and its end.
        assert!(
            net.updates(node) <= 4 * 39 + 4 * net.resets(node),
            "node {node}"
        );
    }
}

#[test]
fn a_peer_that_asks_gets_all_routes_again() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    let before = net.updates(0);
    net.ask_again(1, Family::Ipv4);
    net.run_for(seconds(1));
    // The one route of the family; where the answer begins and ends, ROUTE-REFRESH says (RFC 7313).
    assert_eq!(net.updates(0) - before, 1);
    assert_eq!(net.resets(0) + net.resets(1), 0);
    assert_eq!(net.routes(1), &net.expected_in_mesh(1));
}

/// RFC 2918 §4, RFC 7313 §5: what nobody agreed on is not asked for.
#[test]
fn a_request_for_another_family_or_of_another_kind_is_ignored() {
    let mut net = Net::mesh(2, 3);
    for (node, peer) in [(0, 1), (1, 0)] {
        net.set(node, peer, |peer| peer.families = [Family::Ipv4].into());
    }
    net.run_for(seconds(1));
    let before = net.updates(0);
    net.ask_again(1, Family::Ipv6);
    // EVPN, and a subtype that there is not.
    net.inject(1, MessageType::RouteRefresh, &[0, 25, 0, 70]);
    net.inject(1, MessageType::RouteRefresh, &[0, 1, 9, 1]);
    net.run_for(seconds(1));
    assert_eq!(net.updates(0), before);
    assert_eq!(net.resets(0) + net.resets(1), 0);
    net.ask_again(1, Family::Ipv4);
    net.run_for(seconds(1));
    assert_eq!(net.updates(0), before + 1);
}

#[test]
fn changes_that_come_while_a_peer_is_slow_are_told_together() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    net.cut(0, 1);
    // One message goes out and is held up; more than 64 KiB may not wait in the connection.
    let many: Vec<String> = (0..20_000)
        .map(|n| format!("10.{}.{}.{}/32", 1 + n / 65536, n / 256 % 256, n % 256))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    net.announce(0, &many);
    let busy = net.updates(0);
    net.announce(0, &many[..10_000]);
    net.announce(0, &["10.0.0.0/26"]);
    assert_eq!(
        net.updates(0),
        busy,
        "nothing more until the peer takes something in"
    );
    net.join(0, 1);
    net.run_for(seconds(2));
    assert_eq!(net.routes(1), &net.expected_in_mesh(1));
}

#[test]
fn an_update_that_cannot_be_used_withdraws_its_route_and_is_told_once() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    // ORIGIN 7, AS_PATH empty, NEXT_HOP, LOCAL_PREF, 10.1.0.0/26.
    let body = [
        0, 0, 0, 21, 0x40, 1, 1, 7, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 2, 0x40, 5, 4, 0, 0, 0, 100,
        26, 10, 1, 0, 0,
    ];
    for _ in 0..3 {
        net.inject(1, MessageType::Update, &body);
        net.run_for(seconds(1));
    }
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&["2001:db8::2"]));
    assert_eq!(net.resets(0), 0);
    assert_eq!(net.complaints(0), ["ORIGIN has the undefined value 7"]);
    assert_eq!(net.bad(0), [body], "shown once");
    let status = &net.status(0)["n1"];
    assert_eq!(
        status.notes,
        ["3 UPDATEs had errors, the last: ORIGIN has the undefined value 7"]
    );
    assert_eq!(status.received, 1);
    // So long are the withdrawn routes not.
    let end = [0xff, 0xff, 0, 0];
    net.inject(1, MessageType::Update, &end);
    net.run_for(seconds(1));
    assert_eq!(net.resets(0), 1);
    assert_eq!(net.bad(0), [&body[..], &end]);
}

#[test]
fn routes_that_cannot_be_are_refused_and_the_status_says_why() {
    let mut net = Net::new(3);
    let one = net.add_router(65001);
    let other = net.add_router(65002);
    net.peer(one, other);
    net.change(other, |settings| {
        settings.announce = prefixes(&[
            "127.0.0.0/8",
            "224.0.0.0/4",
            "fe80::/64",
            "198.51.100.0/24",
            "0.0.0.0/0",
        ]);
    });
    net.run_for(seconds(1));
    let learned: Vec<_> = net.routes(one).keys().map(ToString::to_string).collect();
    assert_eq!(learned, ["0.0.0.0/0", "198.51.100.0/24"]);
    let status = &net.status(one)["n1"];
    assert!(
        status
            .notes
            .iter()
            .any(|note| note.contains("is not a prefix to route to")),
        "{:?}",
        status.notes
    );
}

#[test]
fn a_route_that_has_passed_our_as_is_not_taken_back() {
    // r0 (65001) — r1 (65002) — r2 (65001): the middle passes everything on.
    let mut net = Net::new(3);
    let left = net.add_router(65001);
    let middle = net.add_router(65002);
    let right = net.add_router(65001);
    net.peer(left, middle);
    net.peer(middle, right);
    net.change(middle, |settings| {
        for peer in settings.peers.values_mut() {
            peer.export = Export::All;
        }
    });
    net.run_for(seconds(1));
    assert_eq!(
        next_hops(&net, middle, "203.0.0.0/24"),
        hops(&["192.0.2.1"])
    );
    assert_eq!(next_hops(&net, right, "203.0.0.0/24"), hops(&[]));
    let status = &net.status(right)["n1"];
    assert!(
        status
            .notes
            .iter()
            .any(|note| note.contains("our own AS stands in its AS_PATH")),
        "{:?}",
        status.notes
    );
}
