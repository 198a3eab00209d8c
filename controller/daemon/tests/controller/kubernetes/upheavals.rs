//! What must not harm: tokens that end, an API server that is away, two that both write.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::Method;
use k8s_openapi::api::core::v1::{Node, Pod};
use margay_api::v1::{IpBlock, IpPool};
use margay_policy::model::PodId;
use margay_sync::message::{BlockClaimed, Family};
use margay_sync::replica::Replica;
use serde_json::json;

use super::cluster::{Cluster, until};
use super::proxy::Proxy;
use crate::harness::{claim_of, json, refusal};

/// The same token with another end, in seconds from now, signed by the key of the API server.
const SIGN: &str = r#"
import base64, json, subprocess, sys, time
decode = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
encode = lambda octets: base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
head, claims, _ = sys.stdin.read().strip().split(".")
claims = json.loads(decode(claims))
for claim, at in ("iat", -7200), ("nbf", -7200), ("exp", int(sys.argv[2])):
    claims[claim] = int(time.time()) + at
text = head + "." + encode(json.dumps(claims).encode())
signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", sys.argv[1]], input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
# ASN.1 (SEQUENCE of two INTEGERs) to r and s of 32 octets each (RFC 7518 section 3.4).
first = signed[4:4 + signed[3]]
second = signed[6 + signed[3]:]
raw = b"".join(part[-32:].rjust(32, b"\0") for part in (first, second))
print(text + "." + encode(raw))
"#;

#[tokio::test]
async fn a_token_whose_time_is_over_is_refused_its_stream_ends_and_with_the_next_nothing_is_lost() {
    let Some(cluster) = Cluster::start("a_token_whose_time_is_over").await else {
        return;
    };
    let Some(key) = cluster.key("sa.key") else {
        eprintln!(
            "skipped: a_token_whose_time_is_over: the API server's key is not beside its kubeconfig"
        );
        return;
    };
    let node = cluster.unique("n1");
    cluster.node(&node, "192.0.2.1").await;
    let controller = cluster.controller("c1").await;
    let token = cluster.token(&node, "margay").await;
    // Long enough to begin with.
    let short = ending(&token, &key, 8);
    let mut agent = cluster.agent_with(&controller, &node, &short).await;
    let mut stream = agent.watch(Replica::default()).await;
    stream.in_sync().await;
    let ended = async { while stream.next().await.is_some() {} };
    let ended = tokio::time::timeout(Duration::from_mins(1), ended).await;
    ended.expect("the stream ends with its token");

    let expired = ending(&token, &key, -3600);
    let mut late = cluster.agent_with(&controller, &node, &expired).await;
    let refused = late.request(Method::GET, "watch", Vec::new()).await;
    let (code, reason) = refusal(refused).await;
    assert_eq!(code, 401, "{reason}");
    assert!(
        reason.contains("does not accept") && reason.contains("expired"),
        "{reason}"
    );

    let next = cluster.token(&node, "margay").await;
    let mut agent = cluster.agent_with(&controller, &node, &next).await;
    let mut resumed = agent.watch(stream.replica).await;
    resumed.in_sync().await;
    assert!(!resumed.seen.contains(&"snapshot"), "{:?}", resumed.seen);
    controller.stop().await;
}

fn ending(token: &str, key: &std::path::Path, seconds: i32) -> String {
    let mut python = Command::new("python3")
        .args(["-c", SIGN])
        .arg(key)
        .arg(seconds.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    input.write_all(token.as_bytes()).unwrap();
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn an_api_server_that_is_away_ends_nothing_and_what_it_missed_follows() {
    let Some(cluster) = Cluster::start("an_api_server_that_is_away").await else {
        return;
    };
    // A pool of this test alone: a claim is refused for no other reason.
    let (node, pool) = (cluster.unique("n1"), cluster.unique("pool"));
    cluster.node_of(&pool, &node, "192.0.2.1").await;
    cluster.pool(&pool, &pool, "10.80.0.0/24").await;
    let namespace = cluster.namespace.clone();
    let pod = async |name: &str| {
        let pod = json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        });
        cluster.apply::<Pod>(pod).await;
    };
    pod("stays").await;
    pod("goes").await;
    let proxy = Proxy::to(cluster.server()).await;
    let controller = cluster.controller_behind("c1", &proxy).await;
    let token = cluster.token(&node, "margay").await;
    let mut agent = cluster.agent_with(&controller, &node, &token).await;
    let mut stream = agent.watch(Replica::default()).await;
    let id = |name: &str| PodId::new(&namespace, name);
    let state = stream.in_sync().await;
    assert!(state.policy.endpoints.contains_key(&id("goes")));

    proxy.set_open(false);
    pod("comes").await;
    cluster.delete::<Pod>(Some(&namespace), "goes").await;
    // Who comes meanwhile, with a token that is known, gets what is known.
    let mut again = cluster.agent_with(&controller, &node, &token).await;
    let mut other = again.watch(Replica::default()).await;
    let known: BTreeSet<PodId> = other
        .in_sync()
        .await
        .policy
        .endpoints
        .keys()
        .cloned()
        .collect();
    assert!(
        known.is_superset(&[id("stays"), id("goes")].into()),
        "{known:?}"
    );
    assert!(!known.contains(&id("comes")));
    let claim = claim_of(Family::V4);
    let (code, reason) = refusal(again.send(Method::POST, "blocks", &claim).await).await;
    assert_eq!(code, 503, "{reason}");
    assert!(
        reason.contains("the API server does not take the claim"),
        "{reason}"
    );

    proxy.set_open(true);
    stream
        .until(|state| {
            let pods = &state.policy.endpoints;
            assert!(pods.contains_key(&id("stays")), "it was there all the time");
            pods.contains_key(&id("comes")) && !pods.contains_key(&id("goes"))
        })
        .await;
    let snapshots = stream.seen.iter().filter(|kind| **kind == "snapshot");
    assert_eq!(snapshots.count(), 1, "the stream went on");
    cluster.delete::<IpPool>(None, &pool).await;
    controller.stop().await;
}

#[tokio::test]
async fn two_that_both_lead_give_no_block_twice_and_take_none_from_the_living() {
    // Each has a Lease in a namespace of its own, so each believes to lead.
    let (Some(one), Some(two)) = (
        Cluster::start("both_lead_1").await,
        Cluster::start("both_lead_2").await,
    ) else {
        return;
    };
    let pool = one.unique("pool");
    let nodes: Vec<String> = (1..=4).map(|n| one.unique(&format!("n{n}"))).collect();
    for (n, node) in nodes.iter().enumerate() {
        let address = format!("192.0.2.{}", n + 1);
        for cluster in [&one, &two] {
            cluster.node_of(&pool, node, &address).await;
        }
    }
    // Room for eight blocks.
    one.pool(&pool, &pool, "10.79.0.0/23").await;
    let controllers = [one.controller("c1").await, two.controller("c2").await];
    let mut claims = tokio::task::JoinSet::new();
    for node in &nodes {
        for (cluster, controller) in [&one, &two].into_iter().zip(&controllers) {
            let mut agent = cluster.agent(controller, node).await;
            let node = node.clone();
            claims.spawn(async move {
                let claim = claim_of(Family::V4);
                let answer = agent.send(Method::POST, "blocks", &claim).await;
                let claimed: BlockClaimed = json(answer).await;
                (claimed.block.to_string(), node)
            });
        }
    }
    // That both give one node the same block is right: who asks again because an answer was lost gets what is its own.
    let mut claimed: BTreeSet<(String, String)> = claims.join_all().await.into_iter().collect();
    while claimed.len() < 8 {
        let mut agent = two.agent(&controllers[1], &nodes[0]).await;
        let claim = claim_of(Family::V4);
        let more: BlockClaimed = json(agent.send(Method::POST, "blocks", &claim).await).await;
        claimed.insert((more.block.to_string(), nodes[0].clone()));
    }
    let blocks: BTreeSet<&String> = claimed.iter().map(|(block, _)| block).collect();
    assert_eq!(blocks.len(), 8, "{claimed:?}");
    let held = async || {
        let objects = one.list::<IpBlock>(None).await.into_iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let held = objects.map(|object| {
            let spec = &object.data["spec"];
            (text(&spec["cidr"]), text(&spec["node"]))
        });
        let ours = held.filter(|(_, node)| nodes.contains(node));
        ours.collect::<BTreeSet<_>>()
    };
    assert_eq!(held().await, claimed);
    for (cluster, controller) in [&one, &two].into_iter().zip(&controllers) {
        let mut agent = cluster.agent(controller, &nodes[0]).await;
        let claim = claim_of(Family::V4);
        until(async || {
            let answer = agent.send(Method::POST, "blocks", &claim).await;
            if answer.status().is_success() {
                // This one has not heard yet of all that the other gave the node, and gives it the same.
                let again: BlockClaimed = json(answer).await;
                let own = (again.block.to_string(), nodes[0].clone());
                assert!(claimed.contains(&own), "{own:?}");
                return false;
            }
            let (code, reason) = refusal(answer).await;
            assert_eq!(code, 409, "{reason}");
            true
        })
        .await;
    }
    // Both release what a node had that is gone, and nothing else.
    one.delete::<Node>(None, &nodes[0]).await;
    let rest: BTreeSet<_> = claimed
        .into_iter()
        .filter(|(_, node)| *node != nodes[0])
        .collect();
    until(async || held().await == rest).await;
    for node in &nodes[1..] {
        one.delete::<Node>(None, node).await;
    }
    one.delete::<IpPool>(None, &pool).await;
    for controller in controllers {
        controller.stop().await;
    }
}
