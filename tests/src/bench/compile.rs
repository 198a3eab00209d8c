//! The policy compiler: everything from scratch, and one change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use margay_policy::index::Index;
use margay_policy::model::{
    Action, Cluster, ContainerPort, LabelSelector, Labels, Namespace, NamespaceScope, Node,
    NodeName, Object, ObjectKey, PeerSelector, Pod, PodId, PodSelector, Policy, PolicyId,
    PolicyKind, PortSelector, Protocol, Requirement, Rule, Tier,
};

use crate::report::{Report, Row, ms, percentile, time};

const NODES: u32 = 100;
const NAMESPACES: u32 = 100;
const PODS: u32 = 10_000;
const POLICIES: u32 = 1_000;
const ROUNDS: u32 = 200;

/// Full compile, one label changed, one pod added: milliseconds, without a peer.
pub(crate) fn run(report: &mut Report) {
    let cluster = cluster();
    let mut full: Vec<Duration> = (0..5)
        .map(|_| {
            let cluster = cluster.clone();
            time(|| Index::new().reset(cluster)).0
        })
        .collect();
    let mut index = Index::new();
    drop(index.reset(cluster));
    let mut relabelled: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let (id, mut pod) = pod(round * 47 % PODS);
            pod.labels
                .insert("tier".to_owned(), format!("t{}", round % 7));
            time(|| index.apply(Object::Pod(id, pod))).0
        })
        .collect();
    let mut added: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let (id, pod) = pod(PODS + round);
            time(|| index.apply(Object::Pod(id, pod))).0
        })
        .collect();
    let mut deleted: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let key = ObjectKey::Pod(pod(PODS + round).0);
            time(|| index.delete(&key)).0
        })
        .collect();
    for (what, samples, reach) in [
        (
            "full compile, 1,000 policies and 10,000 pods, all nodes",
            &mut full,
            200.0,
        ),
        ("one pod's label changed, p50", &mut relabelled, 1.0),
        ("one pod added, p50", &mut added, 1.0),
        ("one pod deleted, p50", &mut deleted, 1.0),
    ] {
        let ours = ms(percentile(samples, 50));
        report.add(Row {
            what: what.to_owned(),
            ours,
            peer: None,
            peer_name: String::new(),
            unit: "ms",
            reach: format!("≤ {reach} ms"),
            reached: ours <= reach,
        });
    }
}

/// Ten policies a namespace; each lets a tier of its own namespace and a team's namespaces in on a
/// port, and one more tier out.
fn cluster() -> Cluster {
    let nodes = (0..NODES)
        .map(|n| {
            (
                node(n),
                Node {
                    labels: Labels::new(),
                    addresses: vec![Ipv4Addr::from(0xc0a8_0001 + n).into()],
                },
            )
        })
        .collect();
    let namespaces = (0..NAMESPACES)
        .map(|n| {
            (
                namespace(n),
                Namespace {
                    labels: labels(&[("team", format!("team{}", n % 20))]),
                },
            )
        })
        .collect();
    let policies = (0..POLICIES).map(policy).collect();
    Cluster {
        nodes,
        namespaces,
        pods: (0..PODS).map(pod).collect::<BTreeMap<_, _>>(),
        policies,
    }
}

fn node(n: u32) -> NodeName {
    NodeName(format!("n{n}"))
}

fn namespace(n: u32) -> String {
    format!("ns{n}")
}

fn labels(pairs: &[(&str, String)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect()
}

fn pod(n: u32) -> (PodId, Pod) {
    let pod = Pod {
        uid: format!("uid-{n}"),
        created: String::new(),
        labels: labels(&[
            ("app", format!("app{}", n / NAMESPACES % 10)),
            ("tier", format!("t{}", n % 7)),
        ]),
        node: Some(node(n % NODES)),
        host_network: false,
        finished: false,
        addresses: BTreeSet::from([IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n))]),
        reported: BTreeSet::new(),
        ports: vec![ContainerPort {
            name: Some("http".to_owned()),
            protocol: Protocol::Tcp,
            number: 8080,
        }],
    };
    (PodId::new(namespace(n % NAMESPACES), format!("p{n}")), pod)
}

fn policy(n: u32) -> (PolicyId, Policy) {
    let home = namespace(n % NAMESPACES);
    let number = n / NAMESPACES;
    let local = |selector| PodSelector {
        namespaces: NamespaceScope::Named(home.clone()),
        pods: selector,
    };
    let team = PodSelector {
        namespaces: NamespaceScope::Matching(equals("team", format!("team{}", (n + 7) % 20))),
        pods: equals("tier", format!("t{}", n % 7)),
    };
    let allow = |peers: Vec<PodSelector>, port| Rule {
        action: Action::Allow,
        peers: Some(peers.into_iter().map(PeerSelector::Pods).collect()),
        ports: Some(vec![PortSelector::Range(Protocol::Tcp, port, port)]),
    };
    let policy = Policy {
        tier: Tier::default_tier(),
        order: 1000,
        subject: local(equals("app", format!("app{number}"))),
        ingress: Some(vec![allow(
            vec![local(equals("tier", format!("t{}", number % 7))), team],
            8080,
        )]),
        egress: Some(vec![allow(
            vec![local(equals("app", format!("app{}", (number + 1) % 10)))],
            5432,
        )]),
    };
    (
        PolicyId {
            name: format!("policy{n}"),
            namespace: home,
            kind: PolicyKind::NetworkPolicy,
        },
        policy,
    )
}

fn equals(key: &str, value: String) -> LabelSelector {
    LabelSelector {
        requirements: BTreeSet::from([Requirement::In(key.to_owned(), BTreeSet::from([value]))]),
    }
}
