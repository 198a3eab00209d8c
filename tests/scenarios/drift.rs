//! What others break is repaired within a second and reported.

use std::net::IpAddr;
use std::time::Duration;

use margay_sync::status::NodeStatus;
use margay_tests::lab::clock::{now, wait};
use margay_tests::lab::cluster::{Lab, Options, Table};
use margay_tests::lab::ip;
use margay_tests::lab::prober::Protocol;

use crate::snapshot::{self, nft};
use crate::support::{alone, gets_through, id, only_from, pod, raise_with, shot};

/// How soon the repair must be done.
const SOON: Duration = Duration::from_secs(1);

/// Breaks something on node n1.
type Break<'a> = Box<dyn Fn(&Lab) -> Result<(), String> + 'a>;

#[test]
fn whatever_is_broken_from_outside_is_repaired_and_reported() {
    let _machine = alone();
    let mut lab = guarded(Table::Shared);
    let address = address(&lab);
    let link = lab.ask_felix::<NodeStatus>("n1", "/status").unwrap().pods[&id("server")]
        .link
        .clone();
    let netns = lab.node("n1").unwrap();
    let ip =
        |command: String| ip::batch(netns.name(), &[command]).map_err(|error| error.to_string());
    let nft = |command: &'static str| -> Break<'_> {
        Box::new(move |lab| nft(lab, "n1", command).map(drop))
    };
    // What is done, and what the report must name.
    let breaks: Vec<(&str, String, Break<'_>)> = vec![
        ("flush ruleset", "margay".to_owned(), nft("flush ruleset")),
        (
            "delete table",
            "margay".to_owned(),
            nft("delete table inet margay"),
        ),
        (
            "delete element",
            "to_pod4".to_owned(),
            Box::new(|lab| delete_element(lab, address)),
        ),
        (
            "delete route",
            address.to_string(),
            Box::new(|_| ip(format!("route del {address}/32"))),
        ),
        (
            "link down",
            link.clone(),
            Box::new(|_| ip(format!("link set {link} down"))),
        ),
    ];
    for (what, named, broken) in breaks {
        let before = snapshot::of(&lab, "n1");
        let reports = drifts(&lab);
        let start = now();
        broken(&lab).unwrap();
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
            let new = drifts(&lab).split_off(reports.len());
            let found = new.iter().any(|drift| drift.contains(&named));
            if found {
                Ok(())
            } else {
                Err(format!("{named} is not in {new:?}"))
            }
        })
        .unwrap_or_else(|error| panic!("{what}: {error}"));
        policy_holds(&mut lab, what);
    }
}

#[test]
fn a_table_that_is_felix_own_cannot_be_broken_where_the_kernel_knows_owners() {
    let _machine = alone();
    let mut lab = guarded(Table::Exclusive);
    if !nft(&lab, "n1", "list table inet margay")
        .unwrap()
        .contains("flags owner")
    {
        println!("this kernel knows no owners of tables");
        return;
    }
    let before = snapshot::of(&lab, "n1");
    nft(&lab, "n1", "flush ruleset").unwrap();
    nft(&lab, "n1", "delete table inet margay").unwrap_err();
    delete_element(&lab, address(&lab)).unwrap_err();
    assert_eq!(snapshot::of(&lab, "n1"), before);
    policy_holds(&mut lab, "what was tried");
}

/// A server that only its friend reaches, all on one node.
fn guarded(table: Table) -> Lab {
    let documents = [
        pod("friend", "n1"),
        pod("stranger", "n1"),
        pod("server", "n1"),
        only_from("some", "server", &["friend"]),
    ];
    raise_with(
        2,
        documents,
        Options {
            table,
            ..Options::default()
        },
    )
}

fn policy_holds(lab: &mut Lab, after: &str) {
    for (from, through) in [("friend", true), ("stranger", false)] {
        let shot = shot(lab, from, "server", Protocol::Tcp);
        assert_eq!(
            gets_through(lab, shot),
            through,
            "after {after}, from {from}"
        );
    }
}

fn address(lab: &Lab) -> IpAddr {
    lab.pod(&id("server")).unwrap().address(true).unwrap()
}

/// Deletes the server's element, which says what may reach it.
fn delete_element(lab: &Lab, address: IpAddr) -> Result<(), String> {
    let text = nft(lab, "n1", "list map inet margay to_pod4").unwrap();
    let element = text
        .split([',', '{', '}', '='])
        .find(|part| part.contains(&format!("{address} ")));
    let element = element.expect("the server has an element").trim();
    nft(
        lab,
        "n1",
        &format!("delete element inet margay to_pod4 {{ {element} }}"),
    )
    .map(drop)
}

fn drifts(lab: &Lab) -> Vec<String> {
    let status: NodeStatus = lab.ask_felix("n1", "/status").unwrap();
    status
        .drift
        .iter()
        .map(|drift| format!("{} {} {}", drift.at, drift.what, drift.name))
        .collect()
}
