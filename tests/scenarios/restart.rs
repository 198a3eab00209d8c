//! felix dies and comes back at any moment; packets do not notice.

use std::time::{Duration, Instant};

use margay_tests::lab::clock::{Deadline, now};
use margay_tests::lab::guard::random;
use margay_tests::lab::prober::Protocol;
use margay_tests::lab::traffic::{Kind, Traffic};

use crate::support::{alone, gets_through, id, only_from, pod, raise, shot, tell};

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn twenty_kills_at_random_moments_lose_nothing_and_let_nothing_through() {
    let _machine = alone();
    let policies = [
        only_from("server", "server", &["friend"]),
        only_from("friend", "friend", &["server"]),
    ];
    let mut lab = raise(
        2,
        [
            pod("friend", "n1"),
            pod("stranger", "n1"),
            pod("server", "n2"),
        ]
        .into_iter()
        .chain(policies),
    );
    let talk = Traffic::start(
        Kind::Datagrams,
        &[shot(&lab, "friend", "server", Protocol::Udp)],
        MILLISECOND,
    )
    .unwrap();
    let visits = Traffic::start(
        Kind::Connections,
        &[shot(&lab, "friend", "server", Protocol::Tcp)],
        MILLISECOND * 5,
    )
    .unwrap();
    let forbidden = ["server", "friend"].map(|to| shot(&lab, "stranger", to, Protocol::Udp));
    let forbidden = Traffic::start_unanswered(Kind::Datagrams, &forbidden, MILLISECOND).unwrap();
    let intruders = [shot(&lab, "stranger", "server", Protocol::Tcp)];
    let intruders =
        Traffic::start_unanswered(Kind::Connections, &intruders, MILLISECOND * 5).unwrap();
    let seed = random();
    tell(&format!("seed {seed}"));
    let mut moment = u64::from_str_radix(&seed, 16).unwrap();
    let mut done: Vec<(Instant, String)> = Vec::new();
    for round in 0..20 {
        let node = if round % 2 == 0 { "n1" } else { "n2" };
        done.push((now(), format!("felix of {node} is killed")));
        lab.kill_felix(node).unwrap();
        lab.start_felix(node).unwrap();
        done.push((now(), format!("felix of {node} is started")));
        // A multiplicative congruence is random enough for a moment of the start, or one after it.
        moment = moment
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let until = Deadline::after(Duration::from_millis((moment >> 33) % 250));
        while !until.is_over() {
            std::thread::yield_now();
        }
    }
    lab.wait_ready().unwrap();
    lab.settle().unwrap();
    talk.wait_sent(100).unwrap();
    for (what, traffic) in [("packet", talk), ("connection", visits)] {
        for samples in traffic.stop().unwrap() {
            let lost = samples.losses();
            assert!(
                lost.is_empty(),
                "of {} each {what} lost, with what was done before: {:?}",
                samples.sent(),
                said(&lost, &done)
            );
        }
    }
    for samples in [forbidden, intruders]
        .map(|traffic| traffic.stop().unwrap())
        .concat()
    {
        assert!(samples.sent() > 100);
        assert_eq!(
            samples.lost(),
            samples.sent(),
            "forbidden packets got through"
        );
    }
}

/// Each moment with the last thing that was done before it, and how long before.
fn said(moments: &[Instant], done: &[(Instant, String)]) -> Vec<String> {
    let before = |moment: &Instant| done.iter().rev().find(|(at, _)| at <= moment);
    let sentence = |moment: &Instant| {
        before(moment).map_or_else(
            || "at first".to_owned(),
            |(at, what)| format!("{:?} after {what}", *moment - *at),
        )
    };
    moments.iter().map(sentence).collect()
}

#[test]
fn a_policy_changed_while_felix_is_away_is_in_force_afterwards() {
    let _machine = alone();
    let mut lab = raise(2, [pod("client", "n1"), pod("server", "n2")]);
    let talk = shot(&lab, "client", "server", Protocol::Tcp);
    let flow = Traffic::start(
        Kind::Messages,
        std::slice::from_ref(&talk),
        MILLISECOND * 10,
    )
    .unwrap();
    lab.kill_felix("n2").unwrap();
    lab.apply(only_from("closed", "server", &[])).unwrap();
    lab.wait_read().unwrap();
    assert!(
        gets_through(&mut lab, talk.clone()),
        "the old policy stays while felix is away"
    );
    lab.start_felix("n2").unwrap();
    lab.settle().unwrap();
    assert!(!gets_through(&mut lab, talk));
    let settled = now();
    flow.wait_sent(10).unwrap();
    assert_eq!(
        flow.stop().unwrap()[0].answered_since(settled),
        0,
        "the old flow goes on"
    );
}

#[test]
fn a_restart_without_the_controller_keeps_everything() {
    let _machine = alone();
    let documents = [
        pod("friend", "n1"),
        pod("stranger", "n1"),
        pod("server", "n2"),
        only_from("some", "server", &["friend"]),
    ];
    let mut lab = raise(2, documents);
    let talk = Traffic::start(
        Kind::Datagrams,
        &[shot(&lab, "friend", "server", Protocol::Udp)],
        MILLISECOND,
    )
    .unwrap();
    lab.kill_controller().unwrap();
    for node in ["n1", "n2"] {
        lab.kill_felix(node).unwrap();
        lab.start_felix(node).unwrap();
    }
    lab.wait_rules().unwrap();
    for (from, through) in [("friend", true), ("stranger", false)] {
        let shot = shot(&lab, from, "server", Protocol::Tcp);
        assert_eq!(gets_through(&mut lab, shot), through, "{from}");
    }
    talk.wait_sent(100).unwrap();
    assert_eq!(talk.stop().unwrap()[0].lost(), 0);
    lab.start_controller().unwrap();
    lab.wait_ready().unwrap();
    lab.settle().unwrap();
    lab.stop_pods(&[id("stranger")]).unwrap();
}
