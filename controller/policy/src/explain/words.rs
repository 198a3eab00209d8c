//! Selectors, ports and what is wrong with them, in words.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::flow::{Flow, Transport};
use crate::model::{
    LabelSelector, Labels, NamespaceScope, PeerSelector, Pod, PodId, PodSelector, PortSelector,
    Protocol, Requirement,
};
use crate::verdict::{Selected, requirement_holds};

/// A peer of a rule.
pub(super) fn peer(selector: &PeerSelector) -> String {
    match selector {
        PeerSelector::Pods(PodSelector { namespaces, pods }) => {
            let pods = if pods.requirements.is_empty() {
                "all pods".to_owned()
            } else {
                format!("pods {}", labels(pods))
            };
            match namespaces {
                NamespaceScope::Named(name) => format!("{pods} in namespace {name}"),
                NamespaceScope::Matching(selector) if selector.requirements.is_empty() => {
                    format!("{pods} in every namespace")
                }
                NamespaceScope::Matching(selector) => {
                    format!("{pods} in namespaces {}", labels(selector))
                }
            }
        }
        PeerSelector::Cidr { cidr, except } if except.is_empty() => cidr.to_string(),
        PeerSelector::Cidr { cidr, except } => format!("{cidr} except {}", join(except)),
        PeerSelector::Unusable(_) => "a peer that cannot be understood".to_owned(),
    }
}

/// A label selector, as `kubectl` writes it.
pub(super) fn labels(selector: &LabelSelector) -> String {
    join(selector.requirements.iter().map(requirement))
}

fn requirement(requirement: &Requirement) -> String {
    match requirement {
        Requirement::In(key, values) if values.len() == 1 => format!("{key}={}", join(values)),
        Requirement::In(key, values) => format!("{key} in ({})", join(values)),
        Requirement::NotIn(key, values) if values.len() == 1 => format!("{key}!={}", join(values)),
        Requirement::NotIn(key, values) => format!("{key} notin ({})", join(values)),
        Requirement::Exists(key) => key.clone(),
        Requirement::DoesNotExist(key) => format!("!{key}"),
        Requirement::Unusable(reason) => format!("<{reason}>"),
    }
}

/// Every requirement of a pod selector that a pod fails.
pub(super) fn unselected(
    selector: &PodSelector,
    id: &PodId,
    pod: &Pod,
    namespace_labels: Option<&Labels>,
) -> Vec<String> {
    let mut misses = match (&selector.namespaces, namespace_labels) {
        (NamespaceScope::Named(name), _) if *name == id.namespace => Vec::new(),
        (NamespaceScope::Named(name), _) => {
            vec![format!("namespace {} is not {name}", id.namespace)]
        }
        (NamespaceScope::Matching(selector), None) if selector.requirements.is_empty() => {
            Vec::new()
        }
        (NamespaceScope::Matching(_), None) => {
            vec![format!(
                "namespace {} is not known, so nor are its labels",
                id.namespace
            )]
        }
        (NamespaceScope::Matching(selector), Some(labels)) => {
            failed("namespace label", selector, labels)
        }
    };
    misses.extend(failed("pod label", &selector.pods, &pod.labels));
    misses
}

fn failed(what: &str, selector: &LabelSelector, labels: &Labels) -> Vec<String> {
    let failed = |wanted: &&Requirement| requirement_holds(wanted, labels) != Selected::Yes;
    let word = |wanted: &Requirement| {
        let has = |key: &String| {
            labels
                .get(key)
                .map_or("absent".to_owned(), |value| format!("`{value}`"))
        };
        match wanted {
            Requirement::In(key, values) if values.len() == 1 => {
                format!("{what} {key} is {}, not `{}`", has(key), join(values))
            }
            Requirement::In(key, values) => {
                format!("{what} {key} is {}, none of ({})", has(key), join(values))
            }
            Requirement::NotIn(key, _) => {
                format!("{what} {key} is {}, which is excluded", has(key))
            }
            Requirement::Exists(key) => format!("{what} {key} is absent"),
            Requirement::DoesNotExist(key) => {
                format!("{what} {key} is {}, but must be absent", has(key))
            }
            Requirement::Unusable(reason) => format!("{what}: {reason}"),
        }
    };
    selector
        .requirements
        .iter()
        .filter(failed)
        .map(word)
        .collect()
}

/// Why an address is not in a block.
pub(super) fn outside(address: IpAddr, cidr: &IpNet, except: &[IpNet]) -> String {
    match except.iter().find(|hole| hole.contains(&address)) {
        Some(hole) if cidr.contains(&address) => format!("{address} is in the exception {hole}"),
        Some(_) | None => format!("{address} is not in {cidr}"),
    }
}

/// A port of a rule.
pub(super) fn port(selector: &PortSelector) -> String {
    match selector {
        PortSelector::Protocol(protocol) => format!("{protocol}"),
        PortSelector::Range(protocol, first, last) if first == last => {
            format!("{protocol} {first}")
        }
        PortSelector::Range(protocol, first, last) => format!("{protocol} {first}-{last}"),
        PortSelector::Named(protocol, name) => format!("{protocol} `{name}`"),
        PortSelector::Unusable(_) => "a port that cannot be understood".to_owned(),
    }
}

/// What a named port is on the server.
pub(super) fn named(protocol: Protocol, name: &str, server: Option<&Pod>) -> String {
    let Some(pod) = server else {
        return format!("`{name}` is a name that only pods have");
    };
    let named = |protocol_too: bool| {
        join(
            pod.ports
                .iter()
                .filter(|port| port.name.as_deref() == Some(name))
                .filter(|port| (port.protocol == protocol) == protocol_too)
                .map(|port| format!("{} {}", port.protocol, port.number)),
        )
    };
    match (named(true), named(false)) {
        (right, _) if !right.is_empty() => format!("`{name}` is {right} on this pod"),
        (_, wrong) if !wrong.is_empty() => format!("`{name}` is only {wrong} on this pod"),
        _ => format!("this pod has no port of the name `{name}`"),
    }
}

/// Protocol and port of a flow.
pub(super) fn transport(flow: &Flow) -> String {
    match flow.protocol {
        Transport::Port(protocol) => format!("{protocol} {}", flow.port),
        Transport::Icmp => "ICMP".to_owned(),
        Transport::Other(number) => format!("IP protocol {number}"),
    }
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
