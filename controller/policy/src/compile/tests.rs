use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::flow::{Flow, Transport};
use crate::generate::{self, Profile};
use crate::model::{Action, TierEnd};
use crate::node_policy::{Match, Peer, Ports, Rule, RuleListId, Service};
use crate::verdict::Evaluator;

/// A flow as a node sees it.
struct Packet {
    client: IpAddr,
    server: IpAddr,
    flow: Flow,
}

/// What a node with this policy does: the verdict of one list.
fn allows(policy: &NodePolicy, list: Option<RuleListId>, packet: &Packet) -> bool {
    let Some(list) = list.map(|id| &policy.rule_lists[&id]) else {
        return true;
    };
    let peer = match list.direction {
        Direction::Ingress => packet.client,
        Direction::Egress => packet.server,
    };
    for tier in &list.tiers {
        let action = tier
            .rules
            .iter()
            .find(|rule| matches(policy, rule, peer, packet))
            .map(|rule| rule.action);
        match (action, tier.end) {
            (Some(Action::Allow), _) => return true,
            (Some(Action::Deny), _) | (None, TierEnd::Deny) => return false,
            (Some(Action::Pass), _) | (None, TierEnd::NextTier) => {}
        }
    }
    true
}

fn matches(policy: &NodePolicy, rule: &Rule, peer: IpAddr, packet: &Packet) -> bool {
    let port = match packet.flow.protocol {
        Transport::Port(protocol) => Some((protocol, packet.flow.port)),
        Transport::Icmp | Transport::Other(_) => None,
    };
    match &rule.matches {
        Match::Traffic {
            peer: wanted,
            ports,
        } => {
            let peer = match wanted {
                Peer::Any => true,
                Peer::Set(id) => policy.address_sets[id].contains(&peer),
                Peer::Cidrs(blocks) => blocks.iter().any(|block| block.contains(&peer)),
            };
            peer && match ports {
                Ports::Any => true,
                Ports::Ranges(ranges) => port.is_some_and(|(protocol, port)| {
                    ranges
                        .iter()
                        .any(|it| it.protocol == protocol && (it.first..=it.last).contains(&port))
                }),
            }
        }
        Match::Service(id) => port.is_some_and(|(protocol, port)| {
            policy.service_sets[id].contains(&Service {
                address: packet.server,
                protocol,
                port,
            })
        }),
    }
}

fn check(seed: u64, profile: &Profile) {
    let cluster = generate::cluster(seed, profile);
    let evaluator = Evaluator::new(&cluster);
    let nodes: BTreeMap<_, _> = cluster
        .nodes
        .keys()
        .map(|node| (node, compile(&cluster, node)))
        .collect();
    for flow in generate::probes(seed, &cluster, 300) {
        let expected = evaluator.verdict(&flow).unwrap();
        let (client, server) = evaluator.parties(&flow).unwrap();
        let packet = Packet {
            client: client.address,
            server: server.address,
            flow,
        };
        let own_node = expected
            .ingress
            .iter()
            .any(|it| it.reason == crate::verdict::Reason::OwnNode);
        for (party, judgement) in [(client, &expected.egress), (server, &expected.ingress)] {
            let (Some((id, pod)), Some(judgement)) = (party.pod, judgement) else {
                continue;
            };
            let Some(node) = &pod.node else { continue };
            let endpoint = &nodes[node].endpoints[id];
            let list = match judgement.direction {
                Direction::Ingress if own_node => continue,
                Direction::Ingress => endpoint.ingress,
                Direction::Egress => endpoint.egress,
            };
            let verdict = allows(&nodes[node], list, &packet);
            assert_eq!(
                verdict, judgement.allow,
                "seed {seed}: {}: {judgement}",
                packet.flow
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_compiled_policy_does_what_the_evaluator_says(seed: u64) {
        check(seed, &Profile::kubernetes());
        check(seed, &Profile::wild());
    }

    #[test]
    fn a_node_policy_refers_to_nothing_that_it_lacks_and_lacks_no_use(seed: u64) {
        let cluster = generate::cluster(seed, &Profile::wild());
        for node in cluster.nodes.keys() {
            let policy = compile(&cluster, node);
            let lists: BTreeSet<_> = policy.endpoints.values().flat_map(|it| [it.ingress, it.egress]).flatten().collect();
            prop_assert!(lists.iter().eq(policy.rule_lists.keys()));
            let (sets, services) = used(policy.rule_lists.values());
            prop_assert!(sets.iter().eq(policy.address_sets.keys()));
            prop_assert!(services.iter().eq(policy.service_sets.keys()));
            for list in policy.rule_lists.values() {
                prop_assert!(!list.tiers.is_empty());
            }
        }
    }
}
