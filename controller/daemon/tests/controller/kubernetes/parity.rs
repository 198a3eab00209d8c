//! The same objects through files and through an API server mean the same.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use margay_sync::replica::Replica;
use serde_json::json;

use super::cluster::Cluster;
use crate::harness::World;

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
