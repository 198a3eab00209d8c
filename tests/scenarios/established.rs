//! Established flows follow the policy: what a change forbids stops, what it leaves alone loses nothing.

use std::net::UdpSocket;
use std::time::Duration;

use margay_tests::lab::clock::now;
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::prober::{Protocol, Shot};
use margay_tests::lab::traffic::{Kind, Samples, Traffic};
use serde_json::json;

use crate::support::{
    alone, gets_through, id, only_from, pod, pod_at, policy, raise, shot, shot_over,
};

const EVERY: Duration = Duration::from_millis(10);
/// How soon a forbidden flow must stop.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_flow_that_a_new_policy_forbids_stops_and_a_hundred_others_lose_nothing() {
    let _machine = alone();
    let mut lab = raise(
        2,
        [
            pod("client", "n1"),
            pod("server", "n2"),
            pod("near", "n1"),
            pod("far", "n2"),
        ],
    );
    let talk = [
        shot(&lab, "client", "server", Protocol::Tcp),
        shot_over(&lab, "client", "server", Protocol::Tcp, false),
    ];
    let talk = Traffic::start(Kind::Messages, &talk, EVERY).unwrap();
    let others = Traffic::start(Kind::Datagrams, &hundred(&lab), EVERY).unwrap();
    let changed = now();
    lab.apply(only_from("closed", "server", &["near", "far"]))
        .unwrap();
    lab.settle().unwrap();
    talk.wait_sent(150).unwrap();
    for samples in talk.stop().unwrap() {
        let last = samples.last_answer_after(changed).unwrap_or_default();
        assert!(
            last < SOON,
            "the last answer came {last:?} after the change"
        );
    }
    assert_eq!(lost(others), 0);
}

#[test]
fn a_change_that_only_loosens_loses_nothing() {
    let _machine = alone();
    let open = only_from("some", "server", &["client", "near", "far"]);
    let mut lab = raise(
        2,
        [
            pod("client", "n1"),
            pod("server", "n2"),
            pod("near", "n1"),
            pod("far", "n2"),
            open,
        ],
    );
    let others = Traffic::start(Kind::Datagrams, &hundred(&lab), EVERY).unwrap();
    for name in ["more", "still-more"] {
        lab.apply(policy(
            name,
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
        ))
        .unwrap();
        lab.settle().unwrap();
    }
    others.wait_sent(10).unwrap();
    assert_eq!(lost(others), 0);
}

#[test]
fn a_peer_that_loses_its_label_is_cut() {
    let _machine = alone();
    let mut lab = raise(
        2,
        [
            pod("client", "n1"),
            pod("server", "n2"),
            only_from("some", "server", &["client"]),
        ],
    );
    let talk = Traffic::start(
        Kind::Messages,
        &[shot(&lab, "client", "server", Protocol::Tcp)],
        EVERY,
    )
    .unwrap();
    let changed = now();
    let mut other = pod("client", "n1");
    other["metadata"]["labels"]["app"] = "stranger".into();
    lab.apply(other).unwrap();
    lab.settle().unwrap();
    // For longer than it may take: what goes on is seen to go on.
    talk.wait_sent(150).unwrap();
    let samples = talk.stop().unwrap();
    let last = samples[0].last_answer_after(changed).unwrap_or_default();
    assert!(
        last < SOON,
        "the last answer came {last:?} after the change"
    );
    let shot = shot(&lab, "client", "server", Protocol::Tcp);
    assert!(!gets_through(&mut lab, shot));
}

#[test]
fn an_address_that_another_pod_gets_has_only_the_other_pods_rights() {
    let _machine = alone();
    let addresses = ["10.9.0.7", "fd00:9::7"];
    let mut lab = raise(
        2,
        [
            pod_at("client", "n1", &addresses),
            pod("server", "n2"),
            only_from("some", "server", &["client"]),
        ],
    );
    let before = shot(&lab, "client", "server", Protocol::Udp);
    assert!(gets_through(&mut lab, before));
    let talk = Traffic::start(
        Kind::Datagrams,
        &[shot(&lab, "client", "server", Protocol::Udp)],
        EVERY,
    )
    .unwrap();
    assert!(is_answered_at_its_port(&lab, "client"));
    lab.stop_pods(&[id("client")]).unwrap();
    let key = lab.apply(pod("client", "n1")).unwrap();
    lab.delete(&key).unwrap();
    let gone = now();
    lab.apply(pod_at("heir", "n1", &addresses)).unwrap();
    lab.start_pods(&[id("heir")]).unwrap();
    lab.settle().unwrap();
    talk.wait_sent(10).unwrap();
    let samples = talk.stop().unwrap();
    assert_eq!(samples[0].answered_since(gone), 0);
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Icmp] {
        for v4 in [true, false] {
            let shot = shot_over(&lab, "heir", "server", protocol, v4);
            assert!(!gets_through(&mut lab, shot), "{protocol} v4={v4}");
        }
    }
    assert!(
        !is_answered_at_its_port(&lab, "heir"),
        "by the connection that the kernels remember of the address"
    );
    lab.apply(only_from("another", "server", &["heir"]))
        .unwrap();
    lab.settle().unwrap();
    assert!(is_answered_at_its_port(&lab, "heir"));
}

/// Whether a pod's datagrams from always the same port are answered by `server`.
fn is_answered_at_its_port(lab: &Lab, from: &str) -> bool {
    let shot = shot(lab, from, "server", Protocol::Udp);
    let own = (shot.source.unwrap(), 45_000);
    let socket = shot.netns.run(|| Ok(UdpSocket::bind(own)?)).unwrap();
    socket.connect((shot.destination, shot.port)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    (0..20).any(|_| {
        socket.send(b"anybody").unwrap();
        socket.recv(&mut [0; 64]).is_ok()
    })
}

/// A hundred UDP flows that no change here concerns: on one node and across, both families.
fn hundred(lab: &Lab) -> Vec<Shot> {
    (0..25)
        .flat_map(|_| {
            [
                ("near", "far", true),
                ("near", "far", false),
                ("far", "near", true),
                ("near", "server", true),
            ]
        })
        .map(|(from, to, v4)| shot_over(lab, from, to, Protocol::Udp, v4))
        .collect()
}

fn lost(traffic: Traffic) -> usize {
    traffic.stop().unwrap().iter().map(Samples::lost).sum()
}
