//! Policies and pods in any number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use margay_dataplane::local::Attachment;
use margay_policy::model::{Action, Direction, PodId, PolicyId, PolicyKind, Protocol, TierEnd};
use margay_policy::node_policy::{
    AddressSetId, Endpoint, Match, NodePolicy, Origin, Peer, PolicyChange, PortRange, Ports, Rule,
    RuleList, RuleListId, TierRules,
};

/// So many pods with a policy each, so many members in each policy's set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) policies: u32,
    pub(crate) members: u32,
}

impl Shape {
    pub(crate) fn pod(i: u32) -> PodId {
        PodId::new("bench", format!("pod-{i}"))
    }

    /// The pod's address.
    pub(crate) fn address(i: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a40_0000 + i)
    }

    pub(crate) fn set(i: u32) -> AddressSetId {
        // spread as hashes are
        AddressSetId(u128::from(i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }

    pub(crate) fn list_id(i: u32) -> RuleListId {
        RuleListId(u128::from(i + 1))
    }

    /// Members of the policy's set.
    pub(crate) fn set_members(self, i: u32) -> impl Iterator<Item = Ipv4Addr> {
        (0..self.members).map(move |m| Ipv4Addr::from(0x0a80_0000 + i * self.members + m))
    }

    /// An address that is in no set.
    pub(crate) fn stranger(i: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0af0_0000 + i))
    }

    /// Three rules: two ports of TCP, the first of which is `port`, and one of UDP.
    pub(crate) fn list(i: u32, port: u16) -> RuleList {
        let rule = |(rule, (protocol, port))| Rule {
            matches: Match::Traffic {
                peer: Peer::Set(Self::set(i)),
                ports: Ports::Ranges(vec![PortRange {
                    protocol,
                    first: port,
                    last: port,
                }]),
            },
            action: Action::Allow,
            origin: Origin {
                policy: PolicyId {
                    name: format!("policy-{i}"),
                    namespace: "bench".to_owned(),
                    kind: PolicyKind::NetworkPolicy,
                },
                direction: Direction::Ingress,
                rule,
            },
        };
        let ports = [
            (Protocol::Tcp, port),
            (Protocol::Tcp, 443),
            (Protocol::Udp, 53),
        ];
        let rules = ports.into_iter().enumerate().map(rule).collect();
        let tier = TierRules {
            name: "default".to_owned(),
            rules,
            end: TierEnd::Deny,
        };
        RuleList {
            direction: Direction::Ingress,
            tiers: vec![tier],
        }
    }

    pub(crate) fn endpoint(ingress: RuleListId) -> Endpoint {
        Endpoint {
            uid: String::new(),
            addresses: BTreeSet::new(),
            ingress: Some(ingress),
            egress: None,
        }
    }

    pub(crate) fn attachment(i: u32) -> Attachment {
        let addresses = [IpAddr::V4(Self::address(i))].into();
        Attachment {
            link: format!("mgy{i:011x}"),
            addresses,
        }
    }

    pub(crate) fn attachments(self) -> BTreeMap<PodId, Attachment> {
        (0..self.policies)
            .map(|i| (Self::pod(i), Self::attachment(i)))
            .collect()
    }

    pub(crate) fn policy(self) -> NodePolicy {
        let mut policy = NodePolicy::default();
        for i in 0..self.policies {
            policy
                .endpoints
                .insert(Self::pod(i), Self::endpoint(Self::list_id(i)));
            policy
                .rule_lists
                .insert(Self::list_id(i), Self::list(i, 80));
            policy
                .address_sets
                .insert(Self::set(i), self.set_members(i).map(IpAddr::V4).collect());
        }
        policy
    }

    /// What makes a pod with a policy of its own known.
    pub(crate) fn pod_changes(self, i: u32) -> Vec<PolicyChange> {
        let add = self.set_members(i).map(IpAddr::V4).collect();
        let (id, list) = (Self::list_id(i), Self::list(i, 80));
        vec![
            PolicyChange::PatchAddressSet {
                id: Self::set(i),
                add,
                remove: BTreeSet::new(),
            },
            PolicyChange::PutRuleList { id, list },
            PolicyChange::PutEndpoint {
                pod: Self::pod(i),
                endpoint: Self::endpoint(id),
            },
        ]
    }
}
