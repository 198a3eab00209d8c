//! What others break is repaired within a second and reported.

use std::time::Duration;

use margay_sync::status::NodeStatus;
use margay_tests::lab::clock::{now, wait};
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::ip;
use margay_tests::lab::prober::Protocol;

use crate::snapshot::{self, nft};
use crate::support::{alone, gets_through, id, only_from, pod, raise, shot};

/// How soon the repair must be done.
const SOON: Duration = Duration::from_secs(1);

/// Breaks something on node n1.
type Break<'a> = Box<dyn Fn(&Lab) + 'a>;

#[test]
fn whatever_is_broken_from_outside_is_repaired_and_reported() {
    let _machine = alone();
    let documents = [
        pod("friend", "n1"),
        pod("stranger", "n1"),
        pod("server", "n1"),
        only_from("some", "server", &["friend"]),
    ];
    let mut lab = raise(2, documents);
    let address = lab.pod(&id("server")).unwrap().address(true).unwrap();
    let link = lab.ask_felix::<NodeStatus>("n1", "/status").unwrap().pods[&id("server")]
        .link
        .clone();
    let netns = lab.node("n1").unwrap();
    let element = |lab: &Lab| {
        let text = nft(lab, "n1", "list map inet margay to_pod4");
        let found = text
            .split([',', '{', '}', '='])
            .find(|part| part.contains(&format!("{address} ")));
        format!(
            "delete element inet margay to_pod4 {{ {} }}",
            found.expect("the server has an element").trim()
        )
    };
    let breaks: Vec<(&str, Break<'_>)> = vec![
        (
            "flush ruleset",
            Box::new(|lab| drop(nft(lab, "n1", "flush ruleset"))),
        ),
        (
            "delete table",
            Box::new(|lab| drop(nft(lab, "n1", "delete table inet margay"))),
        ),
        (
            "delete element",
            Box::new(|lab| drop(nft(lab, "n1", &element(lab)))),
        ),
        (
            "delete route",
            Box::new(|_| ip::batch(netns.name(), &[format!("route del {address}/32")]).unwrap()),
        ),
        (
            "link down",
            Box::new(|_| ip::batch(netns.name(), &[format!("link set {link} down")]).unwrap()),
        ),
    ];
    for (what, broken) in breaks {
        let before = snapshot::of(&lab, "n1");
        let reports = drifts(&lab);
        let start = now();
        broken(&lab);
        wait("it is repaired", Duration::from_secs(10), || {
            let after = snapshot::of(&lab, "n1");
            let gone: Vec<&String> = before.difference(&after).collect();
            let more: Vec<&String> = after.difference(&before).collect();
            if gone.is_empty() && more.is_empty() {
                Ok(())
            } else {
                Err(format!("gone {gone:?}, more {more:?}"))
            }
        })
        .unwrap_or_else(|error| panic!("{what}: {error}"));
        let took = now() - start;
        assert!(took < SOON, "{what}: repaired after {took:?}");
        wait("it is reported", Duration::from_secs(5), || {
            let reported = drifts(&lab);
            if reported == reports {
                Err(format!("still {reported:?}"))
            } else {
                Ok(())
            }
        })
        .unwrap_or_else(|error| panic!("{what}: {error}"));
        for (from, through) in [("friend", true), ("stranger", false)] {
            let shot = shot(&lab, from, "server", Protocol::Tcp);
            assert_eq!(
                gets_through(&mut lab, shot),
                through,
                "after {what}, from {from}"
            );
        }
    }
}

fn drifts(lab: &Lab) -> Vec<String> {
    let status: NodeStatus = lab.ask_felix("n1", "/status").unwrap();
    status
        .drift
        .iter()
        .map(|drift| format!("{} {} {}", drift.at, drift.what, drift.name))
        .collect()
}
