//! Pages for people.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

use hyper::Method;
use margay_controller::controller::Controller;
use margay_policy::model::NodeName;
use margay_sync::message::{Report, Revision};
use margay_sync::replica::Replica;
use margay_sync::status::{ControllerStatus, Link, NodeStatus, NodesPage, ObjectsPage, PolicyPage};

use crate::harness::{Agent, World, pod, policy, within};

#[tokio::test]
async fn the_pages_tell_what_there_is() {
    let world = World::start().await;
    let mode = std::fs::metadata(&world.settings.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let status: ControllerStatus = world.page("/status").await;
    let objects = BTreeMap::from([("Node".to_owned(), 3), ("Pod".to_owned(), 2)]);
    assert_eq!(
        (status.objects, status.nodes, status.refused),
        (objects, 3, 0)
    );
    let held = |name: &str| status.held[name];
    assert_eq!(
        (held("pods"), held("nodes"), held("stream-logs")),
        (2, 3, 0)
    );
    let n1 = NodeName("n1".to_owned());
    let nodes: NodesPage = world.page("/nodes").await;
    assert_eq!(nodes.nodes[&n1].stream, Link::Unknown);
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    stream.in_sync().await;
    world
        .page_until("/nodes", |page: &NodesPage| {
            page.nodes[&n1].stream == Link::Up
        })
        .await;
    drop((stream, agent));
    let down = |page: &NodesPage| matches!(page.nodes[&n1].stream, Link::Down { .. });
    world.page_until("/nodes", down).await;
}

#[tokio::test]
async fn a_policy_is_realised_once_the_kernels_have_its_present_version() {
    let world = World::start().await;
    let mut agents = [world.agent("n1").await, world.agent("n2").await];
    let mut streams = [
        agents[0].watch(Replica::default()).await,
        agents[1].watch(Replica::default()).await,
    ];
    world.write("policy.yaml", &policy("p", "x", "w"));
    for stream in &mut streams {
        stream
            .until(|state| !state.policy.rule_lists.is_empty())
            .await;
    }
    let progress = |page: &PolicyPage| {
        let policy = &page.policies["NetworkPolicy default/p"];
        (
            policy.realised,
            policy.nodes,
            policy.waiting.iter().map(ToString::to_string).collect(),
        )
    };
    let waiting =
        |nodes: &[&str]| -> BTreeSet<String> { nodes.iter().map(ToString::to_string).collect() };
    assert_eq!(
        progress(&world.page("/policy").await),
        (0, 2, waiting(&["n1", "n2"]))
    );
    realised(&mut agents[0], streams[0].replica.revision()).await;
    world
        .page_until("/policy", |page| progress(page) == (1, 2, waiting(&["n2"])))
        .await;
    realised(&mut agents[1], streams[1].replica.revision()).await;
    world
        .page_until("/policy", |page| progress(page) == (2, 2, waiting(&[])))
        .await;
    // Something else changes on n1: the policy is still in force there.
    world.write("more.yaml", &pod("c", 1, "other"));
    streams[0]
        .until(|state| state.policy.endpoints.len() == 2)
        .await;
    assert_eq!(progress(&world.page("/policy").await), (2, 2, waiting(&[])));
    world.write("policy.yaml", &policy("p", "x", "z"));
    streams[0].next().await;
    world
        .page_until("/policy", |page| {
            progress(page) == (0, 2, waiting(&["n1", "n2"]))
        })
        .await;
}

#[tokio::test]
async fn refused_documents_and_problems_are_on_the_objects_page() {
    let world = World::start().await;
    world.write("policy.yaml", &policy("p", "x", "w"));
    world
        .page_until("/objects", |page: &ObjectsPage| page.objects.len() == 6)
        .await;
    world.write(
        "policy.yaml",
        &policy("p", "x", "w").replace("ingress: [", "ingress: 7 #["),
    );
    let refused = |page: &ObjectsPage| page.refused.len() == 1;
    let page = world.page_until("/objects", refused).await;
    assert_eq!(page.refused[0].file, "policy.yaml");
    assert!(page.refused[0].in_force.contains("NetworkPolicy default/p"));
    let status: ControllerStatus = world.page("/status").await;
    assert_eq!((status.refused, status.policies), (1, 1));
}

#[tokio::test]
async fn two_controllers_do_not_share_a_state_folder() {
    let world = World::start().await;
    let error = within(Controller::start(world.settings.clone()))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("another controller uses the state folder"),
        "{error}"
    );
    let mut settings = world.settings.clone();
    settings.state = world.path("other-state");
    let error = within(Controller::start(settings)).await.unwrap_err();
    assert!(
        error.to_string().starts_with("another process listens on"),
        "{error}"
    );
    let _: ControllerStatus = world.page("/status").await;
}

async fn realised(agent: &mut Agent, revision: Option<&Revision>) {
    let status = NodeStatus {
        realised: revision.cloned(),
        ..NodeStatus::default()
    };
    let report = Report {
        pods: BTreeMap::new(),
        status,
    };
    agent.send(Method::PUT, "report", &report).await;
}
