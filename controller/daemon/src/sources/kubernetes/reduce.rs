//! Objects as they come, reduced to what is read of them: nothing else is kept, not even for a moment in a
//! queue. `managedFields` are most of an object's size.

use std::hash::{DefaultHasher, Hasher};
use std::io;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{
    Container, Namespace, Node, NodeCondition, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus,
    Secret,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};
use margay_api::convert;
use margay_api::load::Object;
use margay_api::v1::IpBlock;
use margay_policy::model::NodeName;
use serde::Serialize;

/// A password of TCP MD5 has 80 octets at most; a line end may be behind it.
const LONGEST_PASSWORD: usize = 82;

/// An object as far as we read it.
#[derive(Debug)]
pub(super) struct Item {
    /// Its namespace; empty if it has none.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// Its uid.
    pub(super) uid: String,
    /// What it says, and a hash of that.
    pub(super) content: Content,
}

/// What an object says.
#[derive(Debug)]
pub(super) enum Content {
    /// An object for the index, and a hash of all that is left of it.
    Object(Object, u64),
    /// A block and the node that has it.
    Block(IpNet, NodeName),
    /// It cannot be used: why.
    Refused(String),
}

/// A node: labels, addresses, `podCIDRs`, and whether its network is said to be unavailable.
pub(super) fn node(node: Node) -> Item {
    let Node {
        metadata,
        spec,
        status,
    } = node;
    let spec = spec.unwrap_or_default();
    let status = status.unwrap_or_default();
    let unavailable = status.conditions.into_iter().flatten();
    let unavailable = unavailable.filter(|condition| condition.type_ == "NetworkUnavailable");
    let conditions: Vec<NodeCondition> = unavailable
        .map(|condition| NodeCondition {
            type_: condition.type_,
            status: condition.status,
            reason: condition.reason,
            ..NodeCondition::default()
        })
        .collect();
    let node = Node {
        metadata: meta(metadata),
        spec: Some(NodeSpec {
            pod_cidr: spec.pod_cidr,
            pod_cidrs: spec.pod_cidrs,
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            addresses: status.addresses,
            conditions: Some(conditions),
            ..NodeStatus::default()
        }),
    };
    item(node, Object::Node)
}

/// A namespace: its labels.
pub(super) fn namespace(namespace: Namespace) -> Item {
    let namespace = Namespace {
        metadata: meta(namespace.metadata),
        ..Namespace::default()
    };
    item(namespace, Object::Namespace)
}

/// A pod: labels, node, phase, addresses and ports, and annotations that its owner is told of.
pub(super) fn pod(pod: Pod) -> Item {
    let Pod {
        metadata,
        spec,
        status,
    } = pod;
    let ports = |containers: Vec<Container>| {
        let ported = containers.into_iter().map(|container| Container {
            ports: container.ports,
            ..Container::default()
        });
        ported.collect::<Vec<_>>()
    };
    let spec = spec.unwrap_or_default();
    let status = status.unwrap_or_default();
    let mut metadata = metadata;
    let annotations = metadata.annotations.take().map(|mut annotations| {
        annotations.retain(|key, _| convert::reads_annotation(key));
        annotations
    });
    let pod = Pod {
        metadata: ObjectMeta {
            creation_timestamp: metadata.creation_timestamp.clone(),
            annotations: annotations.filter(|annotations| !annotations.is_empty()),
            ..meta(metadata)
        },
        spec: Some(PodSpec {
            containers: ports(spec.containers),
            init_containers: spec.init_containers.map(ports),
            node_name: spec.node_name,
            host_network: spec.host_network,
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: status.phase,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            ..PodStatus::default()
        }),
    };
    item(pod, Object::Pod)
}

/// A policy, whole.
pub(super) fn network_policy(policy: NetworkPolicy) -> Item {
    let NetworkPolicy { metadata, spec } = policy;
    let policy = NetworkPolicy {
        metadata: meta(metadata),
        spec,
    };
    item(policy, Object::NetworkPolicy)
}

/// A Secret: what in it can be a password of BGP. Keys of a certificate are longer and are not kept.
pub(super) fn secret(secret: Secret) -> Item {
    let data = secret.data.unwrap_or_default().into_iter();
    let short = data.filter(|(_, octets)| octets.0.len() <= LONGEST_PASSWORD);
    let secret = Secret {
        metadata: meta(secret.metadata),
        data: Some(short.collect()),
        ..Secret::default()
    };
    item(secret, Object::Secret)
}

/// An object of our own, if it can be read: an older or newer schema may be installed.
pub(super) fn ours<K>(guard: DeserializeGuard<K>, wrap: fn(Box<K>) -> Object) -> Item
where
    K: Resource<DynamicType = ()> + Serialize,
{
    match guard.0 {
        Ok(mut object) => {
            let metadata = std::mem::take(object.meta_mut());
            *object.meta_mut() = ObjectMeta {
                // Of two that contradict each other the older counts.
                creation_timestamp: metadata.creation_timestamp.clone(),
                ..meta(metadata)
            };
            let item = item(object, wrap);
            let refused = match &item.content {
                Content::Object(object, _) => object.check().err(),
                Content::Block(..) | Content::Refused(_) => None,
            };
            match refused {
                Some(reason) => Item {
                    content: Content::Refused(reason),
                    ..item
                },
                None => item,
            }
        }
        Err(invalid) => refused(&invalid.metadata, invalid.error),
    }
}

/// A block.
pub(super) fn block(guard: DeserializeGuard<IpBlock>) -> Item {
    match guard.0 {
        Ok(block) => match block.check() {
            Ok(()) => Item {
                namespace: String::new(),
                name: block.name_any(),
                uid: block.metadata.uid.clone().unwrap_or_default(),
                content: Content::Block(block.spec.cidr, NodeName(block.spec.node)),
            },
            Err(reason) => refused(&block.metadata, reason),
        },
        Err(invalid) => refused(&invalid.metadata, invalid.error),
    }
}

fn refused(metadata: &ObjectMeta, reason: String) -> Item {
    Item {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        content: Content::Refused(reason),
    }
}

fn item<K>(object: K, wrap: fn(Box<K>) -> Object) -> Item
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let mut digest = Digest(DefaultHasher::new());
    // Writing to a hash does not fail, and these types have no keys that JSON cannot have.
    let hash = match serde_json::to_writer(&mut digest, &object) {
        Ok(()) => digest.0.finish(),
        Err(_) => 0,
    };
    Item {
        namespace: object.meta().namespace.clone().unwrap_or_default(),
        name: object.meta().name.clone().unwrap_or_default(),
        uid: object.meta().uid.clone().unwrap_or_default(),
        content: Content::Object(wrap(Box::new(object)), hash),
    }
}

/// What says which object it is, and its labels.
fn meta(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        labels: metadata.labels,
        ..ObjectMeta::default()
    }
}

/// Hashes what is written to it.
struct Digest(DefaultHasher);

impl io::Write for Digest {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
