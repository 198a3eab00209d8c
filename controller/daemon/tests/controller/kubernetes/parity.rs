//! The same objects through files and through an API server mean the same.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use margay_api::load::documents as documents_of;
use margay_sync::replica::Replica;
use serde_json::{Value, json};

use super::cluster::{Cluster, until};
use crate::harness::World;

/// Worlds of `tests/worlds`: random ones with policies full of corners, and some of the upstream suite's.
const WORLDS: [&str; 6] = [
    "np/3",
    "np/7",
    "np/21",
    "np/40",
    "upstream/17-named-port",
    "upstream/35-egress-except",
];

#[tokio::test]
async fn whole_worlds_are_the_same_by_files_by_watches_and_by_lists() {
    let Some(cluster) = Cluster::start("whole_worlds").await else {
        return;
    };
    // One controller hears of all as it happens, the other finds it there.
    let watching = cluster.controller("c1").await;
    let mut nodes = Vec::new();
    for (number, world) in WORLDS.into_iter().enumerate() {
        nodes.extend(make(&cluster, number, world).await);
    }
    let listing = cluster.controller("c2").await;

    let mut world = World::stopped();
    world.remove("nodes.yaml");
    world.remove("pods.yaml");
    let tokens = nodes.iter().map(|node| format!("{node} secret-{node}\n"));
    std::fs::write(world.path("tokens"), tokens.collect::<String>()).unwrap();
    world.start_controller().await;
    // Other tests use the same server: what they do in between makes a difference once, not for ever.
    until(async || {
        world.write("all.yaml", &everything(&cluster).await);
        let mut endpoints = 0;
        for node in &nodes {
            let mut told = Vec::new();
            for mut agent in [
                cluster.agent(&watching, node).await,
                cluster.agent(&listing, node).await,
                world.agent(node).await,
            ] {
                let mut stream = agent.watch(Replica::default()).await;
                told.push(stream.in_sync().await.policy.clone());
            }
            if told[0] != told[1] || told[1] != told[2] {
                eprintln!("{node} is not told the same (yet)");
                return false;
            }
            endpoints += told[0].endpoints.len();
        }
        assert!(endpoints > 20, "the worlds have pods: {endpoints}");
        true
    })
    .await;
    world.stop().await;
    watching.stop().await;
    listing.stop().await;
}

/// Makes a world's objects, with names of their own; its nodes that have pods.
async fn make(cluster: &Cluster, number: usize, world: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/worlds");
    let unique = |name: &Value| {
        let name = name.as_str().unwrap_or("default");
        json!(cluster.unique(&format!("{number}-{name}")))
    };
    let mut documents = Vec::new();
    for file in ["cluster.yaml", "policies.yaml"] {
        let text = std::fs::read_to_string(folder.join(world).join(file)).unwrap();
        for document in documents_of(file, &text) {
            let mut object = document.unwrap().raw;
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            let order = ["Namespace", "Node", "Pod", "NetworkPolicy"]
                .iter()
                .position(|known| *known == kind);
            let Some(order) = order else {
                continue;
            };
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.retain(|field, _| ["name", "namespace", "labels"].contains(&field.as_str()));
            if order < 2 {
                object["metadata"]["name"] = unique(&object["metadata"]["name"]);
            } else {
                object["metadata"]["namespace"] = unique(&object["metadata"]["namespace"]);
            }
            if kind == "Pod" {
                let spec = object["spec"].as_object_mut().unwrap();
                spec.remove("serviceAccountName");
                for container in spec["containers"].as_array_mut().into_iter().flatten() {
                    container["image"] = json!("none");
                }
                if let Some(node) = spec.get_mut("nodeName") {
                    *node = unique(node);
                }
            }
            documents.push((order, object));
        }
    }
    documents.sort_by_key(|(order, _)| *order);
    let (mut nodes, mut policies, mut refused) = (BTreeSet::new(), 0, Vec::new());
    for (order, object) in documents {
        let node = object["spec"]["nodeName"].as_str().map(str::to_owned);
        let taken = match order {
            0 => cluster.create::<Namespace>(object).await,
            1 => cluster.create::<Node>(object).await,
            2 => cluster.create::<Pod>(object).await,
            _ => cluster.create::<NetworkPolicy>(object).await,
        };
        match taken {
            Ok(()) if order == 3 => policies += 1,
            Ok(()) => nodes.extend(node),
            // Some corners are none that an API server lets in today.
            Err(why) => refused.push(why),
        }
    }
    assert!(policies > 0 && !nodes.is_empty(), "{world}: {refused:?}");
    for node in &nodes {
        cluster.felix(node).await;
    }
    nodes
}

/// What the API server holds, as a file.
async fn everything(cluster: &Cluster) -> String {
    let mut documents = Vec::new();
    for (api, kind, objects) in [
        ("v1", "Node", cluster.list::<Node>(None).await),
        ("v1", "Namespace", cluster.list::<Namespace>(None).await),
        ("v1", "Pod", cluster.list::<Pod>(None).await),
        (
            "networking.k8s.io/v1",
            "NetworkPolicy",
            cluster.list::<NetworkPolicy>(None).await,
        ),
    ] {
        for object in objects {
            let mut value = serde_json::to_value(object).unwrap();
            value["kind"] = json!(kind);
            value["apiVersion"] = json!(api);
            documents.push(value.to_string());
        }
    }
    documents.join("\n---\n")
}

#[tokio::test]
async fn a_node_is_told_the_same_from_files_and_from_an_api_server() {
    let Some(cluster) = Cluster::start("same_from_files_and_server").await else {
        return;
    };
    let (node, other) = (cluster.unique("n1"), cluster.unique("n2"));
    cluster.node(&node, "192.0.2.1").await;
    cluster.node(&other, "192.0.2.2").await;
    let (shop, office) = (cluster.unique("shop"), cluster.unique("office"));
    for name in [&shop, &office] {
        cluster.namespace(name).await;
    }
    for (namespace, name, node, ip) in [
        (&shop, "web", &node, "10.1.0.1"),
        (&shop, "db", &node, "10.1.0.2"),
        (&office, "pc", &other, "10.2.0.1"),
    ] {
        cluster
            .apply::<Pod>(json!({
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
                "spec": {"nodeName": node, "containers": [{
                    "name": "c", "image": "i",
                    "ports": [{"name": "main", "containerPort": 80, "protocol": "TCP"}],
                }]},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
            }))
            .await;
    }
    cluster
        .apply::<NetworkPolicy>(json!({
            "metadata": {"name": "allow", "namespace": shop},
            "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{
                    "from": [
                        {"namespaceSelector": {"matchLabels": {"team": office}}, "podSelector": {}},
                        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.64/26"]}},
                    ],
                    "ports": [{"port": "main"}, {"port": 443, "endPort": 444, "protocol": "TCP"}],
                }],
                "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": "main"}]}],
            },
        }))
        .await;
    let controller = cluster.controller("c1").await;
    let mut agent = cluster.agent(&controller, &node).await;
    let mut stream = agent.watch(Replica::default()).await;
    let from_server = stream.in_sync().await.policy.clone();

    // What the API server holds, as files.
    let mut world = World::stopped();
    world.remove("nodes.yaml");
    world.remove("pods.yaml");
    let mut documents = Vec::new();
    for (kind, mut objects) in [
        ("Node", cluster.list::<Node>(None).await),
        ("Namespace", cluster.list::<Namespace>(None).await),
        ("Pod", cluster.list::<Pod>(Some(&shop)).await),
        ("Pod", cluster.list::<Pod>(Some(&office)).await),
        ("Pod", cluster.list::<Pod>(Some(&cluster.namespace)).await),
        (
            "NetworkPolicy",
            cluster.list::<NetworkPolicy>(Some(&shop)).await,
        ),
    ] {
        for object in &mut objects {
            let mut value = serde_json::to_value(object).unwrap();
            value["kind"] = json!(kind);
            value["apiVersion"] = json!(if kind == "NetworkPolicy" {
                "networking.k8s.io/v1"
            } else {
                "v1"
            });
            documents.push(value.to_string());
        }
    }
    world.write("all.yaml", &documents.join("\n---\n"));
    std::fs::write(world.path("tokens"), format!("{node} secret-{node}\n")).unwrap();
    world.start_controller().await;
    let mut agent = world.agent(&node).await;
    let mut stream = agent.watch(Replica::default()).await;
    let from_files = stream.in_sync().await.policy.clone();

    assert_eq!(from_files, from_server);
    assert_eq!(from_server.endpoints.len(), 2, "{from_server:?}");
    assert!(!from_server.address_sets.is_empty() && !from_server.service_sets.is_empty());
    world.stop().await;
    controller.stop().await;
}
