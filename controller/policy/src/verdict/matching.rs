//! Selectors, blocks and ports against one end of a flow.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Party;
use crate::flow::{Flow, Transport};
use crate::model::{
    LabelSelector, Labels, NamespaceScope, PeerSelector, PodSelector, PortSelector, Requirement,
    Rule,
};

/// Whether a selector takes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Selected {
    /// No.
    No,
    /// It would, were it not for a requirement that cannot be understood.
    Unclear,
    /// Yes.
    Yes,
}

pub(crate) fn labels_selected(selector: &LabelSelector, labels: &Labels) -> Selected {
    let requirements = selector.requirements.iter();
    requirements
        .map(|requirement| requirement_holds(requirement, labels))
        .min()
        .unwrap_or(Selected::Yes)
}

pub(crate) fn requirement_holds(requirement: &Requirement, labels: &Labels) -> Selected {
    let holds = match requirement {
        Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
        Requirement::NotIn(key, values) => {
            labels.get(key).is_none_or(|value| !values.contains(value))
        }
        Requirement::Exists(key) => labels.contains_key(key),
        Requirement::DoesNotExist(key) => !labels.contains_key(key),
        Requirement::Unusable(_) => return Selected::Unclear,
    };
    if holds { Selected::Yes } else { Selected::No }
}

/// Whether every part of the rule can be understood.
pub(super) fn understood(rule: &Rule) -> bool {
    let clear = |selector: &LabelSelector| {
        !selector
            .requirements
            .iter()
            .any(|requirement| matches!(requirement, Requirement::Unusable(_)))
    };
    let peers = rule.peers.iter().flatten().all(|peer| match peer {
        PeerSelector::Pods(PodSelector { namespaces, pods }) => {
            clear(pods)
                && match namespaces {
                    NamespaceScope::Named(_) => true,
                    NamespaceScope::Matching(selector) => clear(selector),
                }
        }
        PeerSelector::Cidr { .. } => true,
        PeerSelector::Unusable(_) => false,
    });
    peers
        && !rule
            .ports
            .iter()
            .flatten()
            .any(|port| matches!(port, PortSelector::Unusable(_)))
}

pub(super) fn in_block(block: &IpNet, address: IpAddr) -> bool {
    match (block, address) {
        (IpNet::V4(block), IpAddr::V4(address)) => block.contains(&address),
        (IpNet::V6(block), IpAddr::V6(address)) => block.contains(&address),
        (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => false,
    }
}

pub(crate) fn port_matches(selector: &PortSelector, flow: &Flow, server: &Party<'_>) -> bool {
    let Transport::Port(protocol) = flow.protocol else {
        return false;
    };
    match selector {
        PortSelector::Protocol(wanted) => *wanted == protocol,
        PortSelector::Range(wanted, first, last) => {
            *wanted == protocol && (*first..=*last).contains(&flow.port)
        }
        PortSelector::Named(wanted, name) => {
            *wanted == protocol
                && server.pod.is_some_and(|(_, pod)| {
                    pod.ports.iter().any(|port| {
                        port.name.as_ref() == Some(name)
                            && port.protocol == protocol
                            && port.number == flow.port
                    })
                })
        }
        PortSelector::Unusable(_) => false,
    }
}
