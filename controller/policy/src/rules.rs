//! Rules of a policy, made ready for pods: what is the same for all of them is done once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::blocks;
use crate::canonical;
use crate::model::{
    self, Action, ContainerPort, Direction, Labels, PeerSelector, Pod, PodId, PodSelector, Policy,
    PolicyId, PortSelector, Protocol,
};
use crate::node_policy::{
    AddressSetId, Match, Origin, Peer, PortRange, Ports, Rule, Service, ServiceSetId,
};
use crate::selector::{self, Selection};

/// A port by name: its number differs from pod to pod.
pub(crate) type PortName = (Protocol, String);

/// The rules of a policy, and the sets that they use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyRules {
    ingress: Option<Vec<RuleParts>>,
    egress: Option<Vec<RuleParts>>,
    /// Address sets by id.
    pub(crate) sets: BTreeMap<AddressSetId, PodSelector>,
    /// Service sets by id.
    pub(crate) services: BTreeMap<ServiceSetId, ServiceDefinition>,
    /// Named ports of ingress rules, to be resolved on the subject.
    pub(crate) ingress_names: BTreeSet<PortName>,
}

/// Named ports of the pods among some peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceDefinition {
    /// Whose ports.
    pub(crate) peers: ServicePeers,
    /// Which ports.
    pub(crate) names: BTreeSet<PortName>,
}

/// Peers of a [`ServiceDefinition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServicePeers {
    /// Every pod.
    Any,
    /// Pods that one of the selectors takes, and pods with an address in one of the blocks.
    Of {
        /// The selectors.
        selectors: BTreeSet<PodSelector>,
        /// Disjoint, merged, sorted.
        blocks: Vec<IpNet>,
    },
}

impl ServiceDefinition {
    /// The members that a pod contributes; `labels` are its namespace's.
    pub(crate) fn members(
        &self,
        id: &PodId,
        pod: &Pod,
        labels: Option<&Labels>,
        owned: &BTreeSet<IpAddr>,
    ) -> BTreeSet<Service> {
        let (whole, blocks): (bool, &[IpNet]) = match &self.peers {
            ServicePeers::Any => (true, &[]),
            ServicePeers::Of { selectors, blocks } => {
                let taken = |selector| {
                    selector::pod_matches(selector, &id.namespace, labels, pod) == Selection::Yes
                };
                (selectors.iter().any(taken), blocks)
            }
        };
        let has = |address: &&IpAddr| whole || blocks::contains(blocks, **address);
        let mut addresses = owned.iter().filter(has).peekable();
        if addresses.peek().is_none() {
            return BTreeSet::new();
        }
        let named = |port: &&ContainerPort| {
            self.names
                .iter()
                .any(|(protocol, name)| names(port, *protocol, name))
        };
        let ports: Vec<&ContainerPort> = pod.ports.iter().filter(named).collect();
        let member = |address: &IpAddr, port: &ContainerPort| Service {
            address: *address,
            protocol: port.protocol,
            port: port.number,
        };
        addresses
            .flat_map(|address| ports.iter().map(move |port| member(address, port)))
            .collect()
    }
}

/// Whether a container port is the one of that name and protocol.
fn names(port: &ContainerPort, protocol: Protocol, name: &str) -> bool {
    port.protocol == protocol && port.name.as_deref() == Some(name)
}

/// The numbers that a named port has on a pod.
pub(crate) fn resolve(ports: &[ContainerPort], (protocol, name): &PortName) -> BTreeSet<u16> {
    ports
        .iter()
        .filter(|port| names(port, *protocol, name))
        .map(|port| port.number)
        .collect()
}

/// One rule with everything but the subject's named ports worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RuleParts {
    origin: Origin,
    action: Action,
    /// Whether all of it can be understood.
    clear: bool,
    /// In the order of their ids; of no meaning, but the same everywhere.
    peers: Vec<Peer>,
    /// `None`: every protocol and port.
    ports: Option<PortParts>,
    /// The named ports of the peers (egress).
    service: Option<ServiceSetId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PortParts {
    ranges: Vec<PortRange>,
    names: BTreeSet<PortName>,
}

impl PolicyRules {
    /// Works out the rules of a policy.
    pub(crate) fn new(id: &PolicyId, policy: &Policy) -> Self {
        let mut rules = Self {
            ingress: None,
            egress: None,
            sets: BTreeMap::new(),
            services: BTreeMap::new(),
            ingress_names: BTreeSet::new(),
        };
        rules.ingress = rules.direction(id, policy, Direction::Ingress);
        rules.egress = rules.direction(id, policy, Direction::Egress);
        rules
    }

    /// Whether the policy covers a direction.
    pub(crate) fn covers(&self, direction: Direction) -> bool {
        self.parts(direction).is_some()
    }

    /// The rules of a direction for a subject with these ports. `selection` is how the policy
    /// selects it; an unclear one grants nothing.
    pub(crate) fn for_subject(
        &self,
        direction: Direction,
        selection: Selection,
        ports: &[ContainerPort],
    ) -> Vec<Rule> {
        let rules = self.parts(direction).unwrap_or_default();
        rules
            .iter()
            .flat_map(|parts| parts.for_subject(selection, ports))
            .collect()
    }

    fn parts(&self, direction: Direction) -> Option<&[RuleParts]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    fn direction(
        &mut self,
        id: &PolicyId,
        policy: &Policy,
        direction: Direction,
    ) -> Option<Vec<RuleParts>> {
        let rules = policy.rules(direction)?.iter().enumerate();
        Some(
            rules
                .map(|(index, rule)| {
                    let origin = Origin {
                        policy: id.clone(),
                        direction,
                        rule: index,
                    };
                    self.parts_of(rule, origin)
                })
                .collect(),
        )
    }

    fn parts_of(&mut self, rule: &model::Rule, origin: Origin) -> RuleParts {
        let model::Rule {
            action,
            peers,
            ports,
        } = rule;
        let (selectors, blocks, clear_peers) = split_peers(peers.as_deref().unwrap_or_default());
        let (mut ports, clear_ports) = match ports {
            Some(list) => {
                let (parts, clear) = split_ports(list);
                (Some(parts), clear)
            }
            None => (None, true),
        };
        let mut service = None;
        match origin.direction {
            Direction::Ingress => {
                self.ingress_names
                    .extend(ports.iter().flat_map(|ports| ports.names.iter().cloned()));
            }
            Direction::Egress => {
                let names = ports
                    .as_mut()
                    .map(|ports| std::mem::take(&mut ports.names))
                    .unwrap_or_default();
                let anyone = peers.is_none();
                if !names.is_empty() && (anyone || !selectors.is_empty() || !blocks.is_empty()) {
                    let peers = if anyone {
                        ServicePeers::Any
                    } else {
                        ServicePeers::Of {
                            selectors: selectors.clone(),
                            blocks: blocks.clone(),
                        }
                    };
                    let definition = ServiceDefinition { peers, names };
                    let id = canonical::service_set_id(&definition);
                    self.services.insert(id, definition);
                    service = Some(id);
                }
            }
        }
        let everything = blocks
            .iter()
            .filter(|block| block.prefix_len() == 0)
            .count()
            == 2;
        let peers = if peers.is_none() || everything {
            vec![Peer::Any]
        } else {
            let mut sets: Vec<AddressSetId> = Vec::new();
            for selector in selectors {
                let id = canonical::address_set_id(&selector);
                self.sets.insert(id, selector);
                sets.push(id);
            }
            sets.sort();
            let blocks = (!blocks.is_empty()).then_some(Peer::Cidrs(blocks));
            sets.into_iter().map(Peer::Set).chain(blocks).collect()
        };
        RuleParts {
            origin,
            action: *action,
            clear: clear_peers && clear_ports,
            peers,
            ports,
            service,
        }
    }
}

/// Selectors, merged blocks, and whether all peers can be understood.
fn split_peers(peers: &[PeerSelector]) -> (BTreeSet<PodSelector>, Vec<IpNet>, bool) {
    let (mut selectors, mut blocks, mut clear) = (BTreeSet::new(), Vec::new(), true);
    for peer in peers {
        match peer {
            PeerSelector::Pods(selector) if selector::is_clear(selector) => {
                selectors.insert(selector.clone());
            }
            PeerSelector::Pods(_) | PeerSelector::Unusable(_) => clear = false,
            PeerSelector::Cidr { cidr, except } => {
                blocks.extend(blocks::subtract(*cidr, except));
            }
        }
    }
    (selectors, blocks::merge(&blocks), clear)
}

/// Merged ranges and names, and whether all ports can be understood.
fn split_ports(ports: &[PortSelector]) -> (PortParts, bool) {
    let (mut ranges, mut names, mut clear) = (Vec::new(), BTreeSet::new(), true);
    for port in ports {
        let (protocol, first, last) = match port {
            PortSelector::Protocol(protocol) => (*protocol, 0, u16::MAX),
            PortSelector::Range(protocol, first, last) => (*protocol, *first, *last),
            PortSelector::Named(protocol, name) => {
                names.insert((*protocol, name.clone()));
                continue;
            }
            PortSelector::Unusable(_) => {
                clear = false;
                continue;
            }
        };
        ranges.push(PortRange {
            protocol,
            first,
            last,
        });
    }
    (
        PortParts {
            ranges: merge_ranges(ranges),
            names,
        },
        clear,
    )
}

impl RuleParts {
    fn for_subject(&self, selection: Selection, subject: &[ContainerPort]) -> Vec<Rule> {
        let rule = |matches, action| Rule {
            matches,
            action,
            origin: self.origin.clone(),
        };
        let clear = self.clear && selection == Selection::Yes;
        match self.action {
            Action::Allow if selection != Selection::Yes => return Vec::new(),
            // What a deny or pass would have let by is unknown, so nothing passes.
            Action::Deny | Action::Pass if !clear => {
                return vec![rule(
                    Match::Traffic {
                        peer: Peer::Any,
                        ports: Ports::Any,
                    },
                    Action::Deny,
                )];
            }
            Action::Allow | Action::Deny | Action::Pass => {}
        }
        let ports = match &self.ports {
            None => Some(Ports::Any),
            Some(PortParts { ranges, names }) => {
                let mut ranges = ranges.clone();
                for name in names {
                    let numbers = resolve(subject, name).into_iter();
                    ranges.extend(numbers.map(|port| PortRange {
                        protocol: name.0,
                        first: port,
                        last: port,
                    }));
                }
                let ranges = merge_ranges(ranges);
                (!ranges.is_empty()).then_some(Ports::Ranges(ranges))
            }
        };
        let traffic = ports.into_iter().flat_map(|ports| {
            self.peers.iter().map(move |peer| Match::Traffic {
                peer: peer.clone(),
                ports: ports.clone(),
            })
        });
        traffic
            .chain(self.service.map(Match::Service))
            .map(|matches| rule(matches, self.action))
            .collect()
    }
}

/// The same ports in the fewest ranges: sorted, disjoint. Ranges that end before they begin are empty.
fn merge_ranges(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.retain(|range| range.first <= range.last);
    ranges.sort();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last)
                if last.protocol == range.protocol
                    && u32::from(range.first) <= u32::from(last.last) + 1 =>
            {
                last.last = last.last.max(range.last);
            }
            Some(_) | None => merged.push(range),
        }
    }
    merged
}
