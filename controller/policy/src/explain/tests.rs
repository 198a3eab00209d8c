use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::flow::{End, Family, Transport};
use crate::model::{
    Cluster, ContainerPort, LabelSelector, Namespace, NamespaceScope, PodSelector, Policy,
    PolicyKind, Protocol, Requirement, Tier,
};

#[test]
fn each_rule_says_what_it_wants_and_what_is_in_the_way() {
    let rules = vec![
        rule(
            vec![pods(&[("app", "web")], "shop")],
            vec![PortSelector::Named(Protocol::Tcp, "sql".into())],
        ),
        rule(
            vec![block("10.0.0.0/24", &["10.0.0.2/32"])],
            vec![PortSelector::Range(Protocol::Tcp, 1, 9)],
        ),
    ];
    let cluster = cluster(rules);
    let explanation = Evaluator::new(&cluster)
        .explain(&flow("watch/probe", 80))
        .unwrap();
    assert!(!explanation.verdict.allow);
    assert_eq!(explanation.egress, []);
    let [tried] = explanation.ingress.as_slice() else {
        panic!("{explanation:?}")
    };
    assert_eq!(
        (tried.policy.to_string().as_str(), tried.unclear),
        ("NetworkPolicy shop/db", false)
    );
    assert_eq!(
        tried.rules,
        [
            Trial {
                rule: 0,
                action: Action::Allow,
                peer: check(
                    "from pods app=web in namespace shop",
                    &[
                        "namespace watch is not shop",
                        "pod label app is `probe`, not `web`",
                    ]
                ),
                port: check(
                    "TCP `sql`",
                    &["TCP 80 is not TCP `sql` (`sql` is TCP 5432 on this pod)"]
                ),
            },
            Trial {
                rule: 1,
                action: Action::Allow,
                peer: check(
                    "from 10.0.0.0/24 except 10.0.0.2/32",
                    &["10.0.0.2 is in the exception 10.0.0.2/32",]
                ),
                port: check("TCP 1-9", &["TCP 80 is not TCP 1-9"]),
            },
        ]
    );
    assert_eq!(
        tried.rules.iter().map(Trial::distance).collect::<Vec<_>>(),
        [3, 2]
    );
}

#[test]
fn the_peer_that_comes_closest_speaks_for_all_of_a_rule() {
    let peers = vec![
        pods(&[("app", "web"), ("tier", "front")], "shop"),
        pods(&[("app", "x")], "watch"),
    ];
    let cluster = cluster(vec![rule(peers, Vec::new())]);
    let explanation = Evaluator::new(&cluster)
        .explain(&flow("watch/probe", 80))
        .unwrap();
    let trial = &explanation.ingress[0].rules[0];
    assert_eq!(
        trial.peer,
        check(
            "from pods app=web, tier=front in namespace shop, or pods app=x in namespace watch",
            &["pod label app is `probe`, not `x`"]
        )
    );
    assert_eq!(trial.port, check("no port", &["TCP 80 is not no port"]));
}

#[test]
fn every_requirement_that_fails_is_told() {
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let wanted = [
        Requirement::In("app".into(), values(&["a", "b"])),
        Requirement::In("zone".into(), values(&["x"])),
        Requirement::NotIn("app".into(), values(&["probe", "z"])),
        Requirement::NotIn("zone".into(), values(&["x"])),
        Requirement::Exists("zone".into()),
        Requirement::DoesNotExist("app".into()),
    ];
    let selector = PodSelector {
        namespaces: NamespaceScope::Named("watch".into()),
        pods: LabelSelector {
            requirements: wanted.into(),
        },
    };
    let cluster = cluster(vec![rule(vec![PeerSelector::Pods(selector)], Vec::new())]);
    let explanation = Evaluator::new(&cluster)
        .explain(&flow("watch/probe", 80))
        .unwrap();
    assert_eq!(
        explanation.ingress[0].rules[0].peer,
        check(
            "from pods app in (a, b), zone=x, app notin (probe, z), zone!=x, zone, !app in namespace watch",
            &[
                "pod label app is `probe`, none of (a, b)",
                "pod label zone is absent, not `x`",
                "pod label app is `probe`, which is excluded",
                "pod label zone is absent",
                "pod label app is `probe`, but must be absent",
            ]
        )
    );
}

#[test]
fn nothing_is_told_behind_the_rule_that_decides() {
    let cluster = cluster(vec![
        rule(
            vec![pods(&[("app", "web")], "shop")],
            vec![PortSelector::Protocol(Protocol::Udp)],
        ),
        rule(
            vec![pods(&[], "watch")],
            vec![PortSelector::Protocol(Protocol::Tcp)],
        ),
        rule(
            vec![pods(&[], "shop")],
            vec![PortSelector::Protocol(Protocol::Tcp)],
        ),
    ]);
    let explanation = Evaluator::new(&cluster)
        .explain(&flow("watch/probe", 80))
        .unwrap();
    assert!(explanation.verdict.allow);
    let matches: Vec<bool> = explanation.ingress[0]
        .rules
        .iter()
        .map(Trial::matches)
        .collect();
    assert_eq!(matches, [false, true]);
}

#[test]
fn ends_are_named_for_what_policy_takes_them() {
    let cluster = cluster(Vec::new());
    let evaluator = Evaluator::new(&cluster);
    let kind = |from: &str| evaluator.explain(&flow(from, 80)).unwrap().client.kind;
    assert_eq!(kind("203.0.113.1"), Kind::External);
    assert_eq!(
        kind("192.0.2.1"),
        Kind::Node {
            node: NodeName("n1".into())
        }
    );
    assert_eq!(
        kind("node/n1"),
        Kind::Node {
            node: NodeName("n1".into())
        }
    );
    assert!(
        matches!(kind("10.0.0.2"), Kind::Pod { pod, .. } if pod == PodId::new("watch", "probe"))
    );
}

#[test]
fn a_node_that_reaches_its_own_pod_needs_no_rule() {
    let cluster = cluster(Vec::new());
    let explanation = Evaluator::new(&cluster)
        .explain(&flow("node/n1", 80))
        .unwrap();
    assert!(explanation.verdict.allow);
    assert_eq!(explanation.ingress, []);
}

fn check(wants: &str, misses: &[&str]) -> Check {
    Check {
        wants: wants.to_owned(),
        misses: misses.iter().map(|miss| (*miss).to_owned()).collect(),
    }
}

fn flow(from: &str, port: u16) -> Flow {
    Flow {
        from: from.parse().unwrap(),
        to: End::Pod(PodId::new("shop", "db")),
        protocol: Transport::Port(Protocol::Tcp),
        port,
        family: Family::V4,
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn select(pairs: &[(&str, &str)]) -> LabelSelector {
    let requirement = |(key, value): &(&str, &str)| {
        Requirement::In((*key).to_owned(), BTreeSet::from([(*value).to_owned()]))
    };
    LabelSelector {
        requirements: pairs.iter().map(requirement).collect(),
    }
}

fn pods(pairs: &[(&str, &str)], namespace: &str) -> PeerSelector {
    PeerSelector::Pods(PodSelector {
        namespaces: NamespaceScope::Named(namespace.to_owned()),
        pods: select(pairs),
    })
}

fn block(cidr: &str, except: &[&str]) -> PeerSelector {
    let except = except.iter().map(|hole| hole.parse().unwrap()).collect();
    PeerSelector::Cidr {
        cidr: cidr.parse().unwrap(),
        except,
    }
}

fn rule(peers: Vec<PeerSelector>, ports: Vec<PortSelector>) -> Rule {
    Rule {
        action: Action::Allow,
        peers: Some(peers),
        ports: Some(ports),
    }
}

/// `shop/db` on n1 with a policy of these rules, and `watch/probe`.
fn cluster(ingress: Vec<Rule>) -> Cluster {
    let pod = |address: &str, app: &str| Pod {
        uid: String::new(),
        created: String::new(),
        labels: labels(&[("app", app)]),
        node: Some(NodeName("n1".into())),
        host_network: false,
        finished: false,
        addresses: BTreeSet::from([address.parse().unwrap()]),
        reported: BTreeSet::new(),
        ports: vec![ContainerPort {
            name: Some("sql".into()),
            protocol: Protocol::Tcp,
            number: 5432,
        }],
    };
    let namespace = |team| Namespace {
        labels: labels(&[("team", team)]),
    };
    let policy = Policy {
        tier: Tier::default_tier(),
        order: 1000,
        subject: PodSelector {
            namespaces: NamespaceScope::Named("shop".into()),
            pods: select(&[("app", "db")]),
        },
        ingress: Some(ingress),
        egress: None,
    };
    Cluster {
        nodes: BTreeMap::from([(
            NodeName("n1".into()),
            crate::model::Node {
                labels: Labels::new(),
                addresses: vec!["192.0.2.1".parse().unwrap()],
            },
        )]),
        namespaces: BTreeMap::from([
            ("shop".to_owned(), namespace("shop")),
            ("watch".to_owned(), namespace("ops")),
        ]),
        pods: BTreeMap::from([
            (PodId::new("shop", "db"), pod("10.0.0.1", "db")),
            (PodId::new("watch", "probe"), pod("10.0.0.2", "probe")),
        ]),
        policies: BTreeMap::from([(
            PolicyId {
                name: "db".into(),
                namespace: "shop".into(),
                kind: PolicyKind::NetworkPolicy,
            },
            policy,
        )]),
    }
}
