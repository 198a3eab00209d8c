//! How many prefixes a peer may announce (RFC 4271 §6.7, RFC 4486 §4).

use super::*;
use crate::settings::{LimitAction, PrefixLimit};

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
