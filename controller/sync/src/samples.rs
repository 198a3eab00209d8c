//! States for tests: small ones by hand, and random ones whose references all hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_policy::model::{
    Action, Direction, NodeName, PodId, PolicyId, PolicyKind, Protocol, TierEnd,
};
use margay_policy::node_policy::{
    AddressSetId, Endpoint, Match, NodePolicy, Origin, Peer, PortRange, Ports, Rule, RuleList,
    RuleListId, Service, ServiceSetId, TierRules,
};
use proptest::prelude::*;

use crate::message::{Bgp, NodeNetwork, NodeState};

/// Two pods; the first takes connections from the members of a set, which has one.
pub(crate) fn two_pods() -> NodeState {
    let mut policy = NodePolicy::default();
    policy
        .address_sets
        .insert(AddressSetId(1), BTreeSet::from([ip(2)]));
    policy.rule_lists.insert(
        RuleListId(1),
        list(&[Match::Traffic {
            peer: Peer::Set(AddressSetId(1)),
            ports: Ports::Any,
        }]),
    );
    policy
        .endpoints
        .insert(PodId::new("default", "a"), endpoint(1, Some(1)));
    policy
        .endpoints
        .insert(PodId::new("default", "b"), endpoint(2, None));
    NodeState {
        policy,
        network: Some(network(1)),
    }
}

/// The same, with one member more.
pub(crate) fn two_pods_and_a_member() -> NodeState {
    let mut state = two_pods();
    state
        .policy
        .address_sets
        .insert(AddressSetId(1), BTreeSet::from([ip(2), ip(9)]));
    state
}

/// Any small state: few ids, so that states share and lose objects.
pub(crate) fn state() -> impl Strategy<Value = NodeState> {
    let members = prop::collection::btree_set((0..6_u8).prop_map(ip), 0..5);
    let address_sets =
        prop::collection::btree_map((0..4_u128).prop_map(AddressSetId), members, 1..4);
    let services = prop::collection::btree_set((0..6_u8).prop_map(service), 0..5);
    let service_sets =
        prop::collection::btree_map((0..3_u128).prop_map(ServiceSetId), services, 1..3);
    let lists = prop::collection::btree_map(
        0..4_u128,
        prop::collection::vec(any::<(bool, u8)>(), 0..3),
        1..4,
    );
    let endpoints = prop::collection::btree_map(0..4_u8, any::<(Option<u8>, u8)>(), 0..4);
    let networks = prop::option::of((0..3_u8).prop_map(network));
    (address_sets, service_sets, lists, endpoints, networks).prop_map(
        |(address_sets, service_sets, lists, endpoints, network)| {
            let rule_lists: BTreeMap<RuleListId, RuleList> = lists
                .into_iter()
                .map(|(id, rules)| {
                    let matches: Vec<Match> = rules
                        .into_iter()
                        .map(|(service, pick)| {
                            if service {
                                Match::Service(*nth(&service_sets, pick))
                            } else {
                                let peer = Peer::Set(*nth(&address_sets, pick));
                                Match::Traffic {
                                    peer,
                                    ports: ports(),
                                }
                            }
                        })
                        .collect();
                    (RuleListId(id), list(&matches))
                })
                .collect();
            let endpoints = endpoints
                .into_iter()
                .map(|(pod, (pick, address))| {
                    let id = pick.map(|pick| nth(&rule_lists, pick).0);
                    (
                        PodId::new("default", format!("p{pod}")),
                        endpoint(address % 3, id),
                    )
                })
                .collect();
            let policy = NodePolicy {
                endpoints,
                rule_lists,
                address_sets,
                service_sets,
            };
            NodeState { policy, network }
        },
    )
}

fn nth<K, V>(map: &BTreeMap<K, V>, pick: u8) -> &K {
    let keys = map.keys().nth(usize::from(pick) % map.len());
    keys.expect("the number is below the map's length")
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn service(last: u8) -> Service {
    Service {
        address: ip(last),
        protocol: Protocol::Tcp,
        port: 80,
    }
}

fn ports() -> Ports {
    Ports::Ranges(vec![PortRange {
        protocol: Protocol::Udp,
        first: 53,
        last: 53,
    }])
}

fn list(matches: &[Match]) -> RuleList {
    let policy = PolicyId {
        name: "p".to_owned(),
        namespace: "default".to_owned(),
        kind: PolicyKind::NetworkPolicy,
    };
    let rules = matches.iter().enumerate().map(|(rule, matches)| Rule {
        matches: matches.clone(),
        action: Action::Allow,
        origin: Origin {
            policy: policy.clone(),
            direction: Direction::Ingress,
            rule,
        },
    });
    let tier = TierRules {
        name: "default".to_owned(),
        rules: rules.collect(),
        end: TierEnd::Deny,
    };
    RuleList {
        direction: Direction::Ingress,
        tiers: vec![tier],
    }
}

fn endpoint(address: u8, ingress: Option<u128>) -> Endpoint {
    Endpoint {
        uid: String::new(),
        addresses: BTreeSet::from([ip(address)]),
        ingress: ingress.map(RuleListId),
        egress: None,
    }
}

fn network(address: u8) -> NodeNetwork {
    NodeNetwork {
        node: NodeName("n1".to_owned()),
        addresses: vec![IpAddr::from([192, 0, 2, address])],
        pools: Vec::new(),
        namespaces: BTreeSet::new(),
        blocks: BTreeSet::new(),
        bgp: Bgp {
            asn: 64512,
            port: 179,
            ..Bgp::default()
        },
    }
}
