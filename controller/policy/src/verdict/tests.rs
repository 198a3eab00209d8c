use std::collections::BTreeSet;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::flow::Transport;
use crate::generate::{self, Profile, Random};
use crate::model::{
    ContainerPort, LabelSelector, Labels, Namespace, NamespaceScope, Node, PeerSelector, Pod,
    PodSelector, Policy, PolicyKind, PortSelector, Protocol, Requirement, Rule, Tier, TierEnd,
};

#[test]
fn a_pod_that_nothing_selects_is_open() {
    let world = world(&[]);
    assert_eq!(
        text(&world, "a/one", "a/two", 80),
        "egress of a/one: allow, nothing selects it; ingress of a/two: allow, nothing selects it"
    );
}

#[test]
fn a_policy_without_rules_isolates() {
    let world = world(&[policy("deny", "a", Some(vec![]), None)]);
    assert_eq!(
        text(&world, "b/three", "a/two", 80),
        "egress of b/three: allow, nothing selects it; ingress of a/two: deny, end of tier default, isolated by NetworkPolicy a/deny"
    );
    assert!(allowed(&world, "a/one", "b/three", 80));
}

#[test]
fn a_node_reaches_its_own_pods_and_no_others() {
    let world = world(&[policy("deny", "a", Some(vec![]), None)]);
    assert!(text(&world, "node/n1", "a/one", 80).ends_with("its own node sent it"));
    assert!(!allowed(&world, "node/n2", "a/one", 80));
    // A pod with hostNetwork is its node.
    assert!(allowed(&world, "b/host", "a/one", 80));
    assert!(!allowed(&world, "b/host", "a/two", 80));
}

#[test]
fn a_pod_with_host_network_is_never_a_subject_nor_a_peer() {
    let everyone = rule(Action::Allow, Some(vec![all_pods()]), None);
    let world = world(&[
        policy("in", "a", Some(vec![everyone]), None),
        policy("deny", "b", Some(vec![]), Some(vec![])),
    ]);
    assert!(!allowed(&world, "b/host", "a/two", 80));
    assert!(allowed(&world, "a/one", "b/host", 80));
}

#[test]
fn the_newest_live_pod_owns_an_address() {
    let mut world = world(&[policy("deny", "b", Some(vec![]), None)]);
    let address = "10.0.0.1".parse().unwrap();
    let mut newer = world.pods[&PodId::new("b", "three")].clone();
    newer.created = "2026-01-02T00:00:00Z".to_owned();
    newer.addresses = BTreeSet::from([address]);
    world.pods.insert(PodId::new("b", "newer"), newer.clone());
    assert_eq!(
        Evaluator::new(&world).owner(address),
        Some(&PodId::new("b", "newer"))
    );
    assert!(!allowed(&world, "a/two", "10.0.0.1", 80));
    assert_eq!(
        error(&world, "a/two", "a/one"),
        "the IPv4 address of pod a/one belongs to the newer pod b/newer"
    );
    // A finished pod owns nothing, however new.
    newer.finished = true;
    world.pods.insert(PodId::new("b", "newer"), newer);
    assert_eq!(
        Evaluator::new(&world).owner(address),
        Some(&PodId::new("a", "one"))
    );
    assert_eq!(
        error(&world, "b/newer", "a/one"),
        "pod b/newer has finished and lost its addresses"
    );
}

#[test]
fn what_an_agent_reports_counts_until_the_object_has_addresses() {
    let mut world = world(&[]);
    let pod = world.pods.get_mut(&PodId::new("a", "one")).unwrap();
    let old: IpAddr = "10.0.0.1".parse().unwrap();
    let reported: IpAddr = "10.0.0.99".parse().unwrap();
    pod.reported = BTreeSet::from([reported]);
    assert_eq!(Evaluator::new(&world).owner(reported), None);
    world
        .pods
        .get_mut(&PodId::new("a", "one"))
        .unwrap()
        .addresses
        .clear();
    let evaluator = Evaluator::new(&world);
    assert_eq!(
        (evaluator.owner(reported), evaluator.owner(old)),
        (Some(&PodId::new("a", "one")), None)
    );
}

#[test]
fn flows_that_cannot_be_are_told_apart() {
    let world = world(&[]);
    assert_eq!(error(&world, "a/none", "a/one"), "there is no pod a/none");
    assert_eq!(error(&world, "node/n9", "a/one"), "there is no node n9");
    assert_eq!(
        error(&world, "fd00::1", "a/one"),
        "fd00::1 is not an IPv4 address"
    );
    let flow = Flow {
        family: Family::V6,
        ..flow("a/one", "a/two", 80)
    };
    assert_eq!(
        verdict(&world, &flow).unwrap_err().to_string(),
        "a/one has no IPv6 address"
    );
}

#[test]
fn rules_without_ports_cover_every_protocol_and_those_with_ports_do_not() {
    let tcp = Some(vec![PortSelector::Protocol(Protocol::Tcp)]);
    let with = world(&[policy(
        "in",
        "a",
        Some(vec![rule(Action::Allow, None, tcp)]),
        None,
    )]);
    let without = world(&[policy(
        "in",
        "a",
        Some(vec![rule(Action::Allow, None, None)]),
        None,
    )]);
    for protocol in [
        Transport::Icmp,
        Transport::Other(47),
        Transport::Port(Protocol::Udp),
    ] {
        let flow = Flow {
            protocol,
            port: 0,
            ..flow("a/one", "a/two", 80)
        };
        assert!(!verdict(&with, &flow).unwrap().allow);
        assert!(verdict(&without, &flow).unwrap().allow);
    }
}

#[test]
fn a_named_port_is_what_the_destination_calls_so() {
    let web = || Some(vec![PortSelector::Named(Protocol::Tcp, "web".to_owned())]);
    let ingress = world(&[policy(
        "in",
        "a",
        Some(vec![rule(Action::Allow, None, web())]),
        None,
    )]);
    assert!(
        allowed(&ingress, "b/three", "a/one", 80) && !allowed(&ingress, "b/three", "a/one", 8080)
    );
    assert!(
        allowed(&ingress, "b/three", "a/two", 8080) && !allowed(&ingress, "b/three", "a/two", 80)
    );
    let egress = world(&[policy(
        "out",
        "b",
        None,
        Some(vec![rule(Action::Allow, None, web())]),
    )]);
    assert!(
        allowed(&egress, "b/three", "a/one", 80) && !allowed(&egress, "b/three", "a/one", 8080)
    );
    assert!(allowed(&egress, "b/three", "a/two", 8080));
    // Nobody outside has names.
    assert!(!allowed(&egress, "b/three", "8.8.8.8", 80));
}

#[test]
fn a_subject_that_is_unclear_is_isolated_and_granted_nothing() {
    let mut unclear = policy("in", "a", Some(vec![rule(Action::Allow, None, None)]), None);
    unclear
        .1
        .subject
        .pods
        .requirements
        .insert(Requirement::Unusable("odd".to_owned()));
    let world = world(&[unclear]);
    assert!(!allowed(&world, "b/three", "a/one", 80));
    assert!(allowed(&world, "a/one", "b/three", 80));
}

#[test]
fn tiers_decide_in_order_and_pass_leaves_one() {
    let admin = Tier {
        order: 1_000,
        name: "kube-admin".to_owned(),
        end: TierEnd::NextTier,
    };
    let baseline = Tier {
        order: 10_000_000,
        name: "kube-baseline".to_owned(),
        end: TierEnd::NextTier,
    };
    let in_tier = |name: &str, tier: &Tier, rules| {
        let (id, policy) = policy(name, "a", Some(rules), None);
        (
            id,
            Policy {
                tier: tier.clone(),
                ..policy
            },
        )
    };
    let port = |action, port| {
        rule(
            action,
            None,
            Some(vec![PortSelector::Range(Protocol::Tcp, port, port)]),
        )
    };
    let world = world(&[
        in_tier(
            "first",
            &admin,
            vec![
                port(Action::Deny, 22),
                port(Action::Pass, 80),
                port(Action::Allow, 80),
                port(Action::Allow, 443),
            ],
        ),
        policy("np", "a", Some(vec![port(Action::Allow, 80)]), None),
        in_tier("base", &baseline, vec![rule(Action::Allow, None, None)]),
    ]);
    let last = |port| {
        text(&world, "b/three", "a/one", port)
            .split("; ")
            .last()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        last(22),
        "ingress of a/one: deny, NetworkPolicy a/first ingress[0] (tier kube-admin)"
    );
    assert_eq!(
        last(443),
        "ingress of a/one: allow, NetworkPolicy a/first ingress[3] (tier kube-admin)"
    );
    assert_eq!(
        last(80),
        "ingress of a/one: allow, NetworkPolicy a/np ingress[0] (tier default)"
    );
    // Baseline is behind the end of the default tier.
    assert_eq!(
        last(81),
        "ingress of a/one: deny, end of tier default, isolated by NetworkPolicy a/np"
    );
    let chain = verdict(&world, &flow("b/three", "a/one", 80))
        .unwrap()
        .ingress
        .unwrap()
        .chain;
    assert_eq!(
        chain
            .iter()
            .map(|step| step.tier.as_str())
            .collect::<Vec<_>>(),
        ["kube-admin", "default"]
    );
}

#[test]
fn what_a_deny_cannot_understand_it_denies() {
    let odd = vec![PeerSelector::Unusable("odd".to_owned())];
    for action in [Action::Deny, Action::Pass] {
        let rules = vec![
            rule(action, Some(odd.clone()), None),
            rule(Action::Allow, None, None),
        ];
        assert!(!allowed(
            &world(&[policy("in", "a", Some(rules), None)]),
            "b/three",
            "a/one",
            80
        ));
    }
    let rules = vec![
        rule(Action::Allow, Some(odd), None),
        rule(Action::Allow, Some(vec![all_pods()]), None),
    ];
    assert!(allowed(
        &world(&[policy("in", "a", Some(rules), None)]),
        "b/three",
        "a/one",
        80
    ));
}

/// Laws that need no oracle: what one change of the policies may do to verdicts.
mod laws {
    use super::*;

    /// Compares all verdicts before and after `change`.
    fn compare(seed: u64, change: impl Fn(&mut Cluster), holds: impl Fn(bool, bool) -> bool) {
        let before = generate::cluster(seed, &Profile::kubernetes());
        let mut after = before.clone();
        change(&mut after);
        let (old, new) = (Evaluator::new(&before), Evaluator::new(&after));
        for flow in generate::probes(seed, &before, 200) {
            let (old, new) = (old.verdict(&flow).unwrap(), new.verdict(&flow).unwrap());
            assert!(
                holds(old.allow, new.allow),
                "seed {seed}: {flow}: before {old}; after {new}"
            );
        }
    }

    fn same(old: bool, new: bool) -> bool {
        old == new
    }

    fn each_rules(cluster: &mut Cluster, mut change: impl FnMut(&mut Vec<Rule>)) {
        for policy in cluster.policies.values_mut() {
            for rules in policy.ingress.iter_mut().chain(policy.egress.iter_mut()) {
                change(rules);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

        #[test]
        fn the_order_of_rules_peers_and_ports_is_irrelevant(seed: u64) {
            compare(seed, |cluster| each_rules(cluster, |rules| {
                rules.reverse();
                for rule in rules {
                    rule.peers.iter_mut().for_each(|peers| peers.reverse());
                    rule.ports.iter_mut().for_each(|ports| ports.reverse());
                }
            }), same);
        }

        #[test]
        fn one_more_rule_takes_nothing_away(seed: u64) {
            let other = generate::cluster(!seed, &Profile::kubernetes());
            let rules: Vec<Rule> = other.policies.values().filter_map(|policy| policy.ingress.clone()).flatten().collect();
            compare(seed, |cluster| {
                let random = &mut Random::new(seed);
                each_rules(cluster, |list| list.extend(random.pick(&rules).cloned()));
            }, |old, new| new || !old);
        }

        #[test]
        fn one_rule_for_each_peer_and_port_is_the_same(seed: u64) {
            compare(seed, |cluster| each_rules(cluster, |rules| {
                let whole = std::mem::take(rules);
                for rule in whole {
                    let peers: Vec<_> = rule.peers.map_or(vec![None], |peers| peers.into_iter().map(|it| Some(vec![it])).collect());
                    let ports: Vec<_> = rule.ports.map_or(vec![None], |ports| ports.into_iter().map(|it| Some(vec![it])).collect());
                    for peers in peers {
                        rules.extend(ports.iter().map(|ports| Rule { action: rule.action, peers: peers.clone(), ports: ports.clone() }));
                    }
                }
            }), same);
        }

        #[test]
        fn a_block_is_its_halves_and_holes_are_what_is_left(seed: u64) {
            compare(seed, |cluster| each_rules(cluster, |rules| {
                for peers in rules.iter_mut().filter_map(|rule| rule.peers.as_mut()) {
                    let whole = std::mem::take(peers);
                    for peer in whole {
                        let PeerSelector::Cidr { cidr, except } = &peer else { peers.push(peer); continue };
                        let rest = crate::blocks::subtract(*cidr, except);
                        for block in rest {
                            let halves: Vec<IpNet> = block.subnets(block.prefix_len() + 1).map(Iterator::collect).unwrap_or(vec![block]);
                            peers.extend(halves.into_iter().map(|cidr| PeerSelector::Cidr { cidr, except: Vec::new() }));
                        }
                    }
                }
            }), same);
        }

        #[test]
        fn one_more_policy_grants_only_to_the_isolated_and_isolates_only_the_open(seed: u64) {
            let before = generate::cluster(seed, &Profile::kubernetes());
            let mut after = before.clone();
            let other = generate::cluster(!seed, &Profile::kubernetes());
            for (id, policy) in other.policies.into_iter().take(1) {
                after.policies.insert(PolicyId { name: format!("zz-{}", id.name), ..id }, policy);
            }
            let (old, new) = (Evaluator::new(&before), Evaluator::new(&after));
            for flow in generate::probes(seed, &before, 200) {
                let (old, new) = (old.verdict(&flow).unwrap(), new.verdict(&flow).unwrap());
                for (old, new) in [(old.egress, new.egress), (old.ingress, new.ingress)] {
                    let (Some(old), Some(new)) = (old, new) else { continue };
                    match old.reason {
                        Reason::NotIsolated => prop_assert!(old.allow),
                        Reason::OwnNode | Reason::Rule { .. } | Reason::EndOfTier { .. } | Reason::Passed => {
                            prop_assert!(new.allow || !old.allow, "{}: {} then {}", flow, old, new);
                        }
                    }
                }
            }
        }
    }
}

// Builders.

/// Two nodes; a/one (10.0.0.1, web is 80) and b/host on n1; a/two (10.0.0.2, web is 8080) and b/three (10.0.0.3) on n2.
fn world(policies: &[(PolicyId, Policy)]) -> Cluster {
    let mut world = Cluster::default();
    for number in 1..=2 {
        let addresses = vec![format!("192.168.0.{number}").parse().unwrap()];
        world.nodes.insert(
            NodeName(format!("n{number}")),
            Node {
                labels: Labels::new(),
                addresses,
            },
        );
    }
    for name in ["a", "b"] {
        world.namespaces.insert(
            name.to_owned(),
            Namespace {
                labels: Labels::new(),
            },
        );
    }
    let pods = [
        ("a", "one", "n1", "10.0.0.1", 80),
        ("a", "two", "n2", "10.0.0.2", 8080),
        ("b", "three", "n2", "10.0.0.3", 9),
        ("b", "host", "n1", "192.168.0.1", 9),
    ];
    for (namespace, name, node, address, web) in pods {
        let pod = Pod {
            uid: String::new(),
            created: "2026-01-01T00:00:00Z".to_owned(),
            labels: Labels::new(),
            node: Some(NodeName(node.to_owned())),
            host_network: name == "host",
            finished: false,
            addresses: BTreeSet::from([address.parse().unwrap()]),
            reported: BTreeSet::new(),
            ports: vec![ContainerPort {
                name: Some("web".to_owned()),
                protocol: Protocol::Tcp,
                number: web,
            }],
        };
        world.pods.insert(PodId::new(namespace, name), pod);
    }
    world.policies.extend(policies.iter().cloned());
    world
}

fn policy(
    name: &str,
    namespace: &str,
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
) -> (PolicyId, Policy) {
    let id = PolicyId {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        kind: PolicyKind::NetworkPolicy,
    };
    let subject = PodSelector {
        namespaces: NamespaceScope::Named(namespace.to_owned()),
        pods: LabelSelector::default(),
    };
    (
        id,
        Policy {
            tier: Tier::default_tier(),
            order: 1000,
            subject,
            ingress,
            egress,
        },
    )
}

fn rule(
    action: Action,
    peers: Option<Vec<PeerSelector>>,
    ports: Option<Vec<PortSelector>>,
) -> Rule {
    Rule {
        action,
        peers,
        ports,
    }
}

fn all_pods() -> PeerSelector {
    PeerSelector::Pods(PodSelector {
        namespaces: NamespaceScope::Matching(LabelSelector::default()),
        pods: LabelSelector::default(),
    })
}

fn flow(from: &str, to: &str, port: u16) -> Flow {
    Flow {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        protocol: Transport::Port(Protocol::Tcp),
        port,
        family: Family::V4,
    }
}

fn allowed(world: &Cluster, from: &str, to: &str, port: u16) -> bool {
    verdict(world, &flow(from, to, port)).unwrap().allow
}

fn text(world: &Cluster, from: &str, to: &str, port: u16) -> String {
    verdict(world, &flow(from, to, port)).unwrap().to_string()
}

fn error(world: &Cluster, from: &str, to: &str) -> String {
    verdict(world, &flow(from, to, 80)).unwrap_err().to_string()
}
