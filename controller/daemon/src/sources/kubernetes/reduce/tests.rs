use margay_api::convert;
use margay_api::load;
use margay_api::v1::IpPool;
use serde_json::json;

use super::*;

/// A reduced object must mean to policy what the whole one does.
#[test]
fn nothing_that_policy_reads_is_lost() {
    let whole = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": "a"}, "annotations": {
                "big": "x", "cni.projectcalico.org/ipAddrs": "[\"10.0.0.1\"]",
            },
            "managedFields": [{"manager": "kubelet", "operation": "Update"}],
        },
        "spec": {
            "nodeName": "n1", "hostNetwork": false,
            "containers": [{"name": "c", "image": "i", "ports": [
                {"name": "web", "containerPort": 80}, {"containerPort": 53, "protocol": "UDP"},
            ]}],
            "initContainers": [{"name": "s", "image": "i", "ports": [{"name": "side", "containerPort": 81}]}],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    let pod: Pod = serde_json::from_value(whole.clone()).unwrap();
    let item = super::pod(pod);
    assert_eq!((item.namespace.as_str(), item.name.as_str()), ("shop", "a"));
    let Content::Object(reduced, _) = item.content else {
        panic!("{:?}", item.content);
    };
    let Object::Pod(pod) = &reduced else {
        panic!("{reduced:?}");
    };
    assert_eq!(pod.metadata.managed_fields, None);
    let annotations = pod.metadata.annotations.iter().flatten();
    let annotations: Vec<&String> = annotations.map(|(key, _)| key).collect();
    assert_eq!(annotations, ["cni.projectcalico.org/ipAddrs"]);
    assert_eq!(convert::warnings(&reduced).len(), 1);
    assert_eq!(convert::object(&reduced), convert::object(&loaded(&whole)));
}

#[test]
fn a_node_keeps_addresses_pod_cidrs_and_the_one_condition() {
    let whole = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"zone": "a"}},
        "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "NetworkUnavailable", "status": "True"},
            ],
            "images": [{"names": ["many"]}],
        },
    });
    let Content::Object(reduced, _) = node(serde_json::from_value(whole.clone()).unwrap()).content
    else {
        panic!("refused");
    };
    assert_eq!(convert::object(&reduced), convert::object(&loaded(&whole)));
    let Object::Node(node) = &reduced else {
        panic!("{reduced:?}");
    };
    let facts = crate::network::Facts::of(node);
    assert_eq!(facts.pod_cidrs, ["10.0.0.0/24".parse().unwrap()]);
    assert!(facts.unavailable);
    assert_eq!(node.status.as_ref().unwrap().images, None);
}

#[test]
fn what_the_schema_of_another_version_let_through_is_refused_in_words() {
    let pool = |cidr: &str| {
        let value = json!({"metadata": {"name": "p"}, "spec": {"cidr": cidr}});
        ours(
            serde_json::from_value::<DeserializeGuard<IpPool>>(value).unwrap(),
            Object::IpPool,
        )
    };
    assert!(matches!(pool("10.0.0.0/16").content, Content::Object(..)));
    for (cidr, words) in [("10.0.0.1/16", "host bits"), ("everywhere", "invalid")] {
        let Content::Refused(reason) = pool(cidr).content else {
            panic!("{cidr} is accepted");
        };
        assert!(reason.contains(words), "{reason}");
    }
}

fn loaded(document: &serde_json::Value) -> Object {
    let documents = load::documents("test", &document.to_string());
    documents.into_iter().next().unwrap().unwrap().object
}
