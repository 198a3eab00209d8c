//! A second connection: collisions (RFC 4271 §6.8), and peers that have restarted (RFC 4724 §4.2).

use super::*;

/// RFC 4271 §6.8 on the side with the lower identifier: what the peer dialled stays, whichever OPEN came first.
#[test]
fn in_a_collision_the_lower_identifier_gives_up_its_own_dial() {
    for (first, second) in [(OURS, THEIRS), (THEIRS, OURS)] {
        let mut lab = Lab::colliding("192.0.2.1");
        lab.event(Event::BgpOpen(first, open("192.0.2.2")));
        assert_eq!(lab.told(), [format!("KEEPALIVE on {}", name(first))]);
        lab.event(Event::BgpOpen(second, open("192.0.2.2")));
        let told = lab.told();
        assert_eq!(told[..2], ["NOTIFICATION 6/7 on ours", "close ours"]);
        lab.event(Event::KeepAliveMsg(THEIRS));
        assert_eq!(lab.session.state(), State::Established);
        assert_eq!(lab.session.established().unwrap().0, THEIRS);
    }
}

/// And on the side with the higher one.
#[test]
fn in_a_collision_the_higher_identifier_keeps_its_own_dial() {
    for (first, second) in [(OURS, THEIRS), (THEIRS, OURS)] {
        let mut lab = Lab::colliding("192.0.2.3");
        lab.event(Event::BgpOpen(first, open("192.0.2.2")));
        lab.told();
        lab.event(Event::BgpOpen(second, open("192.0.2.2")));
        let told = lab.told();
        assert_eq!(told[..2], ["NOTIFICATION 6/7 on theirs", "close theirs"]);
        lab.event(Event::KeepAliveMsg(OURS));
        assert_eq!(lab.session.established().unwrap().0, OURS);
    }
}

#[test]
fn with_equal_identifiers_the_larger_as_keeps_its_dial() {
    // RFC 6286 §2.3; ours is 64512, the peer's 65000.
    let mut settings = settings();
    settings.asn = Asn(65000);
    let mut lab = Lab::with(settings, "192.0.2.2");
    lab.collide();
    let mut open = open("192.0.2.2");
    open.my_as = 65000;
    open.capabilities = vec![Capability::FourOctetAs(Asn(65000))];
    lab.event(Event::BgpOpen(OURS, open.clone()));
    lab.told();
    lab.event(Event::BgpOpen(THEIRS, open));
    assert_eq!(lab.told()[..2], ["NOTIFICATION 6/7 on ours", "close ours"]);
}

#[test]
fn a_connection_that_is_not_needed_any_more_is_closed() {
    let mut lab = Lab::colliding("192.0.2.1");
    lab.event(Event::BgpOpen(OURS, open("192.0.2.2")));
    lab.told();
    // The peer has decided for ours: its OPEN on the other never came.
    lab.event(Event::KeepAliveMsg(OURS));
    assert_eq!(
        lab.told(),
        ["NOTIFICATION 6/7 on theirs", "close theirs", "up on ours"]
    );
}

#[test]
fn losing_a_collision_is_no_reason_to_be_down() {
    let mut lab = Lab::colliding("192.0.2.1");
    lab.event(Event::BgpOpen(THEIRS, open("192.0.2.2")));
    lab.event(Event::NotifMsg(
        OURS,
        Notification::cease(Cease::ConnectionCollision, ""),
    ));
    assert_eq!(lab.session.down(), &Down::New);
    assert_eq!(lab.session.state(), State::OpenConfirm);
}

#[test]
fn a_second_connection_is_refused_while_established_and_the_first_is_probed() {
    let mut lab = Lab::established("192.0.2.1");
    lab.told();
    lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
    assert_eq!(
        lab.told(),
        [
            "NOTIFICATION 6/7 on theirs",
            "close theirs",
            "KEEPALIVE on ours"
        ]
    );
    assert_eq!(lab.session.state(), State::Established);
}

/// RFC 4724 §4.2, §5: a peer that restarts gracefully and comes anew has lost the old connection, which ends without a
/// word. Its OPEN must have come: whoever else can dial from its address ends nothing.
#[test]
fn a_new_open_of_a_peer_that_restarts_gracefully_ends_the_old_connection() {
    let mut lab = Lab::established("192.0.2.1");
    lab.pass(Duration::from_secs(5));
    lab.told();
    lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
    assert_eq!(lab.told(), ["OPEN on theirs"]);
    assert_eq!(lab.session.state(), State::Established);
    lab.event(Event::BgpOpen(THEIRS, open("192.0.2.2")));
    assert_eq!(
        lab.told(),
        ["close ours", "lost", "KEEPALIVE on theirs"],
        "no NOTIFICATION"
    );
    assert_eq!(lab.session.state(), State::OpenConfirm);
    lab.event(Event::KeepAliveMsg(THEIRS));
    assert_eq!(lab.told(), ["up on theirs"]);
    assert_eq!(lab.session.established().unwrap().0, THEIRS);
    // And once more, from an accepted connection to the next.
    lab.pass(Duration::from_secs(5));
    lab.told();
    let next = ConnectionId::Accepted(1);
    lab.event(Event::TcpConnectionConfirmed(next, local()));
    assert_eq!(lab.told(), ["OPEN on theirs"]);
    lab.event(Event::BgpOpen(next, open("192.0.2.2")));
    lab.event(Event::KeepAliveMsg(next));
    assert_eq!(lab.session.established().unwrap().0, next);
}

/// RFC 4271 §6.8 holds for everything else.
#[test]
fn nothing_but_the_peers_own_open_ends_an_established_session() {
    type Happens = fn(&mut Lab);
    let cases: [(Happens, &[&str]); 5] = [
        (
            |lab| lab.event(Event::BgpOpen(THEIRS, open("192.0.2.9"))),
            &["NOTIFICATION 6/7 on theirs", "close theirs"],
        ),
        (
            |lab| {
                let mut open = open("192.0.2.2");
                open.capabilities = vec![Capability::FourOctetAs(Asn(64513))];
                lab.event(Event::BgpOpen(THEIRS, open));
            },
            &["NOTIFICATION 2/2 on theirs", "close theirs"],
        ),
        (
            |lab| lab.event(Event::KeepAliveMsg(THEIRS)),
            &["NOTIFICATION 5/1 on theirs", "close theirs"],
        ),
        (
            |lab| lab.event(Event::TcpConnectionFails(THEIRS, Failure::Reset)),
            &["close theirs"],
        ),
        (
            |lab| {
                for _ in 0..6 {
                    lab.pass(Duration::from_secs(10));
                    lab.event(Event::KeepAliveMsg(OURS));
                }
                lab.told.retain(|told| told != "KEEPALIVE on ours");
            },
            &["NOTIFICATION 4/0 on theirs", "close theirs"],
        ),
    ];
    for (happens, expected) in cases {
        let mut lab = Lab::established("192.0.2.1");
        lab.pass(Duration::from_secs(5));
        let down = lab.session.down().clone();
        lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
        lab.told();
        happens(&mut lab);
        assert_eq!(lab.told(), expected);
        assert_eq!(lab.session.established().unwrap().0, OURS);
        assert_eq!(lab.session.down(), &down);
    }
}

/// The established connection may end first: the other goes on.
#[test]
fn a_second_connection_outlives_the_one_that_it_would_replace() {
    let mut lab = Lab::established("192.0.2.1");
    lab.pass(Duration::from_secs(5));
    lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
    lab.told();
    lab.event(Event::TcpConnectionFails(OURS, Failure::Reset));
    assert_eq!(lab.told(), ["close ours", "lost"]);
    lab.event(Event::BgpOpen(THEIRS, open("192.0.2.2")));
    lab.event(Event::KeepAliveMsg(THEIRS));
    assert_eq!(lab.session.established().unwrap().0, THEIRS);
    // But not a broken prefix limit.
    lab.pass(Duration::from_secs(5));
    let next = ConnectionId::Accepted(1);
    lab.event(Event::TcpConnectionConfirmed(next, local()));
    lab.told();
    lab.event(Event::PrefixLimit {
        family: Family::Ipv4,
        max: 7,
        restart: None,
    });
    assert_eq!(lab.session.state(), State::Idle);
    assert!(lab.session.is_quiet());
}

/// RFC 4271 §6.8: without graceful restart, and while a dial may be under way that began before the session did, a further
/// connection is refused and the established one probed.
#[test]
fn only_of_peers_that_restart_gracefully_and_not_at_once_a_second_connection_is_taken() {
    let refused = [
        "NOTIFICATION 6/7 on theirs",
        "close theirs",
        "KEEPALIVE on ours",
    ];
    let mut lab = Lab::dialled("192.0.2.1");
    let mut plain = open("192.0.2.2");
    let graceful = |capability: &Capability| capability.as_graceful_restart().is_some();
    plain
        .capabilities
        .retain(|capability| !graceful(capability));
    lab.event(Event::BgpOpen(OURS, plain));
    lab.event(Event::KeepAliveMsg(OURS));
    lab.pass(Duration::from_mins(1));
    lab.told();
    lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
    assert_eq!(lab.told(), refused);
    let mut lab = Lab::established("192.0.2.1");
    lab.pass(Duration::from_millis(4999));
    lab.told();
    lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
    assert_eq!(lab.told(), refused);
}

#[test]
fn a_newer_connection_of_the_peer_replaces_its_older_one() {
    let mut lab = Lab::dialled("192.0.2.1");
    lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
    lab.told();
    let newer = ConnectionId::Accepted(1);
    lab.event(Event::TcpConnectionConfirmed(newer, local()));
    assert_eq!(lab.told(), ["close theirs", "OPEN on theirs"]);
}
