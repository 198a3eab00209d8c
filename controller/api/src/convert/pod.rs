//! Pods.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};
use margay_policy::model::{self, ContainerPort, NodeName, PodId, Protocol};

use super::{Warnings, address};

/// Annotations by which pods ask Calico for addresses, with what becomes of each.
const ADDRESS_ANNOTATIONS: [(&str, &str); 5] = [
    ("cni.projectcalico.org/ipAddrs", NO_FIXED_ADDRESS),
    ("cni.projectcalico.org/ipAddrsNoIpam", NO_FIXED_ADDRESS),
    (
        "cni.projectcalico.org/floatingIPs",
        "floating addresses do not exist here: ignored",
    ),
    ("cni.projectcalico.org/ipv4pools", NO_POOL),
    ("cni.projectcalico.org/ipv6pools", NO_POOL),
];
const NO_FIXED_ADDRESS: &str =
    "a pod cannot choose its address: it gets one of its node's, whoever has the one asked for";
const NO_POOL: &str =
    "a pod cannot choose its pool: write the nodes that use a pool into the IPPool's nodeSelector";

/// Whether an annotation of a pod is looked at.
pub fn reads_annotation(annotation: &str) -> bool {
    ADDRESS_ANNOTATIONS
        .iter()
        .any(|(known, _)| *known == annotation)
}

/// A pod with its live addresses and the ports of its regular and init containers.
pub fn pod(object: &Pod, warnings: &mut Warnings) -> (PodId, model::Pod) {
    let metadata = &object.metadata;
    let id = PodId::new(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    );
    let mut pod = model::Pod {
        uid: metadata.uid.clone().unwrap_or_default(),
        created: metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.to_string())
            .unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        node: None,
        host_network: false,
        finished: false,
        addresses: BTreeSet::new(),
        reported: BTreeSet::new(),
        ports: Vec::new(),
    };
    let annotations = metadata.annotations.iter().flatten();
    for (key, _) in annotations {
        let known = ADDRESS_ANNOTATIONS.iter();
        for (_, reason) in known.filter(|(known, _)| known == key) {
            warnings.push(&format!("metadata.annotations[{key}]"), *reason);
        }
    }
    if let Some(spec) = &object.spec {
        pod.node = spec
            .node_name
            .clone()
            .filter(|name| !name.is_empty())
            .map(NodeName);
        pod.host_network = spec.host_network.unwrap_or(false);
        ports(
            &spec.containers,
            "spec.containers",
            &mut pod.ports,
            warnings,
        );
        ports(
            spec.init_containers.as_deref().unwrap_or_default(),
            "spec.initContainers",
            &mut pod.ports,
            warnings,
        );
    }
    if let Some(status) = &object.status {
        pod.finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let listed = status.pod_ips.as_deref().unwrap_or_default();
        let mut add = |path: &str, text: &str| match address(text) {
            Ok(address) => {
                pod.addresses.insert(address);
            }
            Err(reason) => warnings.push(path, reason),
        };
        for (index, entry) in listed.iter().enumerate() {
            add(&format!("status.podIPs[{index}].ip"), &entry.ip);
        }
        if listed.is_empty()
            && let Some(ip) = status.pod_ip.as_deref().filter(|ip| !ip.is_empty())
        {
            add("status.podIP", ip);
        }
    }
    (id, pod)
}

fn ports(
    containers: &[Container],
    path: &str,
    ports: &mut Vec<ContainerPort>,
    warnings: &mut Warnings,
) {
    for (c, container) in containers.iter().enumerate() {
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let path = format!("{path}[{c}].ports[{p}]");
            let protocol = match protocol(port.protocol.as_deref()) {
                Ok(protocol) => protocol,
                Err(reason) => {
                    warnings.push(
                        &format!("{path}.protocol"),
                        format!("{reason}: this port is ignored"),
                    );
                    continue;
                }
            };
            let Some(number) = number(port.container_port) else {
                warnings.push(
                    &format!("{path}.containerPort"),
                    format!(
                        "{} is not a port (1 to 65535): ignored",
                        port.container_port
                    ),
                );
                continue;
            };
            let name = port.name.clone().filter(|name| !name.is_empty());
            ports.push(ContainerPort {
                name,
                protocol,
                number,
            });
        }
    }
}

/// A protocol's name; absent means TCP.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn protocol(name: Option<&str>) -> Result<Protocol, String> {
    match name {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(format!("`{other}` is none of TCP, UDP, SCTP")),
    }
}

/// A port number, 1 to 65535.
pub(super) fn number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}
