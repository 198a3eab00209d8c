//! What agents report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hyper::{Method, StatusCode};
use margay_policy::model::{NodeName, PodId};
use margay_sync::message::{NodeState, PodReport, Report};
use margay_sync::replica::Replica;
use margay_sync::status::{Link, NodeStatus, NodesPage};

use crate::harness::{Agent, World, pod, policy};

#[tokio::test]
async fn reported_addresses_reach_the_sets_of_other_nodes_and_leave_with_the_report() {
    let mut world = World::start().await;
    world.write("pods.yaml", &[pod("a", 1, "x"), pod("b", 2, "w")].concat());
    world.write("policy.yaml", &policy("p", "x", "w"));
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    stream
        .until(|state| !state.policy.rule_lists.is_empty())
        .await;
    assert_eq!(members(stream.replica.state()), [""; 0]);
    report(&mut world.agent("n2").await, "uid-b", &["10.0.0.2"]).await;
    stream.until(|state| members(state) == ["10.0.0.2"]).await;
    let endpoint = |state: &NodeState| state.policy.endpoints[&PodId::new("default", "a")].clone();
    assert!(endpoint(stream.replica.state()).addresses.is_empty());
    // The controller remembers it: its restart must not cut anybody off.
    world.restart().await;
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    assert_eq!(members(stream.in_sync().await), ["10.0.0.2"]);
    let mut agent = world.agent("n2").await;
    report(&mut agent, "uid-b", &["10.0.0.3", "fd00::3"]).await;
    stream
        .until(|state| members(state) == ["10.0.0.3", "fd00::3"])
        .await;
    report(&mut agent, "", &[]).await;
    stream.until(|state| members(state).is_empty()).await;
}

#[tokio::test]
async fn a_node_cannot_report_for_pods_of_others_nor_for_another_pod_of_that_name() {
    let world = World::start().await;
    world.write("pods.yaml", &[pod("a", 1, "x"), pod("b", 2, "w")].concat());
    world.write("policy.yaml", &policy("p", "x", "w"));
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    stream
        .until(|state| !state.policy.rule_lists.is_empty())
        .await;
    report(&mut world.agent("n3").await, "uid-b", &["10.0.0.66"]).await;
    report(
        &mut world.agent("n2").await,
        "uid-of-its-predecessor",
        &["10.0.0.67"],
    )
    .await;
    // A runtime that does not say the uid is taken at its word.
    report(&mut world.agent("n2").await, "", &["10.0.0.2"]).await;
    stream.until(|state| !members(state).is_empty()).await;
    assert_eq!(members(stream.replica.state()), ["10.0.0.2"]);
}

#[tokio::test]
async fn a_status_is_shown_as_it_was_reported() {
    let world = World::start().await;
    let status = NodeStatus {
        version: "1.2.3".to_owned(),
        controller: Link::Up,
        ..NodeStatus::default()
    };
    let sent = Report {
        pods: BTreeMap::new(),
        status: status.clone(),
    };
    let response = world
        .agent("n2")
        .await
        .send(Method::PUT, "report", &sent)
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let name = NodeName("n2".to_owned());
    let page: NodesPage = world
        .page_until("/nodes", |page: &NodesPage| {
            page.nodes[&name].report.is_some()
        })
        .await;
    assert_eq!(page.nodes[&name].report, Some(status));
    assert!(page.nodes[&name].report_age_seconds.is_some());
}

/// Reports `default/b`, or nothing if there are no addresses.
async fn report(agent: &mut Agent, uid: &str, addresses: &[&str]) {
    let addresses: BTreeSet<IpAddr> = addresses
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
    let mut pods = BTreeMap::new();
    if !addresses.is_empty() {
        pods.insert(
            PodId::new("default", "b"),
            PodReport {
                uid: uid.to_owned(),
                addresses,
            },
        );
    }
    let report = Report {
        pods,
        status: NodeStatus::default(),
    };
    let response = agent.send(Method::PUT, "report", &report).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

fn members(state: &NodeState) -> Vec<String> {
    let sets = state.policy.address_sets.values().flatten();
    sets.map(ToString::to_string).collect()
}
