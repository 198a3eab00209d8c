//! What the controller does at the API server.

use std::collections::BTreeSet;

use hyper::Method;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{Patch, PatchParams};
use margay_api::v1::{BgpFilter, IpBlock, IpPool, NodeStatus};
use margay_policy::model::{NodeName, PodId};
use margay_sync::message::{BlockClaimed, Family, PodReport, Pool, Report, Revision};
use margay_sync::replica::Replica;
use margay_sync::status::{Drift, Link, NodeStatus as AgentStatus, PeerStatus, PodStatus};
use serde_json::{Value, json};

use super::cluster::{Cluster, until};
use crate::harness::{claim_of, json, refusal};

#[tokio::test]
async fn an_agent_is_known_by_a_token_of_its_pod() {
    let Some(cluster) = Cluster::start("an_agent_is_known").await else {
        return;
    };
    let (node, other) = (cluster.unique("n1"), cluster.unique("n2"));
    cluster.node(&node, "192.0.2.1").await;
    cluster.node(&other, "192.0.2.2").await;
    let controller = cluster.controller("c1").await;
    let own = cluster.token(&node, "margay").await;
    let others = cluster.token(&other, "margay").await;
    let elsewhere = cluster.token(&node, "elsewhere").await;
    for (token, status, words) in [
        (others.as_str(), 403, "may not speak for"),
        (elsewhere.as_str(), 401, "does not accept"),
        ("nonsense", 401, "does not accept"),
    ] {
        let mut agent = cluster.agent_with(&controller, &node, token).await;
        let refused = agent.request(Method::GET, "watch", Vec::new()).await;
        let (code, reason) = refusal(refused).await;
        assert_eq!(code, status, "{reason}");
        assert!(reason.contains(words), "{reason}");
    }
    let mut agent = cluster.agent_with(&controller, &node, &own).await;
    let mut stream = agent.watch(Replica::default()).await;
    let network = stream.in_sync().await.network.clone().unwrap();
    assert_eq!(network.node, NodeName(node));
    controller.stop().await;
}

#[tokio::test]
async fn a_block_is_an_object_and_goes_with_its_node() {
    let Some(cluster) = Cluster::start("a_block_is_an_object").await else {
        return;
    };
    let (node, pool) = (cluster.unique("n1"), cluster.unique("pool"));
    cluster.node_of(&pool, &node, "192.0.2.1").await;
    cluster.pool(&pool, &pool, "10.77.0.0/24").await;
    let controller = cluster.controller("c1").await;
    let mut agent = cluster.agent(&controller, &node).await;
    let claim = claim_of(Family::V4);
    let claimed: BlockClaimed = json(agent.send(Method::POST, "blocks", &claim).await).await;
    let objects = cluster.list::<IpBlock>(None).await;
    let mine: Vec<&Value> = objects
        .iter()
        .map(|object| &object.data["spec"])
        .filter(|spec| spec["node"] == json!(node))
        .collect();
    assert_eq!(mine, [&json!({"cidr": claimed.block, "node": node})]);
    // There is no pool of the other family, and a pod waits for an address.
    let namespace = cluster.namespace.clone();
    cluster
        .apply::<Pod>(json!({
            "metadata": {"name": "waits", "namespace": namespace},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        }))
        .await;
    let other = claim_of(Family::V6);
    let (status, _) = refusal(agent.send(Method::POST, "blocks", &other).await).await;
    assert_eq!(status, 409);
    until(async || {
        let events = cluster.list::<Event>(Some(&namespace)).await;
        events.iter().any(|event| {
            event.data["regarding"]["name"] == json!("waits")
                && event.data["reason"] == json!("NoFreeAddress")
        })
    })
    .await;
    let mut stream = agent.watch(Replica::default()).await;
    stream
        .until(|state| {
            let network = state.network.as_ref();
            network.is_some_and(|network| network.blocks.contains(&claimed.block))
        })
        .await;

    cluster.delete::<Node>(None, &node).await;
    until(async || {
        let objects = cluster.list::<IpBlock>(None).await;
        objects
            .iter()
            .all(|object| object.data["spec"]["node"] != json!(node))
    })
    .await;
    cluster.delete::<IpPool>(None, &pool).await;
    controller.stop().await;
}

#[tokio::test]
async fn what_one_replica_hears_all_know_and_one_writes() {
    let Some(cluster) = Cluster::start("what_one_replica_hears").await else {
        return;
    };
    let (node, other) = (cluster.unique("n1"), cluster.unique("n2"));
    cluster.node(&node, "192.0.2.1").await;
    cluster.node(&other, "192.0.2.2").await;
    cluster
        .apply::<Node>(json!({
            "metadata": {"name": node},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "conditions": [{"type": "NetworkUnavailable", "status": "True"}],
            },
        }))
        .await;
    let namespace = cluster.namespace.clone();
    for (name, on) in [("server", &node), ("client", &other)] {
        cluster
            .apply::<Pod>(json!({
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
                "spec": {"nodeName": on, "containers": [{"name": "c", "image": "i"}]},
            }))
            .await;
    }
    cluster
        .apply::<NetworkPolicy>(json!({
            "metadata": {"name": "to-server", "namespace": namespace},
            "spec": {
                "podSelector": {"matchLabels": {"app": "client"}},
                "policyTypes": ["Egress"],
                "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "server"}}}]}],
            },
        }))
        .await;
    // Replicas on one machine listen on two ports; so that they find each other, the second is told of by its pod
    // and listens where the first looks for it.
    let first = cluster.controller("c1").await;
    let second = cluster
        .controller_at("c2", "127.0.0.2", first.address().port())
        .await;
    cluster.replica("c2", "127.0.0.2").await;

    let mut agent = cluster.agent(&first, &node).await;
    let _stream = agent.watch(Replica::default()).await;
    let pod = PodReport {
        uid: String::new(),
        addresses: ["10.9.9.9".parse().unwrap()].into(),
    };
    let report = Report {
        pods: [(PodId::new(&namespace, "server"), pod)].into(),
        ..Report::default()
    };
    agent.send(Method::PUT, "report", &report).await;

    let mut far = cluster.agent(&second, &other).await;
    let mut stream = far.watch(Replica::default()).await;
    stream
        .until(|state| {
            let sets = state.policy.address_sets.values();
            sets.flatten()
                .any(|member| member.to_string() == "10.9.9.9")
        })
        .await;

    until(async || {
        let objects = cluster.list::<NodeStatus>(None).await;
        objects.iter().any(|object| {
            object.metadata.name.as_deref() == Some(&node)
                && object.data["status"]["agent"] == json!("Connected")
        })
    })
    .await;
    until(async || {
        let nodes = cluster.list::<Node>(None).await;
        let node = nodes
            .iter()
            .find(|object| object.metadata.name.as_deref() == Some(&node));
        let conditions = node.unwrap().data["status"]["conditions"].clone();
        conditions
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| {
                condition["type"] == json!("NetworkUnavailable")
                    && condition["status"] == json!("False")
            })
    })
    .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn owners_of_objects_are_told_in_events() {
    let Some(cluster) = Cluster::start("owners_are_told").await else {
        return;
    };
    let namespace = cluster.namespace.clone();
    cluster
        .apply::<NetworkPolicy>(json!({
            "metadata": {"name": "lonely", "namespace": namespace},
            "spec": {
                "podSelector": {"matchLabels": {"app": "nobody"}},
                "egress": [{"ports": [{"port": "nowhere"}]}],
                "policyTypes": ["Egress"],
            },
        }))
        .await;
    let controller = cluster.controller("c1").await;
    until(async || {
        let events = cluster.list::<Event>(Some(&namespace)).await;
        let reasons: Vec<&Value> = events
            .iter()
            .filter(|event| event.data["regarding"]["name"] == json!("lonely"))
            .map(|event| &event.data["reason"])
            .collect();
        reasons.contains(&&json!("SelectsNothing")) && reasons.contains(&&json!("UnknownPort"))
    })
    .await;
    controller.stop().await;
    // The next to lead does not say it again.
    let again = cluster.controller("c2").await;
    let count = cluster.list::<Event>(Some(&namespace)).await.len();
    cluster
        .apply::<NetworkPolicy>(json!({
            "metadata": {"name": "later", "namespace": namespace},
            "spec": {"podSelector": {"matchLabels": {"app": "nobody"}}},
        }))
        .await;
    until(async || {
        let events = cluster.list::<Event>(Some(&namespace)).await;
        events
            .iter()
            .any(|event| event.data["regarding"]["name"] == json!("later"))
    })
    .await;
    assert_eq!(
        cluster.list::<Event>(Some(&namespace)).await.len(),
        count + 1
    );
    again.stop().await;
}

/// What the events on an object say: reason and note.
async fn told(cluster: &Cluster, namespace: &str, name: &str) -> Vec<(String, String)> {
    let events = cluster.list::<Event>(Some(namespace)).await.into_iter();
    let about = events.filter(|event| event.data["regarding"]["name"] == json!(name));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    about
        .map(|event| (text(&event.data["reason"]), text(&event.data["note"])))
        .collect()
}

#[tokio::test]
async fn what_closes_and_what_is_refused_is_told_on_the_object() {
    let Some(cluster) = Cluster::start("what_closes").await else {
        return;
    };
    let namespace = cluster.namespace.clone();
    let (filter, node) = (cluster.unique("filter"), cluster.unique("n1"));
    // Readers differ in whether such a prefix means IPv4.
    cluster
        .apply::<NetworkPolicy>(json!({
            "metadata": {"name": "mapped", "namespace": namespace},
            "spec": {
                "podSelector": {},
                "ingress": [{"from": [{"ipBlock": {"cidr": "::ffff:10.0.0.0/112"}}]}],
            },
        }))
        .await;
    // No schema compares the two.
    cluster
        .apply::<BgpFilter>(json!({
            "metadata": {"name": filter},
            "spec": {"import": [{"priority": {"min": 9, "max": 1}, "action": "Reject"}]},
        }))
        .await;
    cluster.node(&node, "192.0.2.7").await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    // Applied, two of one type would be one: addresses are a map by type there.
    let addresses = json!({"status": {"addresses": [
        {"type": "InternalIP", "address": "192.0.2.8"},
        {"type": "InternalIP", "address": "192.0.2.7"},
        {"type": "InternalIP", "address": "2001:db8::7"},
    ]}});
    let merge = Patch::Merge(addresses);
    nodes
        .patch_status(&node, &PatchParams::default(), &merge)
        .await
        .unwrap();
    let controller = cluster.controller("c1").await;
    for (place, name, reason, words) in [
        (
            namespace.as_str(),
            "mapped",
            "FailsClosed",
            [
                "spec.ingress[0].from[0].ipBlock.cidr",
                "::ffff:10.0.0.0/112",
            ],
        ),
        (
            "default",
            &filter,
            "Refused",
            ["spec.import[0].priority", "min is above max"],
        ),
        (
            "default",
            &node,
            "UnclearAddress",
            ["(192.0.2.8, 192.0.2.7)", "192.0.2.8 is used"],
        ),
    ] {
        until(async || {
            let told = told(&cluster, place, name).await;
            told.iter().any(|(said, note)| {
                said == reason && words.iter().all(|words| note.contains(words))
            })
        })
        .await;
    }
    let mut agent = cluster.agent(&controller, &node).await;
    let mut stream = agent.watch(Replica::default()).await;
    let network = stream.in_sync().await.network.clone().unwrap();
    assert_eq!(network.addresses[0].to_string(), "192.0.2.8");
    cluster.delete::<BgpFilter>(None, &filter).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_nodes_status_is_what_its_agent_reports() {
    let Some(cluster) = Cluster::start("a_nodes_status").await else {
        return;
    };
    let node = cluster.unique("n1");
    cluster.node(&node, "192.0.2.1").await;
    let controller = cluster.controller("c1").await;
    let mut agent = cluster.agent(&controller, &node).await;
    let _stream = agent.watch(Replica::default()).await;
    let revision = |count| {
        Some(Revision {
            run: "r".to_owned(),
            count,
        })
    };
    let peer = |address: &str, state: &str, reason: &str, hint: &str| PeerStatus {
        address: address.parse().unwrap(),
        asn: 64512,
        state: state.to_owned(),
        reason: reason.to_owned(),
        hint: hint.to_owned(),
        since_seconds: 5,
        received: 3,
        announced: 2,
        families: BTreeSet::new(),
    };
    let status = AgentStatus {
        version: "9.8.7".to_owned(),
        controller: Link::Up,
        received: revision(8),
        realised: revision(7),
        blocks: [("10.1.0.0/26".parse().unwrap(), 5)].into(),
        peers: [
            (
                "node-n2".to_owned(),
                peer("192.0.2.2", "Established", "", ""),
            ),
            (
                "router".to_owned(),
                peer("192.0.2.9", "Active", "refused", "does it listen?"),
            ),
        ]
        .into(),
        pods: [(
            PodId::new("shop", "web"),
            PodStatus {
                link: "mgy0".to_owned(),
                addresses: BTreeSet::new(),
            },
        )]
        .into(),
        drift: vec![Drift {
            at: "2026-01-01T00:00:00Z".to_owned(),
            what: "table".to_owned(),
            name: "inet margay".to_owned(),
            by: "nft (pid 12)".to_owned(),
            repair_microseconds: 900,
        }],
        ..AgentStatus::default()
    };
    let mut report = Report {
        status,
        ..Report::default()
    };
    agent.send(Method::PUT, "report", &report).await;
    let session = |name: &str, address: &str, state: &str, reason: &str, hint: &str| {
        json!({
            "name": name, "address": address, "asn": 64512, "state": state,
            "reason": reason, "hint": hint, "received": 3, "announced": 2,
        })
    };
    let mut expected = json!({
        "agent": "Connected", "agentReason": "", "version": "9.8.7", "policy": "Behind",
        "realised": "r/7", "bgp": "1/2", "pods": 1, "repairs": 1,
        "blocks": [{"cidr": "10.1.0.0/26", "used": 5}],
        "sessions": [
            session("node-n2", "192.0.2.2", "Established", "", ""),
            session("router", "192.0.2.9", "Active", "refused", "does it listen?"),
        ],
        "drift": [{"at": "2026-01-01T00:00:00Z", "what": "table inet margay", "by": "nft (pid 12)"}],
    });
    has_status(&cluster, &node, &expected).await;
    // What changes is written again, once the first has rested.
    report.status.realised = revision(8);
    report.status.drift.clear();
    agent.send(Method::PUT, "report", &report).await;
    expected["policy"] = json!("InStep");
    expected["realised"] = json!("r/8");
    expected["repairs"] = json!(0);
    expected["drift"] = json!([]);
    has_status(&cluster, &node, &expected).await;
    controller.stop().await;
}

/// Waits until the status that is written of a node is this one.
async fn has_status(cluster: &Cluster, node: &str, expected: &Value) {
    until(async || {
        let objects = cluster.list::<NodeStatus>(None).await;
        let mut objects = objects.iter();
        let object = objects.find(|object| object.metadata.name.as_deref() == Some(node));
        object.is_some_and(|object| object.data["status"] == *expected)
    })
    .await;
}

#[tokio::test]
async fn an_object_of_the_longest_name_keeps_no_events_from_others() {
    let Some(cluster) = Cluster::start("an_object_of_the_longest_name").await else {
        return;
    };
    let namespace = cluster.namespace.clone();
    let longest = "a".repeat(253);
    for name in [longest.as_str(), "other"] {
        cluster
            .apply::<NetworkPolicy>(json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"podSelector": {"matchLabels": {"app": "nobody"}}},
            }))
            .await;
    }
    let controller = cluster.controller("c1").await;
    until(async || {
        let events = cluster.list::<Event>(Some(&namespace)).await;
        let about = |name: &str| {
            events
                .iter()
                .any(|event| event.data["regarding"]["name"] == json!(name))
        };
        about("other") && about(&longest)
    })
    .await;
    controller.stop().await;
}

#[tokio::test]
async fn of_overlapping_pools_the_later_one_gives_nothing_and_is_told_of() {
    let Some(cluster) = Cluster::start("of_overlapping_pools").await else {
        return;
    };
    // By name too, if both are of one second.
    let (node, older, later) = (
        cluster.unique("n1"),
        cluster.unique("a"),
        cluster.unique("b"),
    );
    cluster.node_of(&older, &node, "192.0.2.1").await;
    cluster.pool(&older, &older, "10.78.0.0/26").await;
    let controller = cluster.controller("c1").await;
    let mut agent = cluster.agent(&controller, &node).await;
    let claim = claim_of(Family::V4);
    let claimed: BlockClaimed = json(agent.send(Method::POST, "blocks", &claim).await).await;
    assert_eq!(claimed.block.to_string(), "10.78.0.0/26");
    cluster.pool(&older, &later, "10.78.0.0/24").await;
    until(async || {
        let events = cluster.list::<Event>(Some("default")).await;
        events.iter().any(|event| {
            let words = event.data["note"].as_str().unwrap_or_default();
            event.data["regarding"]["name"] == json!(later)
                && event.data["reason"] == json!("Contradiction")
                && words.contains(&format!("the older IPPool {older}"))
        })
    })
    .await;
    // There is no other block: that of the later pool is not given out.
    let (code, reason) = refusal(agent.send(Method::POST, "blocks", &claim).await).await;
    assert_eq!(code, 409, "{reason}");
    assert!(reason.contains("10.78.0.0/26"), "{reason}");
    let mut stream = agent.watch(Replica::default()).await;
    let network = stream.in_sync().await.network.clone().unwrap();
    assert!(network.blocks.contains(&claimed.block));
    let of_later = |pool: &&Pool| pool.cidr.to_string() == "10.78.0.0/24";
    assert!(!network.pools.iter().find(of_later).unwrap().usable);
    cluster.delete::<IpPool>(None, &later).await;
    cluster.delete::<IpPool>(None, &older).await;
    cluster.delete::<Node>(None, &node).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_pod_that_asks_for_an_address_is_told_that_it_cannot() {
    let Some(cluster) = Cluster::start("a_pod_that_asks").await else {
        return;
    };
    let namespace = cluster.namespace.clone();
    cluster
        .apply::<Pod>(json!({
            "metadata": {
                "name": "picky", "namespace": namespace,
                "annotations": {"cni.projectcalico.org/ipAddrs": "[\"10.0.0.1\"]"},
            },
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .await;
    let controller = cluster.controller("c1").await;
    until(async || {
        let events = cluster.list::<Event>(Some(&namespace)).await;
        events.iter().any(|event| {
            event.data["regarding"]["name"] == json!("picky")
                && event.data["reason"] == json!("Ignored")
        })
    })
    .await;
    controller.stop().await;
}
