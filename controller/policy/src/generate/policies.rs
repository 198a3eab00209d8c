//! Random policies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{EXTERNALS, KEYS, PORT_NAMES, PORTS, Random, VALUES, World, protocol};
use crate::model::{
    Action, LabelSelector, NamespaceScope, PeerSelector, PodSelector, Policy, PolicyId, PolicyKind,
    PortSelector, Requirement, Rule, Tier, TierEnd,
};

impl World<'_> {
    pub(super) fn policy(&self, random: &mut Random, index: usize) -> (PolicyId, Policy) {
        let namespace = random
            .pick(&self.namespace_names())
            .cloned()
            .unwrap_or_default();
        // The first letters shuffle the order by name.
        let letter = random.pick(&["a", "b", "c", "x", "y", "z"]).unwrap_or(&"a");
        let id = PolicyId {
            name: format!("np-{letter}{index}"),
            namespace: namespace.clone(),
            kind: PolicyKind::NetworkPolicy,
        };
        let (tier, order) = self.tier(random);
        let subject = PodSelector {
            namespaces: if self.profile.wild && random.one_in(6) {
                self.scope(random, &namespace)
            } else {
                NamespaceScope::Named(namespace.clone())
            },
            pods: subject_labels(random),
        };
        let covers = random.below(6);
        let mut rules = |covered: bool| {
            covered.then(|| {
                (0..random.below(4))
                    .map(|_| self.rule(random, &namespace))
                    .collect()
            })
        };
        let ingress = rules(covers != 0);
        let egress = rules(matches!(covers, 0 | 3..));
        (
            id,
            Policy {
                tier,
                order,
                subject,
                ingress,
                egress,
            },
        )
    }

    fn tier(&self, random: &mut Random) -> (Tier, u32) {
        let tier = |order, name: &str, end| Tier {
            order,
            name: name.to_owned(),
            end,
        };
        let order = 1000;
        if !self.profile.wild {
            return (Tier::default_tier(), order);
        }
        match random.below(6) {
            0 => (tier(1_000, "kube-admin", TierEnd::NextTier), 10),
            1 => (tier(1_000, "kube-admin", TierEnd::NextTier), 20),
            2 => (tier(5_000, "security", TierEnd::Deny), order),
            3 => (tier(10_000_000, "kube-baseline", TierEnd::NextTier), order),
            _ => (Tier::default_tier(), order),
        }
    }

    fn scope(&self, random: &mut Random, namespace: &str) -> NamespaceScope {
        match random.below(6) {
            0 => NamespaceScope::Matching(LabelSelector::default()),
            1 => {
                let names = self.namespace_names();
                let name = random.pick(&names).cloned().unwrap_or_default();
                let (key, values) = (
                    "kubernetes.io/metadata.name".to_owned(),
                    BTreeSet::from([name]),
                );
                let requirement = if random.chance(2, 3) {
                    Requirement::In(key, values)
                } else {
                    Requirement::NotIn(key, values)
                };
                NamespaceScope::Matching(LabelSelector {
                    requirements: BTreeSet::from([requirement]),
                })
            }
            2 => NamespaceScope::Matching(label_selector(random)),
            _ => NamespaceScope::Named(namespace.to_owned()),
        }
    }

    fn rule(&self, random: &mut Random, namespace: &str) -> Rule {
        let action = match random.below(6) {
            0 if self.profile.wild => Action::Deny,
            1 if self.profile.wild => Action::Pass,
            _ => Action::Allow,
        };
        let peers = random.chance(3, 4).then(|| {
            (0..=random.below(3))
                .map(|_| self.peer(random, namespace))
                .collect()
        });
        let ports = random
            .chance(3, 5)
            .then(|| (0..=random.below(3)).map(|_| port(random)).collect());
        Rule {
            action,
            peers,
            ports,
        }
    }

    fn peer(&self, random: &mut Random, namespace: &str) -> PeerSelector {
        match random.below(20) {
            0 => PeerSelector::Unusable(
                "`10.0.0.0` is not a CIDR: it has no prefix length".to_owned(),
            ),
            1..=8 => self.block(random),
            _ => {
                let mut pods = label_selector(random);
                if self.profile.wild && random.one_in(20) {
                    pods.requirements
                        .insert(Requirement::Unusable("odd".to_owned()));
                }
                PeerSelector::Pods(PodSelector {
                    namespaces: self.scope(random, namespace),
                    pods,
                })
            }
        }
    }

    /// A block around an address that occurs, with holes that often cut such addresses too.
    fn block(&self, random: &mut Random) -> PeerSelector {
        let length = |random: &mut Random, address: IpAddr, least: u8| {
            let lengths: &[u8] = match address {
                IpAddr::V4(_) => &[0, 4, 8, 16, 22, 24, 25, 28, 30, 31, 32],
                IpAddr::V6(_) => &[0, 8, 48, 64, 120, 121, 126, 127, 128],
            };
            let fit: Vec<u8> = lengths
                .iter()
                .copied()
                .filter(|length| *length > least || least == 0)
                .collect();
            random.pick(&fit).copied()
        };
        let address = self.some_address(random);
        let cidr = length(random, address, 0).and_then(|length| IpNet::new(address, length).ok());
        let Some(cidr) = cidr.map(|cidr| cidr.trunc()) else {
            return PeerSelector::Unusable("no block".to_owned());
        };
        let mut except = Vec::new();
        if random.chance(2, 5) {
            for _ in 0..=random.below(3) {
                let address = if random.chance(1, 3) {
                    address
                } else {
                    self.some_address(random)
                };
                if !cidr.contains(&address) {
                    continue;
                }
                let hole = length(random, address, cidr.prefix_len());
                except.extend(
                    hole.and_then(|length| IpNet::new(address, length).ok())
                        .map(|hole| hole.trunc()),
                );
            }
        }
        PeerSelector::Cidr { cidr, except }
    }

    /// An address of a pod, a node, or of the outside.
    pub(super) fn some_address(&self, random: &mut Random) -> IpAddr {
        let addresses: Vec<IpAddr> = match random.below(5) {
            0 => self
                .cluster
                .nodes
                .values()
                .flat_map(|node| node.addresses.iter().copied())
                .collect(),
            1 => Vec::new(),
            _ => self
                .cluster
                .pods
                .values()
                .flat_map(|pod| pod.addresses.iter().copied())
                .collect(),
        };
        let externals = EXTERNALS.iter().filter_map(|text| text.parse().ok());
        let all: Vec<IpAddr> = if addresses.is_empty() {
            externals.collect()
        } else {
            addresses
        };
        random
            .pick(&all)
            .copied()
            .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
    }
}

/// Of the subject of a policy: now and then with a requirement that cannot be understood.
fn subject_labels(random: &mut Random) -> LabelSelector {
    let mut selector = label_selector(random);
    if random.one_in(24) {
        let reason = "`Is` is none of In, NotIn, Exists, DoesNotExist".to_owned();
        selector.requirements.insert(Requirement::Unusable(reason));
    }
    selector
}

/// Often empty, sometimes impossible to satisfy.
fn label_selector(random: &mut Random) -> LabelSelector {
    let mut requirements = BTreeSet::new();
    for _ in 0..random.below(3) {
        let key = (*random.pick(&KEYS).unwrap_or(&"app")).to_owned();
        let mut values = || -> BTreeSet<String> {
            (0..=random.below(2))
                .filter_map(|_| random.pick(&VALUES))
                .map(|value| (*value).to_owned())
                .collect()
        };
        let values = values();
        requirements.insert(match random.below(8) {
            0..=3 => Requirement::In(key, values),
            4 | 5 => Requirement::NotIn(key, values),
            6 => Requirement::Exists(key),
            _ => Requirement::DoesNotExist(key),
        });
    }
    LabelSelector { requirements }
}

fn port(random: &mut Random) -> PortSelector {
    let protocol = protocol(random);
    let number = |random: &mut Random| *random.pick(&PORTS).unwrap_or(&80);
    match random.below(16) {
        0 => PortSelector::Unusable("`ICMP` is none of TCP, UDP, SCTP".to_owned()),
        1 | 2 => PortSelector::Protocol(protocol),
        3..=5 => {
            let (a, b) = (number(random), number(random));
            PortSelector::Range(protocol, a.min(b), a.max(b))
        }
        6..=10 => PortSelector::Named(
            protocol,
            (*random.pick(&PORT_NAMES).unwrap_or(&"web")).to_owned(),
        ),
        _ => {
            let number = number(random);
            PortSelector::Range(protocol, number, number)
        }
    }
}
