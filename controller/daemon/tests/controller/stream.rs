//! The stream of a node: snapshot, deltas, resuming, slow readers, signs of life.

use std::time::Duration;

use margay_policy::model::PodId;
use margay_sync::message::NodeState;
use margay_sync::replica::Replica;

use crate::harness::{World, node, pod, policy};

#[tokio::test]
async fn a_snapshot_then_deltas_as_files_change() {
    let world = World::start().await;
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    let state = stream.in_sync().await;
    assert_eq!(pods(state), ["default/a"], "only what concerns the node");
    assert_eq!(state.network.as_ref().unwrap().bgp.peers.len(), 2);
    assert_eq!(stream.seen, ["snapshot", "in-sync"]);
    world.write("policy.yaml", &policy("p", "x", "w"));
    let isolated = |state: &NodeState| state.policy.rule_lists.len() == 1;
    stream.until(isolated).await;
    world.write("more.yaml", &pod("c", 1, "z"));
    stream.until(|state| pods(state).len() == 2).await;
    world.remove("policy.yaml");
    stream.until(|state| !isolated(state)).await;
    assert_eq!(
        stream
            .seen
            .iter()
            .filter(|kind| **kind == "snapshot")
            .count(),
        1
    );
    let mut fresh = agent.watch(Replica::default()).await;
    assert_eq!(fresh.in_sync().await, stream.replica.state());
}

#[tokio::test]
async fn a_change_elsewhere_is_not_told() {
    let world = World::start().await;
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    stream.in_sync().await;
    let before = stream.replica.revision().cloned();
    world.write("more.yaml", &pod("c", 2, "z"));
    let mut other = world.agent("n2").await.watch(Replica::default()).await;
    other.until(|state| pods(state).len() == 2).await;
    world.write("nodes.yaml", &[node(1), node(2)].concat());
    stream
        .until(|state| state.network.as_ref().unwrap().bgp.peers.len() == 1)
        .await;
    assert_eq!(
        stream.seen,
        ["snapshot", "in-sync", "delta", "in-sync"],
        "since {before:?}"
    );
}

#[tokio::test]
async fn a_reader_goes_on_where_it_stopped() {
    let mut world = World::start().await;
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    stream.in_sync().await;
    let mut again = agent.watch(stream.replica.clone()).await;
    again.in_sync().await;
    assert_eq!(again.seen, ["in-sync"], "nothing was missed");
    world.write("policy.yaml", &policy("p", "x", "w"));
    world.write("more.yaml", &pod("c", 1, "z"));
    again
        .until(|state| pods(state).len() == 2 && !state.policy.rule_lists.is_empty())
        .await;
    let mut late = agent.watch(stream.replica.clone()).await;
    late.in_sync().await;
    assert_eq!(late.seen, ["delta", "in-sync"], "all at once");
    assert_eq!(late.replica.state(), again.replica.state());
    world.restart().await;
    // Another run of the controller, as another replica is one: who has what there is need not be sent it.
    let mut agent = world.agent("n1").await;
    let mut after = agent.watch(late.replica.clone()).await;
    after.in_sync().await;
    assert_eq!(after.seen, ["same", "in-sync"]);
    assert_eq!(after.replica.state(), late.replica.state());
    let mut again = agent.watch(after.replica.clone()).await;
    again.in_sync().await;
    assert_eq!(again.seen, ["in-sync"], "its place is known now");
    let mut behind = agent.watch(stream.replica.clone()).await;
    behind.in_sync().await;
    assert_eq!(behind.seen, ["snapshot", "in-sync"]);
    assert_eq!(behind.replica.state(), late.replica.state());
}

#[tokio::test]
async fn a_slow_reader_gets_merged_changes_and_keeps_its_stream() {
    let world = World::start().await;
    world.write("policy.yaml", &policy("p", "x", "w"));
    let mut agent = world.slow_agent("n1", 256).await;
    let mut slow = agent.watch(Replica::default()).await;
    let mut quick = world.agent("n1").await.watch(Replica::default()).await;
    quick
        .until(|state| !state.policy.rule_lists.is_empty())
        .await;
    for turn in 0..150 {
        let labels = if turn % 2 == 0 { "x" } else { "w" };
        let pods: String = (0..20)
            .map(|n| pod(&format!("p{n}-{}", turn % 5), 1, labels))
            .collect();
        world.write("more.yaml", &pods);
        let name = PodId::new("default", format!("p0-{}", turn % 5));
        quick
            .until(|state| state.policy.endpoints.contains_key(&name))
            .await;
    }
    world.write("more.yaml", &pod("last", 1, "x"));
    let last = PodId::new("default", "last");
    let done =
        |state: &NodeState| state.policy.endpoints.contains_key(&last) && pods(state).len() == 2;
    quick.until(done).await;
    slow.until(done).await;
    assert_eq!(slow.replica, quick.replica);
    let deltas = |seen: &[&str]| seen.iter().filter(|kind| **kind == "delta").count();
    assert!(deltas(&quick.seen) >= 150, "{}", deltas(&quick.seen));
    assert!(deltas(&slow.seen) < 20, "{:?}", slow.seen);
}

#[tokio::test]
async fn silence_is_broken_by_signs_of_life() {
    let mut world = World::stopped();
    world.settings.heartbeat = Duration::from_millis(20);
    world.start_controller().await;
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    for _ in 0..5 {
        stream.next().await.unwrap();
    }
    assert_eq!(
        stream.seen,
        ["snapshot", "in-sync", "in-sync", "in-sync", "in-sync"]
    );
}

#[tokio::test]
async fn a_node_without_object_waits_for_one() {
    let world = World::start().await;
    let mut stream = world.agent("n9").await.watch(Replica::default()).await;
    assert_eq!(stream.in_sync().await.network, None);
    world.write("n9.yaml", &node(9));
    stream.until(|state| state.network.is_some()).await;
    world.remove("n9.yaml");
    stream.until(|state| state.network.is_none()).await;
}

#[tokio::test]
async fn stopping_ends_streams_cleanly_and_at_once() {
    let mut world = World::start().await;
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    stream.in_sync().await;
    world.stop().await;
    assert!(stream.next().await.is_none());
    assert!(!world.settings.socket.exists());
}

fn pods(state: &NodeState) -> Vec<String> {
    state
        .policy
        .endpoints
        .keys()
        .map(ToString::to_string)
        .collect()
}
