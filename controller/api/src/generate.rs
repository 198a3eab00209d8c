//! Clusters as Kubernetes YAML: the way from a generated cluster to a world on disk.

use std::collections::BTreeSet;

use margay_policy::model::{
    Action, Cluster, ContainerPort, Direction, LabelSelector, NamespaceScope, Node, PeerSelector,
    Pod, PodId, PodSelector, Policy, PolicyId, PortSelector, Requirement, Rule, Tier,
};
use serde_json::{Map, Value, json};

#[cfg(test)]
mod tests;

/// A world's files of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `cluster.yaml`: nodes, namespaces, pods.
    pub cluster: String,
    /// `policies.yaml`.
    pub policies: String,
}

/// A cluster that Kubernetes objects cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// A policy with tiers, denies, passes, or the like.
    #[error("{0} cannot be said as a NetworkPolicy")]
    Policy(PolicyId),
    /// The encoder refused a value.
    #[error("cannot write YAML: {0}")]
    Encode(String),
}

/// Writes a cluster as YAML, such that reading it again gives the same cluster.
///
/// Reports of agents have no place in objects and are left out. What cannot be understood is
/// written as something that is refused for the same reason, if it came from
/// `margay_policy::generate`.
///
/// # Errors
/// [`YamlError`] if a policy is no `NetworkPolicy`.
pub fn to_yaml(cluster: &Cluster) -> Result<Files, YamlError> {
    let nodes = cluster.nodes.iter().map(|(name, it)| node(&name.0, it));
    let namespaces = cluster.namespaces.iter().map(|(name, it)| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(name, "", &it.labels)})
    });
    let pods = cluster.pods.iter().map(|(id, it)| pod(id, it));
    let policies = cluster
        .policies
        .iter()
        .map(|(id, it)| policy(id, it).ok_or_else(|| YamlError::Policy(id.clone())));
    Ok(Files {
        cluster: documents(nodes.chain(namespaces).chain(pods).map(Ok))?,
        policies: documents(policies)?,
    })
}

fn documents(values: impl Iterator<Item = Result<Value, YamlError>>) -> Result<String, YamlError> {
    let mut text = String::new();
    for value in values {
        let document = serde_saphyr::to_string(&value?)
            .map_err(|error| YamlError::Encode(error.to_string()))?;
        text.push_str("---\n");
        text.push_str(&document);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

fn metadata(name: &str, namespace: &str, labels: &margay_policy::model::Labels) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name));
    if !namespace.is_empty() {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), json!(labels));
    }
    Value::Object(metadata)
}

fn node(name: &str, node: &Node) -> Value {
    let addresses: Vec<Value> = node
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": metadata(name, "", &node.labels),
        "status": {"addresses": addresses},
    })
}

fn pod(id: &PodId, pod: &Pod) -> Value {
    let Pod {
        uid,
        created,
        labels,
        node,
        host_network,
        finished,
        addresses,
        reported: _,
        ports,
    } = pod;
    let mut metadata = metadata(&id.name, &id.namespace, labels);
    for (field, value) in [("uid", uid), ("creationTimestamp", created)] {
        if !value.is_empty() {
            metadata[field] = json!(value);
        }
    }
    let port = |port: &ContainerPort| {
        let mut value = json!({"containerPort": port.number, "protocol": port.protocol});
        if let Some(name) = &port.name {
            value["name"] = json!(name);
        }
        value
    };
    let mut spec = json!({
        "containers": [{"name": "main", "image": "none", "ports": ports.iter().map(port).collect::<Vec<_>>()}],
    });
    if let Some(node) = node {
        spec["nodeName"] = json!(node);
    }
    if *host_network {
        spec["hostNetwork"] = json!(true);
    }
    let ips: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"ip": address}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
        "status": {"phase": if *finished { "Succeeded" } else { "Running" }, "podIPs": ips},
    })
}

/// `None` if it is no `NetworkPolicy`.
fn policy(id: &PolicyId, policy: &Policy) -> Option<Value> {
    let Policy {
        tier,
        order,
        subject,
        ingress,
        egress,
    } = policy;
    if *tier != Tier::default_tier()
        || *order != 1000
        || subject.namespaces != NamespaceScope::Named(id.namespace.clone())
    {
        return None;
    }
    let mut spec = Map::new();
    if !subject.pods.requirements.is_empty() {
        spec.insert("podSelector".to_owned(), label_selector(&subject.pods));
    }
    let mut types = Vec::new();
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        let Some(rules) = rules else { continue };
        let (field, name) = match direction {
            Direction::Ingress => ("ingress", "Ingress"),
            Direction::Egress => ("egress", "Egress"),
        };
        types.push(name);
        let rules: Option<Vec<Value>> = rules
            .iter()
            .map(|it| rule(it, direction, &id.namespace))
            .collect();
        spec.insert(field.to_owned(), json!(rules?));
    }
    // Left out where an API server fills in the same: the loader has to do it too.
    let default = if egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
        vec!["Ingress", "Egress"]
    } else {
        vec!["Ingress"]
    };
    if types.is_empty() {
        return None;
    }
    if types != default {
        spec.insert("policyTypes".to_owned(), json!(types));
    }
    Some(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": id.name, "namespace": id.namespace}, "spec": spec,
    }))
}

fn rule(rule: &Rule, direction: Direction, namespace: &str) -> Option<Value> {
    let Rule {
        action: Action::Allow,
        peers,
        ports,
    } = rule
    else {
        return None;
    };
    let mut value = Map::new();
    if let Some(peers) = peers {
        let field = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let peers: Option<Vec<Value>> = peers.iter().map(|it| peer(it, namespace)).collect();
        value.insert(
            field.to_owned(),
            json!(peers.filter(|peers| !peers.is_empty())?),
        );
    }
    if let Some(ports) = ports {
        let ports: Vec<Value> = ports.iter().map(port).collect();
        value.insert(
            "ports".to_owned(),
            json!((!ports.is_empty()).then_some(ports)?),
        );
    }
    Some(Value::Object(value))
}

fn peer(peer: &PeerSelector, namespace: &str) -> Option<Value> {
    match peer {
        PeerSelector::Pods(PodSelector { namespaces, pods }) => match namespaces {
            NamespaceScope::Named(name) if name == namespace => {
                Some(json!({"podSelector": label_selector(pods)}))
            }
            NamespaceScope::Named(_) => None,
            NamespaceScope::Matching(scope) => {
                let mut value = json!({"namespaceSelector": label_selector(scope)});
                if !pods.requirements.is_empty() {
                    value["podSelector"] = label_selector(pods);
                }
                Some(value)
            }
        },
        PeerSelector::Cidr { cidr, except } if except.is_empty() => {
            Some(json!({"ipBlock": {"cidr": cidr}}))
        }
        PeerSelector::Cidr { cidr, except } => {
            Some(json!({"ipBlock": {"cidr": cidr, "except": except}}))
        }
        PeerSelector::Unusable(_) => Some(json!({"ipBlock": {"cidr": "10.0.0.0"}})),
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

/// Single values as `matchLabels`, as people write them; the rest as expressions.
fn label_selector(selector: &LabelSelector) -> Value {
    let mut labels = Map::new();
    let mut expressions = Vec::new();
    for requirement in &selector.requirements {
        let expression = |key: &String, operator: &str, values: Option<&BTreeSet<String>>| {
            let mut value = json!({"key": key, "operator": operator});
            if let Some(values) = values {
                value["values"] = json!(values);
            }
            value
        };
        match requirement {
            Requirement::In(key, values) => match values.first() {
                Some(value) if values.len() == 1 && !labels.contains_key(key) => {
                    labels.insert(key.clone(), json!(value));
                }
                Some(_) | None => expressions.push(expression(key, "In", Some(values))),
            },
            Requirement::NotIn(key, values) => {
                expressions.push(expression(key, "NotIn", Some(values)));
            }
            Requirement::Exists(key) => expressions.push(expression(key, "Exists", None)),
            Requirement::DoesNotExist(key) => {
                expressions.push(expression(key, "DoesNotExist", None));
            }
            Requirement::Unusable(_) => expressions.push(expression(&"odd".to_owned(), "Is", None)),
        }
    }
    let mut value = Map::new();
    if !labels.is_empty() {
        value.insert("matchLabels".to_owned(), Value::Object(labels));
    }
    if !expressions.is_empty() {
        value.insert("matchExpressions".to_owned(), json!(expressions));
    }
    Value::Object(value)
}
