//! A peer restarts, in every way that RFC 4724 §4.2 and RFC 9494 §4.2 know; and RFC 7313 §4 beside it.

use super::scripted::{Scripted, graceful, long_lived};
use super::*;
use crate::rib::Freshness;
use crate::settings::Deferral;
use crate::wire::{Capability, Forwarding, RefreshMark};

use Family::{Ipv4, Ipv6};
use Forwarding::{Lost, Preserved};

const A: &str = "203.0.113.0/24";
const B: &str = "198.51.100.0/24";
const SIX: &str = "2001:db8:1::/48";

fn both(time: u16) -> Capability {
    graceful(time, &[(Ipv4, Preserved), (Ipv6, Preserved)])
}

/// A peer that has told these routes of everything, and restarts gracefully.
fn with(list: &[&str], capabilities: &[Capability]) -> Scripted {
    let mut lab = Scripted::new(|peer| peer.restart.long_lived = Some(seconds(1)));
    lab.up(capabilities);
    lab.announce(list);
    lab.end_of_rib();
    lab
}

/// RFC 4724 §4.2, consecutive restarts: else a peer that flaps would keep what is long gone for ever.
#[test]
fn what_was_not_told_again_before_the_next_loss_goes() {
    let mut lab = with(&[A, B], &[both(120)]);
    lab.lose();
    lab.up(&[both(120)]);
    lab.announce(&[A]);
    assert_eq!(lab.freshness(B), Some(Freshness::Stale));
    lab.lose();
    assert_eq!(lab.freshness(A), Some(Freshness::Stale));
    assert_eq!(lab.has(), [A]);
    // And so on: nothing outlives a whole session.
    lab.up(&[both(120)]);
    lab.lose();
    assert!(lab.has().is_empty());
}

/// RFC 4724 §4.2: by family, and by what the new session says.
#[test]
fn what_was_not_preserved_goes_with_the_new_session() {
    type Expected = &'static [&'static str];
    let cases: [(&[Capability], Expected); 5] = [
        (&[both(120)], &[A, SIX]),
        (&[graceful(120, &[(Ipv4, Lost), (Ipv6, Preserved)])], &[SIX]),
        (&[graceful(120, &[(Ipv4, Preserved)])], &[A]),
        (&[graceful(120, &[])], &[]),
        (&[], &[]),
    ];
    for (capabilities, expected) in cases {
        let mut lab = with(&[A, SIX], &[both(120)]);
        lab.lose();
        assert_eq!(lab.has(), [A, SIX]);
        lab.up(capabilities);
        assert_eq!(lab.has(), expected, "{capabilities:?}");
        lab.end_of_rib();
        assert!(lab.has().is_empty());
    }
}

#[test]
fn a_family_that_the_peer_did_not_name_goes_at_once() {
    let mut lab = with(&[A, SIX], &[graceful(120, &[(Ipv6, Preserved)])]);
    lab.lose();
    assert_eq!(lab.has(), [SIX]);
}

#[test]
fn who_is_back_and_never_says_that_it_is_done_has_six_minutes() {
    let mut lab = with(&[A, B], &[both(120)]);
    lab.lose();
    lab.pass(seconds(100));
    lab.up(&[both(120)]);
    lab.announce(&[A]);
    lab.pass(seconds(359));
    assert_eq!(lab.has(), [B, A]);
    lab.pass(seconds(2));
    assert_eq!(lab.has(), [A]);
    assert_eq!(lab.state(), State::Established);
}

/// RFC 9494 §4.2: once routes are stale for long, the long-lived capability's bit and families decide, not the other's.
#[test]
fn of_what_is_stale_for_long_the_long_lived_capability_decides() {
    let long = |forwarding| long_lived(&[(Ipv4, forwarding, 1000)]);
    let other = long_lived(&[(Ipv6, Preserved, 1000)]);
    let four_lost = graceful(10, &[(Ipv4, Lost)]);
    let cases = [
        (vec![both(10), long(Preserved)], true),
        (vec![four_lost, long(Preserved)], true),
        (vec![both(10), long(Lost)], false),
        (vec![both(10), other], false),
        (vec![both(10)], false),
        // It means nothing alone (§3.1).
        (vec![long(Preserved)], false),
    ];
    for (capabilities, stays) in cases {
        let mut lab = with(&[A], &[both(10), long(Preserved)]);
        lab.lose();
        lab.pass(seconds(20));
        assert_eq!(lab.freshness(A), Some(Freshness::LongStale));
        lab.up(&capabilities);
        assert_eq!(!lab.has().is_empty(), stays, "{capabilities:?}");
        lab.end_of_rib();
        assert!(lab.has().is_empty());
    }
}

/// RFC 9494 §4.2: until End-of-RIB the time runs on, over sessions and losses.
#[test]
fn a_session_that_is_lost_before_its_end_does_not_begin_the_long_time_anew() {
    let capabilities = [both(10), long_lived(&[(Ipv4, Preserved, 1000)])];
    let mut lab = with(&[A, B], &capabilities);
    lab.lose();
    lab.pass(seconds(510));
    lab.up(&capabilities);
    lab.announce(&[A]);
    lab.lose();
    // Its restart time is over: what it has just told is the last choice too.
    for prefix in [A, B] {
        assert_eq!(lab.freshness(prefix), Some(Freshness::LongStale));
    }
    lab.pass(seconds(499));
    assert_eq!(lab.has(), [B, A]);
    lab.pass(seconds(2));
    assert!(lab.has().is_empty());
}

/// RFC 9494 §4.2: the time is over while the peer tells its routes again, and then it is lost.
#[test]
fn a_session_that_is_lost_before_its_end_when_the_long_time_is_over_leaves_nothing() {
    let capabilities = [both(10), long_lived(&[(Ipv4, Preserved, 1000)])];
    for ends in [false, true] {
        let mut lab = with(&[A, B], &capabilities);
        lab.lose();
        lab.pass(seconds(900));
        lab.up(&capabilities);
        lab.announce(&[A]);
        lab.pass(seconds(109));
        assert_eq!(lab.has(), [B, A]);
        lab.pass(seconds(2));
        assert_eq!(lab.has(), [A]);
        if ends {
            lab.end_of_rib();
        }
        lab.lose();
        let kept = ends.then_some(Freshness::Stale);
        assert_eq!(lab.freshness(A), kept);
        // After an end everything begins anew.
        lab.pass(seconds(11));
        assert_eq!(lab.freshness(A), kept.map(|_| Freshness::LongStale));
        lab.pass(seconds(998));
        assert_eq!(lab.has().is_empty(), !ends);
        lab.pass(seconds(2));
        assert!(lab.has().is_empty());
    }
}

/// RFC 9494 §4.2: the restart time of a family that the other capability does not name is zero.
#[test]
fn a_family_that_only_the_long_lived_capability_names_is_the_last_choice_at_once() {
    let long = long_lived(&[(Ipv4, Preserved, 1000), (Ipv6, Preserved, 0)]);
    let mut lab = with(&[A, SIX], &[graceful(10, &[]), long]);
    lab.lose();
    assert_eq!(lab.freshness(A), Some(Freshness::LongStale));
    assert_eq!(lab.has(), [A]);
    lab.pass(seconds(1001));
    assert!(lab.has().is_empty());
}

/// RFC 7313 §4: until End-of-RIB of a peer that says that, a beginning means nothing.
#[test]
fn a_beginning_before_end_of_rib_is_ignored_where_that_is_to_come() {
    for (capabilities, heeded) in [
        (&[Capability::EnhancedRefresh, both(120)][..], false),
        (&[Capability::EnhancedRefresh], true),
    ] {
        let mut lab = Scripted::new(|_| {});
        lab.up(capabilities);
        lab.announce(&[A]);
        lab.mark(Ipv4, RefreshMark::Begin);
        lab.mark(Ipv4, RefreshMark::End);
        assert_eq!(lab.has().is_empty(), heeded);
        lab.announce(&[A, SIX]);
        lab.end_of_rib();
        lab.mark(Ipv4, RefreshMark::Begin);
        assert_eq!(lab.has(), [A, SIX]);
        lab.mark(Ipv4, RefreshMark::End);
        assert_eq!(lab.has(), [SIX]);
    }
}

/// RFC 7313 §4: whoever asks before End-of-RIB has its answer after it.
#[test]
fn no_beginning_goes_before_end_of_rib() {
    let deferral = Deferral {
        most: seconds(300),
        absent: seconds(300),
    };
    let mut lab = Scripted::new(|_| {}).begin(|settings| settings.deferral = Some(deferral));
    lab.up(&[Capability::EnhancedRefresh, both(120)]);
    lab.said();
    lab.ask(Ipv4);
    lab.ask(Ipv4);
    assert!(lab.said().is_empty());
    lab.end_of_rib();
    let first = ["UPDATE", "End-of-RIB IPv4", "End-of-RIB IPv6"];
    let again = ["BoRR IPv4", "UPDATE", "EoRR IPv4"];
    assert_eq!(lab.said(), [first, again].concat());
    lab.ask(Ipv4);
    assert_eq!(lab.said(), again);
    lab.ask(Ipv6);
    assert_eq!(lab.said(), ["BoRR IPv6", "EoRR IPv6"]);
}

/// RFC 4724 §4.1: who restarts itself, or never says that it is done, is not waited for, or not for ever.
#[test]
fn after_a_restart_only_peers_that_will_say_when_they_are_done_are_waited_for() {
    let deferral = Deferral {
        most: seconds(300),
        absent: seconds(20),
    };
    let mut restarted = both(120);
    if let Capability::GracefulRestart(restart) = &mut restarted {
        restart.state = crate::wire::RestartState::Restarted;
    }
    for (capability, waits) in [
        (Some(both(120)), true),
        (Some(restarted), false),
        (None, false),
    ] {
        let mut lab = Scripted::new(|_| {}).begin(|settings| settings.deferral = Some(deferral));
        lab.up(capability.as_slice());
        lab.announce(&[A]);
        let told = |lab: &mut Scripted| lab.said().contains(&"UPDATE".to_owned());
        assert_eq!(told(&mut lab), !waits, "{capability:?}");
        lab.pass(seconds(299));
        assert!(!told(&mut lab));
        lab.pass(seconds(2));
        assert_eq!(told(&mut lab), waits);
    }
}

/// RFC 4724 §4.2, §5: the host of a peer fails, so that nobody closes the connection, and comes back before the hold time
/// is over.
#[test]
fn a_peer_that_was_not_missed_begins_anew_and_no_route_is_lost() {
    let mut net = Net::mesh(2, 5);
    net.run_for(seconds(30));
    let before = net.changes(0);
    net.vanish(1);
    net.run_for(seconds(1));
    assert_eq!(net.state(0, "n1"), State::Established);
    net.start(1);
    net.run_for(seconds(1));
    assert_eq!(net.state(0, "n1"), State::Established);
    assert_eq!(net.state(1, "n0"), State::Established);
    assert_eq!(net.last_end(0), "the peer has restarted, and begins anew");
    assert_eq!(net.routes(1), &net.expected_in_mesh(1));
    net.run_for(seconds(30));
    assert_eq!((net.changes(0), net.resets(0)), (before, 1));
    // It is the new session that counts now.
    net.announce(1, &["10.1.0.64/26"]);
    net.run_for(seconds(1));
    assert_eq!(net.routes(0), &net.expected_in_mesh(0));
}
