//! Restarts beyond RFC 4724: after a NOTIFICATION (RFC 8538), and for long (RFC 9494).

use super::*;
use crate::settings::Switch;
use crate::wire::community::{LLGR_STALE, NO_LLGR};

/// A mesh whose sessions keep routes over NOTIFICATIONs, or for long.
fn mesh(notification: Switch, long_lived: Option<Duration>) -> Net {
    let mut net = Net::mesh(3, 11);
    for node in 0..3 {
        net.change(node, |settings| {
            for peer in settings.peers.values_mut() {
                peer.restart.notification = notification;
                peer.restart.long_lived = long_lived;
            }
        });
    }
    net.run_for(seconds(10));
    net
}

/// RFC 8538 §3: a hold timer that runs out is a loss, not an end.
#[test]
fn a_cut_that_outlasts_the_hold_time_costs_no_route_where_both_sides_agreed() {
    let mut net = mesh(Switch::On, None);
    let before = net.changes(0);
    net.cut(0, 1);
    net.run_for(seconds(30));
    assert_ne!(net.state(0, "n1"), State::Established);
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    net.join(0, 1);
    net.run_for(seconds(30));
    assert_eq!(net.state(0, "n1"), State::Established);
    assert_eq!(net.changes(0), before);
    // And without that agreement it is an end.
    let mut net = mesh(Switch::Off, None);
    net.cut(0, 1);
    net.run_for(seconds(30));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
}

/// RFC 8538 §3.1: an end that is meant is a Hard Reset.
#[test]
fn an_end_that_is_meant_takes_the_routes_at_once_and_its_words_arrive() {
    let mut net = mesh(Switch::On, None);
    net.shut_down(1);
    net.run_for(Duration::from_millis(100));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
    let reason = &net.status(0)["n1"].reason;
    assert!(
        reason.contains("administrative shutdown (6/2): “this speaker is shutting down”"),
        "{reason}"
    );
}

/// RFC 5882 §4.3.2.2: whose BFD ends with its BGP is missed by both. Neither while it is away nor when it was back sooner
/// than BFD noticed does that cost a route.
#[test]
fn what_bfd_lost_before_the_session_began_is_the_restart_itself() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(10));
    let before = net.changes(0);
    net.kill(1);
    net.run_for(Duration::from_millis(100));
    net.bfd_down(0, "n1", Duration::from_millis(150));
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    net.start(1);
    while net.state(0, "n1") != State::Established {
        net.run_for(Duration::from_millis(1));
    }
    net.bfd_down(0, "n1", Duration::from_millis(150));
    assert_eq!(net.state(0, "n1"), State::Established);
    net.run_for(seconds(10));
    assert_eq!(net.changes(0), before);
    net.bfd_down(0, "n1", seconds(1));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
}

/// RFC 9494 §4.2: after the restart time the routes are the last choice, and go in the end.
#[test]
fn routes_that_are_stale_for_long_are_the_last_choice_and_marked() {
    let mut net = mesh(Switch::Off, Some(seconds(1000)));
    net.announce(1, &["10.99.0.1/32", "10.1.0.0/26"]);
    net.announce(2, &["10.99.0.1/32"]);
    net.run_for(seconds(1));
    net.kill(1);
    net.run_for(seconds(100));
    let both = hops(&["192.0.2.2", "192.0.2.3"]);
    assert_eq!(
        next_hops(&net, 0, "10.99.0.1/32"),
        both,
        "stale and as good"
    );
    net.run_for(seconds(30));
    assert_eq!(next_hops(&net, 0, "10.99.0.1/32"), hops(&["192.0.2.3"]));
    assert_eq!(
        next_hops(&net, 0, "10.1.0.0/26"),
        hops(&["192.0.2.2"]),
        "the only one"
    );
    net.run_for(seconds(900));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    net.run_for(seconds(120));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
    assert_eq!(net.status(0)["n1"].received, 0);
}

#[test]
fn a_peer_that_comes_back_late_makes_its_routes_fresh() {
    let mut net = mesh(Switch::Off, Some(seconds(1000)));
    net.kill(1);
    net.run_for(seconds(300));
    assert!(net.best(0, "10.1.0.0/26").unwrap().stale);
    net.start_announcing(1, &["10.1.0.0/26"]);
    net.run_for(seconds(20));
    assert!(!net.best(0, "10.1.0.0/26").unwrap().stale);
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&[]));
    net.run_for(seconds(2000));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
}

/// RFC 9494 §4.3 and §4.4: marked on the way, not told to whoever does not know the mark, and some never kept.
#[test]
fn the_mark_is_passed_on_to_those_who_know_it_and_no_llgr_is_obeyed() {
    let mut net = Net::new(4);
    for asn in [65000, 65001, 65002, 65003] {
        net.add_router(asn);
    }
    for other in 1..4 {
        net.peer(0, other);
    }
    for node in 0..4 {
        net.transit(node);
        net.change(node, |settings| {
            for peer in settings.peers.values_mut() {
                peer.restart.long_lived = Some(seconds(1000));
            }
        });
    }
    net.set(3, 0, |peer| peer.restart.long_lived = None);
    net.change(1, |settings| {
        settings.announce = prefixes(&["203.0.1.0/24", "198.51.100.0/24"]);
        let mut never = crate::settings::Announcement::default();
        never.details.communities.insert(NO_LLGR);
        settings
            .announcements
            .insert("198.51.100.0/24".parse().unwrap(), never);
    });
    net.run_for(seconds(10));
    assert!(net.best(3, "203.0.1.0/24").is_some());
    net.kill(1);
    net.run_for(seconds(130));
    assert!(net.best(0, "198.51.100.0/24").is_none());
    let marked = net.best(2, "203.0.1.0/24").unwrap().attrs;
    assert_eq!(marked.communities, [LLGR_STALE]);
    assert!(net.best(3, "203.0.1.0/24").is_none());
}

/// RFC 7313 §4: what an answer to ROUTE-REFRESH leaves out is gone.
#[test]
fn an_answer_with_beginning_and_end_sweeps_what_it_leaves_out() {
    let mut net = Net::mesh(2, 3);
    net.run_for(seconds(1));
    let begin =
        crate::wire::encode_route_refresh_mark(Family::Ipv4, crate::wire::RefreshMark::Begin);
    let end = crate::wire::encode_route_refresh_mark(Family::Ipv4, crate::wire::RefreshMark::End);
    net.inject(1, MessageType::RouteRefresh, &begin[19..]);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    net.inject(1, MessageType::RouteRefresh, &end[19..]);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "10.1.0.0/26"), hops(&[]));
    assert_eq!(next_hops(&net, 0, "fd00:1::/122"), hops(&["2001:db8::2"]));
    // §5: one that is too long ends the session with error 7.
    net.inject(1, MessageType::RouteRefresh, &[0, 1, 1, 1, 0]);
    net.run_for(Duration::from_millis(20));
    assert!(net.last_end(1).contains("ROUTE-REFRESH error (7/1)"));
}
