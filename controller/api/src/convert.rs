//! Kubernetes objects into the model.
//!
//! Objects are well-formed here ([`crate::load`] saw to it) and defaulted as an API server does.
//! What cannot be used becomes `Unusable` in the model, with a warning that names the field.

mod cidr;
mod pod;
mod policy;
mod selector;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Node};
use margay_policy::model::{self, NodeName};

use crate::load;

pub use cidr::{address, block};
pub use pod::{pod, reads_annotation};
pub use policy::network_policy;
pub use selector::label_selector;

#[cfg(test)]
mod tests;

/// Collects warnings, each with the path of its field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(Vec<String>);

impl Warnings {
    /// Notes that the value at `path` cannot be used.
    pub fn push(&mut self, path: &str, reason: impl std::fmt::Display) {
        self.0.push(format!("{path}: {reason}"));
    }

    /// All of them, in the order of the fields.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// The object for the policy model; `None` if policy does not depend on its kind.
pub fn object(object: &load::Object) -> Option<model::Object> {
    with_warnings(object, &mut Warnings::default())
}

/// What in the object cannot be used, in words.
pub fn warnings(object: &load::Object) -> Vec<String> {
    let mut warnings = Warnings::default();
    with_warnings(object, &mut warnings);
    warnings.into_vec()
}

/// The key that the object has, or would have, in the policy model.
pub fn model_key(key: &load::Key) -> Option<model::ObjectKey> {
    let load::Key {
        kind,
        namespace,
        name,
    } = key;
    match kind.as_str() {
        "Node" => Some(model::ObjectKey::Node(NodeName(name.clone()))),
        "Namespace" => Some(model::ObjectKey::Namespace(name.clone())),
        "Pod" => Some(model::ObjectKey::Pod(model::PodId::new(namespace, name))),
        "NetworkPolicy" => Some(model::ObjectKey::Policy(policy::id(namespace, name))),
        _ => None,
    }
}

fn with_warnings(object: &load::Object, warnings: &mut Warnings) -> Option<model::Object> {
    match object {
        load::Object::Node(object) => {
            let (name, node) = node(object, warnings);
            Some(model::Object::Node(name, node))
        }
        load::Object::Namespace(object) => {
            let (name, namespace) = namespace(object);
            Some(model::Object::Namespace(name, namespace))
        }
        load::Object::Pod(object) => {
            let (id, pod) = pod(object, warnings);
            Some(model::Object::Pod(id, pod))
        }
        load::Object::NetworkPolicy(object) => {
            let (id, policy) = network_policy(object, warnings);
            Some(model::Object::Policy(id, policy))
        }
        load::Object::IpPool(object) => {
            if let Some(selector) = &object.spec.node_selector {
                label_selector(selector, "spec.nodeSelector", warnings);
            }
            if let Some(selector) = &object.spec.namespace_selector {
                label_selector(selector, "spec.namespaceSelector", warnings);
            }
            None
        }
        load::Object::BgpPeer(object) => {
            if let Some(selector) = &object.spec.node_selector {
                label_selector(selector, "spec.nodeSelector", warnings);
            }
            if let Some(selector) = &object.spec.peer_selector {
                label_selector(selector, "spec.peerSelector", warnings);
            }
            None
        }
        load::Object::BgpFilter(_) | load::Object::Secret(_) => None,
        load::Object::NetworkConfig(_) | load::Object::Other { .. } => None,
    }
}

/// A node with its addresses: the internal ones, then the external ones, each in the object's order.
///
/// The first is the one that its agent speaks BGP with. A node of several internal addresses of a family
/// does not say which; the first counts, and the warning names the others.
pub fn node(object: &Node, warnings: &mut Warnings) -> (NodeName, model::Node) {
    let listed = object
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    let mut of_type = |wanted: &str| {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (index, entry) in listed.clone().enumerate() {
            if entry.type_ != wanted {
                continue;
            }
            match address(&entry.address) {
                Ok(address) if !addresses.contains(&address) => addresses.push(address),
                Ok(_) => {}
                Err(reason) => warnings.push(&format!("status.addresses[{index}].address"), reason),
            }
        }
        addresses
    };
    let mut addresses = of_type("InternalIP");
    let external = of_type("ExternalIP");
    for (family, is_of) in [
        ("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
        ("IPv6", IpAddr::is_ipv6),
    ] {
        let candidates: Vec<String> = addresses
            .iter()
            .filter(|address| is_of(address))
            .map(IpAddr::to_string)
            .collect();
        if let [first, _, ..] = candidates.as_slice() {
            warnings.push(
                "status.addresses",
                format!(
                    "there are several {family} addresses of type InternalIP ({}): {first} is used, the first; set the kubelet's --node-ip to say which",
                    candidates.join(", ")
                ),
            );
        }
    }
    for address in external {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let name = NodeName(object.metadata.name.clone().unwrap_or_default());
    (
        name,
        model::Node {
            labels: object.metadata.labels.clone().unwrap_or_default(),
            addresses,
        },
    )
}

/// A namespace. Its labels are those of the object: `kubernetes.io/metadata.name` counts only where
/// an API server wrote it (policy-API F11).
pub fn namespace(object: &Namespace) -> (String, model::Namespace) {
    let labels = object.metadata.labels.clone().unwrap_or_default();
    (
        object.metadata.name.clone().unwrap_or_default(),
        model::Namespace { labels },
    )
}
