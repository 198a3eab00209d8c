//! Bad input of every sort: a sentence that names the place, and nothing else changes.

use hyper::Method;
use margay_sync::message::{BlockClaimed, Family, NodeState};
use margay_sync::replica::Replica;
use margay_sync::status::ObjectsPage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{World, claim_of, json, pod, policy, refusal, tls, within};

#[tokio::test]
async fn a_wrong_token_is_refused_with_a_sentence() {
    let world = World::start().await;
    for (method, path) in [
        (Method::GET, "watch"),
        (Method::PUT, "report"),
        (Method::POST, "blocks"),
    ] {
        let mut wrong = world.agent_with("n1", "guess").await;
        let (status, sentence) =
            refusal(wrong.request(method.clone(), path, Vec::new()).await).await;
        assert_eq!(status, 401);
        assert!(
            sentence.starts_with("the token is not one of node n1"),
            "{sentence}"
        );
        let mut other = world.agent_with("n1", "secret-n2").await;
        let (status, sentence) = refusal(other.request(method, path, Vec::new()).await).await;
        assert_eq!(status, 403);
        assert_eq!(
            sentence,
            "the token belongs to node n2, which may not speak for node n1"
        );
    }
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_not_believed() {
    let world = World::start().await;
    let other = World::start().await;
    let connect = || async { TcpStream::connect(world.address()).await.unwrap() };
    assert!(
        tls(&world.path("tls"), connect().await, "margay-controller")
            .await
            .is_ok()
    );
    assert!(
        tls(&world.path("tls"), connect().await, "localhost")
            .await
            .is_err()
    );
    assert!(
        tls(&other.path("tls"), connect().await, "margay-controller")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn garbage_requests_are_refused_and_everybody_else_goes_on() {
    let world = World::start().await;
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    stream.in_sync().await;
    for body in [
        "",
        "nonsense",
        "{\"family\":\"IPv5\"}",
        "{\"family\":",
        "[1]",
        "\u{0}",
    ] {
        let (status, sentence) =
            refusal(agent.request(Method::POST, "blocks", body.into()).await).await;
        assert_eq!(status, 400);
        assert!(
            sentence.starts_with("the request is not understood: "),
            "{sentence}"
        );
    }
    for body in ["{}", "{\"pods\":{\"no-slash\":{}},\"status\":{}}"] {
        assert_eq!(
            refusal(agent.request(Method::PUT, "report", body.into()).await)
                .await
                .0,
            400
        );
    }
    let bad_place = agent
        .request(Method::GET, "watch?run=x&from=minus-one", Vec::new())
        .await;
    assert_eq!(refusal(bad_place).await.0, 400);
    assert_eq!(
        refusal(agent.request(Method::GET, "nothing", Vec::new()).await)
            .await
            .0,
        404
    );
    let huge = agent
        .request(Method::PUT, "report", vec![b' '; 17 << 20])
        .await;
    assert_eq!(huge.status().as_u16(), 413);
    // Not even TLS, and TLS without HTTP.
    let mut raw = TcpStream::connect(world.address()).await.unwrap();
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    // The answer is an alert or a reset: either way the connection ends.
    let _ = within(raw.read_to_end(&mut rest)).await;
    let raw = TcpStream::connect(world.address()).await.unwrap();
    let mut encrypted = tls(&world.path("tls"), raw, "margay-controller")
        .await
        .unwrap();
    encrypted.write_all(&[0xff; 4096]).await.unwrap();
    let _ = within(encrypted.read_to_end(&mut rest)).await;
    world.write("more.yaml", &pod("c", 1, "z"));
    stream
        .until(|state| state.policy.endpoints.len() == 2)
        .await;
}

#[tokio::test]
async fn malformed_documents_change_nothing_and_are_named() {
    let world = World::start().await;
    world.write("policy.yaml", &policy("p", "x", "w"));
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    let before = stream
        .until(|state| !state.policy.rule_lists.is_empty())
        .await
        .clone();
    let seen = stream.seen.clone();
    let good = policy("p", "x", "w");
    for (bad, place) in [
        ("\tnot: [yaml".to_owned(), 1),
        (
            format!("kind: Foo\nmetadata: {{name: f}}\n{good}")
                .replace("podSelector:", "podSelector: 3 #"),
            1,
        ),
        (good.replace("name: p", "name: 'P Q'"), 2),
        (good.replace("ingress: [", "ingress: {} #["), 7),
        (good.replace("spec:", "spec: text #"), 5),
    ] {
        world.write("policy.yaml", &bad);
        let refused = |page: &ObjectsPage| {
            page.refused
                .iter()
                .any(|refused| refused.file == "policy.yaml" && refused.line >= place)
        };
        let page = world.page_until("/objects", refused).await;
        assert!(
            page.refused
                .iter()
                .all(|refused| !refused.reason.is_empty()),
            "{page:?}"
        );
        world.write("policy.yaml", &good);
        world
            .page_until("/objects", |page: &ObjectsPage| page.refused.is_empty())
            .await;
    }
    // Had anything changed in between, deltas would have come.
    world.write("more.yaml", &pod("c", 1, "z"));
    stream
        .until(|state| state.policy.endpoints.len() == 2)
        .await;
    let deltas = |seen: &[&str]| seen.iter().filter(|kind| **kind == "delta").count();
    assert_eq!(deltas(&stream.seen), deltas(&seen) + 1);
    assert_eq!(
        stream.replica.state().policy.rule_lists,
        before.policy.rule_lists
    );
}

#[tokio::test]
async fn what_was_accepted_before_is_in_force_after_a_restart_over_a_broken_file() {
    let mut world = World::start().await;
    world.write("policy.yaml", &policy("p", "x", "w"));
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    let before = stream
        .until(|state| !state.policy.rule_lists.is_empty())
        .await
        .clone();
    world.write("policy.yaml", "\tnot: [yaml");
    world
        .page_until("/objects", |page: &ObjectsPage| page.refused.len() == 1)
        .await;
    for _ in 0..2 {
        world.restart().await;
        let mut stream = world.agent("n1").await.watch(Replica::default()).await;
        assert_eq!(stream.in_sync().await, &before);
    }
    world.remove("policy.yaml");
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    stream
        .until(|state| state.policy.rule_lists.is_empty())
        .await;
}

#[tokio::test]
async fn absurd_values_fail_closed_and_unknown_fields_are_told() {
    let world = World::start().await;
    let absurd = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {}
  surprise: 1
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/99}}, {}]
    ports: [{protocol: ICMP}, {port: 70000}]
";
    world.write("policy.yaml", absurd);
    let mut stream = world.agent("n1").await.watch(Replica::default()).await;
    let closed = |state: &NodeState| {
        state
            .policy
            .rule_lists
            .values()
            .any(|list| list.tiers.iter().all(|tier| tier.rules.is_empty()))
    };
    stream.until(closed).await;
    let page: ObjectsPage = world.page("/objects").await;
    let object = page
        .objects
        .iter()
        .find(|object| object.name == "p")
        .unwrap();
    for problem in ["surprise", "10.0.0.0/99", "ICMP", "70000"] {
        assert!(
            object.problems.iter().any(|text| text.contains(problem)),
            "{problem}: {object:?}"
        );
    }
}

#[tokio::test]
async fn pools_and_settings_that_contradict_are_told_and_what_pods_have_stays() {
    let world = World::start().await;
    let pools = "kind: IPPool
apiVersion: margay.io/v1alpha1
metadata: {name: a}
spec: {cidr: 10.1.0.0/16}
---
kind: NetworkConfig
apiVersion: margay.io/v1alpha1
metadata: {name: default}
spec: {bgp: {asn: 64600, serviceRanges: [10.96.0.0/12]}}
";
    world.write("network.yaml", pools);
    let mut agent = world.agent("n1").await;
    let mut stream = agent.watch(Replica::default()).await;
    let network = |state: &NodeState| state.network.clone().unwrap();
    let told = |state: &NodeState| network(state).bgp.asn == 64600;
    stream.until(told).await;
    let claim = claim_of(Family::V4);
    let claimed: BlockClaimed = json(agent.send(Method::POST, "blocks", &claim).await).await;
    let has_block = |state: &NodeState| network(state).blocks.contains(&claimed.block);
    let before = network(stream.until(has_block).await);

    // What a schema refuses leaves everything as it was.
    for (good, bad) in [
        ("asn: 64600", "asn: 0"),
        ("10.96.0.0/12", "10.96.0.1/12"),
        ("64600,", "64600, topology: Ring,"),
        ("cidr: 10.1.0.0/16", "cidr: 10.1.0.0/28"),
        ("cidr: 10.1.0.0/16", "cidr: 10.1.0.0/16, blockSize: 33"),
    ] {
        world.write("network.yaml", &pools.replace(good, bad));
        let page: ObjectsPage = world
            .page_until("/objects", |page: &ObjectsPage| !page.refused.is_empty())
            .await;
        assert_eq!(page.refused.len(), 1, "{bad}: {page:?}");
    }
    // What only contradicts is told of, and changes nothing but for itself.
    let overlapping = pools
        .replace("10.96.0.0/12", "10.96.0.0/12, 10.1.7.0/24")
        .replace("10.1.0.0/16}", "10.1.0.0/16}\n---\nkind: IPPool\napiVersion: margay.io/v1alpha1\nmetadata: {name: b}\nspec: {cidr: 10.1.0.0/17, nodeSelector: {matchLabels: {zone: moon}}}");
    world.write("network.yaml", &overlapping);
    let page: ObjectsPage = world
        .page_until("/objects", |page: &ObjectsPage| {
            page.refused.is_empty() && page.objects.iter().any(|object| object.name == "b")
        })
        .await;
    let problems = |name: &str| {
        let object = page.objects.iter().find(|object| object.name == name);
        object.unwrap().problems.join("\n")
    };
    assert_eq!(problems("a"), "");
    for (object, words) in [
        ("b", "of the older IPPool a"),
        ("b", "selects no node"),
        (
            "default",
            "10.1.7.0/24 overlaps the pool 10.1.0.0/16 of pods",
        ),
    ] {
        assert!(problems(object).contains(words), "{object}: {page:?}");
    }
    let two_pools = |state: &NodeState| network(state).pools.len() == 2;
    let mut after = network(stream.until(two_pools).await);
    let b = after.pools.pop().unwrap();
    assert!(!b.usable, "{b:?}");
    assert_eq!(after, before);
}
