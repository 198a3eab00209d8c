//! A cluster of the model as Kubernetes objects.

use margay_policy::model::{
    Cluster, LabelSelector, NamespaceScope, PeerSelector, Pod, PodId, Policy, PolicyId,
    PortSelector, Requirement, Rule,
};
use serde_json::{Value, json};

/// All objects of a cluster that plain Kubernetes can hold (`Profile::kubernetes`).
pub(crate) fn documents(cluster: &Cluster) -> Vec<Value> {
    let nodes = cluster.nodes.iter().map(|(name, node)| {
        let address =
            |address: &std::net::IpAddr| json!({"type": "InternalIP", "address": address});
        let addresses: Vec<Value> = node.addresses.iter().map(address).collect();
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": node.labels},
            "status": {"addresses": addresses},
        })
    });
    let namespaces = cluster.namespaces.iter().map(|(name, namespace)| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": namespace.labels}})
    });
    let pods = cluster.pods.iter().map(|(id, object)| pod(id, object));
    let policies = cluster
        .policies
        .iter()
        .map(|(id, object)| policy(id, object));
    nodes
        .chain(namespaces)
        .chain(pods)
        .chain(policies)
        .collect()
}

fn pod(id: &PodId, pod: &Pod) -> Value {
    let ports: Vec<Value> = pod
        .ports
        .iter()
        .map(|port| {
            let mut value = json!({"containerPort": port.number, "protocol": port.protocol});
            if let Some(name) = &port.name {
                value["name"] = name.as_str().into();
            }
            value
        })
        .collect();
    let ips: Vec<Value> = pod
        .addresses
        .iter()
        .map(|address| json!({"ip": address}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": id.name, "namespace": id.namespace, "uid": pod.uid, "labels": pod.labels,
            "creationTimestamp": pod.created,
        },
        "spec": {
            "nodeName": pod.node, "hostNetwork": pod.host_network,
            "containers": [{"name": "main", "image": "none", "ports": ports}],
        },
        "status": {"phase": if pod.finished { "Succeeded" } else { "Running" }, "podIPs": ips},
    })
}

fn policy(id: &PolicyId, policy: &Policy) -> Value {
    let mut types = Vec::new();
    let mut spec = json!({"podSelector": selector(&policy.subject.pods)});
    for (kind, field, peers, rules) in [
        ("Ingress", "ingress", "from", &policy.ingress),
        ("Egress", "egress", "to", &policy.egress),
    ] {
        if let Some(rules) = rules {
            types.push(kind);
            spec[field] = rules.iter().map(|object| rule(object, peers)).collect();
        }
    }
    spec["policyTypes"] = types.into();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": id.name, "namespace": id.namespace}, "spec": spec,
    })
}

fn rule(rule: &Rule, field: &str) -> Value {
    let mut value = json!({});
    if let Some(peers) = &rule.peers {
        value[field] = peers.iter().map(peer).collect();
    }
    if let Some(ports) = &rule.ports {
        value["ports"] = ports.iter().map(port).collect();
    }
    value
}

fn peer(peer: &PeerSelector) -> Value {
    match peer {
        PeerSelector::Pods(pods) => match &pods.namespaces {
            NamespaceScope::Named(_) => json!({"podSelector": selector(&pods.pods)}),
            NamespaceScope::Matching(namespaces) => {
                json!({"namespaceSelector": selector(namespaces), "podSelector": selector(&pods.pods)})
            }
        },
        PeerSelector::Cidr { cidr, except } if except.is_empty() => {
            json!({"ipBlock": {"cidr": cidr}})
        }
        PeerSelector::Cidr { cidr, except } => json!({"ipBlock": {"cidr": cidr, "except": except}}),
        PeerSelector::Unusable(_) => json!({"ipBlock": {"cidr": "10.0.0.0"}}),
    }
}

fn port(port: &PortSelector) -> Value {
    match port {
        PortSelector::Protocol(protocol) => json!({"protocol": protocol}),
        PortSelector::Range(protocol, first, last) if first == last => {
            json!({"protocol": protocol, "port": first})
        }
        PortSelector::Range(protocol, first, last) => {
            json!({"protocol": protocol, "port": first, "endPort": last})
        }
        PortSelector::Named(protocol, name) => json!({"protocol": protocol, "port": name}),
        PortSelector::Unusable(_) => json!({"protocol": "ICMP"}),
    }
}

fn selector(selector: &LabelSelector) -> Value {
    let expressions: Vec<Value> = selector
        .requirements
        .iter()
        .map(|requirement| match requirement {
            Requirement::In(key, values) => json!({"key": key, "operator": "In", "values": values}),
            Requirement::NotIn(key, values) => {
                json!({"key": key, "operator": "NotIn", "values": values})
            }
            Requirement::Exists(key) => json!({"key": key, "operator": "Exists"}),
            Requirement::DoesNotExist(key) => json!({"key": key, "operator": "DoesNotExist"}),
            Requirement::Unusable(_) => json!({"key": "app", "operator": "Is"}),
        })
        .collect();
    if expressions.is_empty() {
        json!({})
    } else {
        json!({"matchExpressions": expressions})
    }
}
