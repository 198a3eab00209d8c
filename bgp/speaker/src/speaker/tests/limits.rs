//! How many prefixes a peer may announce (RFC 4271 §6.7, RFC 4486 §4).

use super::scripted::{Scripted, graceful};
use super::*;
use crate::filter::Filter;
use crate::settings::{LimitAction, PrefixLimit, Switch};
use crate::wire::{Capability, Forwarding, RefreshMark};

fn limited(action: LimitAction) -> Net {
    let mut net = Net::mesh(3, 3);
    net.set(0, 1, |peer| {
        let limit = PrefixLimit {
            max: 3,
            warn_percent: 70,
            action,
        };
        peer.prefix_limits.insert(Family::Ipv4, limit);
    });
    net.run_for(seconds(2));
    net
}

const FOUR: [&str; 4] = ["10.1.0.0/26", "10.1.1.0/26", "10.1.2.0/26", "10.1.3.0/26"];

#[test]
fn near_the_limit_the_status_warns() {
    let mut net = limited(LimitAction::Warn);
    assert_eq!(net.status(0)["n1"].notes, Vec::<String>::new());
    net.announce(1, &FOUR);
    net.run_for(seconds(1));
    let note = "4 IPv4 prefixes of at most 3 are announced by the peer";
    assert_eq!(net.status(0)["n1"].notes, [note]);
    assert_eq!(net.status(0)["n1"].received, 4);
}

#[test]
fn beyond_the_limit_prefixes_may_be_left_out() {
    let mut net = limited(LimitAction::Block);
    let resets = net.resets(0);
    net.announce(1, &FOUR);
    net.run_for(seconds(1));
    assert_eq!(net.status(0)["n1"].received, 3);
    assert_eq!(net.resets(0), resets);
    assert!(
        net.status(0)["n1"]
            .notes
            .iter()
            .any(|note| note.contains("the limit of 3"))
    );
}

#[test]
fn a_broken_limit_ends_the_session_with_cease_1_until_the_restart() {
    let restart = Some(seconds(60));
    let mut net = limited(LimitAction::TearDown { restart });
    net.announce(1, &FOUR);
    net.run_for(seconds(1));
    let status = &net.status(0)["n1"];
    assert_eq!(
        (status.state, status.reason.as_str(), status.received),
        (
            State::Idle,
            "the peer announced more than 3 IPv4 prefixes; tried again after 60 s",
            0
        )
    );
    assert!(next_hops(&net, 0, "10.1.0.0/26").is_empty());
    assert!(
        !next_hops(&net, 0, "10.2.0.0/26").is_empty(),
        "another peer's routes"
    );
    assert!(
        net.status(1)["n0"]
            .reason
            .contains("maximum number of prefixes reached (6/1)")
    );
    net.announce(1, &FOUR[..2]);
    net.run_for(seconds(50));
    assert_eq!(net.state(0, "n1"), State::Idle);
    net.run_for(seconds(20));
    assert_eq!(net.status(0)["n1"].received, 2);
}

#[test]
fn without_restart_the_session_stays_down_until_the_settings_change() {
    let mut net = limited(LimitAction::TearDown { restart: None });
    net.announce(1, &FOUR);
    net.run_for(seconds(600));
    assert_eq!(net.state(0, "n1"), State::Idle);
    net.set(0, 1, |peer| {
        peer.hold_time = HoldTime::from_secs(12);
        peer.prefix_limits.clear();
    });
    net.run_for(seconds(10));
    assert_eq!(net.status(0)["n1"].received, 4);
}

/// A peer with this limit for IPv4, whose routes are kept as received.
fn keeping(action: LimitAction) -> Scripted {
    Scripted::new(|peer| {
        peer.keep_received = Switch::On;
        limit(peer, 3, action);
    })
}

fn limit(peer: &mut PeerSettings, max: u32, action: LimitAction) {
    let limit = PrefixLimit {
        max,
        warn_percent: 100,
        action,
    };
    peer.prefix_limits.insert(Family::Ipv4, limit);
}

#[test]
fn what_is_kept_as_received_is_bounded_by_the_limit_whatever_the_filter_says() {
    for filter in [None, Some(Filter::reject_all())] {
        let mut lab = keeping(LimitAction::Block);
        lab.set(|peer| peer.import_filter = filter.clone());
        lab.up(&[]);
        lab.announce(&FOUR);
        lab.announce(&["2001:db8:1::/48"]);
        assert_eq!(lab.speaker.kept("p").len(), 4, "three of IPv4");
        // What there was no room for is asked for, where another filter might let it in.
        lab.said();
        lab.set(|peer| {
            peer.import_filter = None;
            peer.prefix_limits.clear();
        });
        assert_eq!(lab.said(), ["asks IPv4", "asks IPv6"]);
        lab.announce(&FOUR);
        lab.announce(&["2001:db8:1::/48"]);
        assert_eq!((lab.has().len(), lab.speaker.kept("p").len()), (5, 5));
        // Now that everything is kept, nobody is asked.
        lab.set(|peer| peer.import_filter = Some(Filter::reject_all()));
        assert_eq!((lab.said().len(), lab.has().len()), (0, 0));
        lab.withdraw(&FOUR[..3]);
        lab.set(|peer| peer.import_filter = None);
        assert_eq!((lab.said().len(), lab.has().len()), (0, 2));
    }
}

#[test]
fn what_another_filter_lets_in_is_held_against_the_limit() {
    let mut lab = keeping(LimitAction::TearDown { restart: None });
    lab.set(|peer| peer.import_filter = Some(Filter::reject_all()));
    lab.up(&[]);
    lab.announce(&FOUR);
    assert_eq!(lab.state(), State::Established, "what is rejected is none");
    lab.set(|peer| peer.import_filter = None);
    lab.announce(&FOUR);
    assert_eq!(lab.state(), State::Idle);
    assert!(lab.said().contains(&"6/1".to_owned()));
    assert!(lab.has().is_empty());
}

/// RFC 4724 §4.2: who is back with other prefixes does not announce more than before.
#[test]
fn routes_that_are_kept_over_a_restart_do_not_count() {
    let families = Family::ALL.map(|family| (family, Forwarding::Preserved));
    let graceful = graceful(120, &families);
    let tear_down = LimitAction::TearDown { restart: None };
    let mut lab = Scripted::new(|peer| limit(peer, 3, tear_down));
    lab.up(std::slice::from_ref(&graceful));
    lab.announce(&FOUR[..3]);
    lab.end_of_rib();
    lab.lose();
    lab.up(&[graceful]);
    let others = ["10.2.0.0/26", "10.2.1.0/26", FOUR[0]];
    lab.announce(&others);
    assert_eq!(lab.state(), State::Established);
    assert_eq!(lab.has().len(), 5);
    lab.end_of_rib();
    assert_eq!(lab.has().len(), 3);
    lab.announce(&FOUR[1..2]);
    assert_eq!(lab.state(), State::Idle);
}

/// Nor do those that an answer to ROUTE-REFRESH has not come to, but a peer cannot make that a way around the limit.
#[test]
fn an_answer_that_never_ends_does_not_go_around_the_limit() {
    let mut lab = Scripted::new(|peer| limit(peer, 3, LimitAction::Block));
    lab.up(&[Capability::EnhancedRefresh]);
    for round in 0..10 {
        let list: Vec<String> = (0..4).map(|n| format!("10.{round}.{n}.0/24")).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        lab.announce(&list);
        lab.mark(Family::Ipv4, RefreshMark::Begin);
    }
    assert_eq!(lab.has().len(), 6);
    lab.mark(Family::Ipv4, RefreshMark::End);
    assert!(lab.has().is_empty());
    lab.announce(&FOUR);
    assert_eq!(lab.has(), FOUR[..3]);
}

#[test]
fn another_limit_holds_for_what_is_there() {
    let mut lab = Scripted::new(|_| {});
    lab.up(&[]);
    lab.announce(&FOUR);
    lab.announce(&["2001:db8:1::/48"]);
    lab.set(|peer| limit(peer, 1, LimitAction::Warn));
    assert_eq!(lab.has().len(), 5);
    lab.set(|peer| limit(peer, 2, LimitAction::Block));
    assert_eq!(lab.has().len(), 3, "two of IPv4");
    lab.said();
    lab.set(|peer| limit(peer, 3, LimitAction::Block));
    assert_eq!(lab.said(), ["asks IPv4", "asks IPv6"]);
    lab.announce(&FOUR);
    assert_eq!(lab.has().len(), 4);
    lab.set(|peer| limit(peer, 2, LimitAction::TearDown { restart: None }));
    assert_eq!(lab.state(), State::Idle);
    assert!(lab.said().contains(&"6/1".to_owned()));
    assert!(lab.has().is_empty());
}
