use std::io::Write as _;
use std::process::{Command, Stdio};

use margay_policy::model::{
    Action as PolicyAction, Direction, PodId, PolicyId, PolicyKind, Protocol, TierEnd,
};
use margay_policy::node_policy::{
    AddressSetId, Endpoint, Match as PolicyMatch, NodePolicy, Origin, Peer, PortRange, Ports,
    Rule as PolicyRule, RuleList, RuleListId, Service, ServiceSetId, TierRules,
};

use super::*;
use crate::epochs::Touched;
use crate::local::{Attachment, Local, MAX_TIERS, Nat};
use crate::lower::lower;

#[test]
fn a_node_without_pods() {
    golden("empty", &NodePolicy::default(), &Local::default());
}

#[test]
fn an_open_pod_beside_one_whose_policy_is_unknown() {
    let mut policy = NodePolicy::default();
    put_endpoint(&mut policy, "shop/web", None, None);
    let mut local = Local::default();
    attach(
        &mut local,
        "shop/web",
        "mgy0a",
        &["10.244.0.5", "fd00:10:244::5"],
    );
    attach(
        &mut local,
        "shop/new",
        "mgy0b",
        &["10.244.0.6", "fd00:10:244::6"],
    );
    golden("open_and_closed", &policy, &local);
}

#[test]
fn isolated_pods_with_every_kind_of_rule() {
    let mut policy = NodePolicy::default();
    let clients = AddressSetId(0xc1);
    policy.address_sets.insert(
        clients,
        ["10.244.0.5", "10.244.1.9", "fd00:10:244::5"]
            .map(ip)
            .into(),
    );
    policy
        .address_sets
        .insert(AddressSetId(0xc2), ["10.244.7.7"].map(ip).into());
    let service = |address, port| Service {
        address: ip(address),
        protocol: Protocol::Tcp,
        port,
    };
    let services = [service("10.244.1.7", 8080), service("fd00:10:244::7", 8081)];
    policy
        .service_sets
        .insert(ServiceSetId(0x51), services.into());
    let ingress = vec![
        traffic(
            Peer::Set(clients),
            Ports::Ranges(vec![tcp(80, 80), tcp(8000, 8999), udp(0, u16::MAX)]),
        ),
        traffic(Peer::Any, Ports::Ranges(vec![tcp(9100, 9100)])),
        traffic(
            nets(&["192.0.2.0/24", "198.51.100.0/25", "2001:db8::/32"]),
            Ports::Any,
        ),
    ];
    let many = [
        "10.0.0.0/9",
        "10.192.0.0/10",
        "172.16.0.0/12",
        "192.0.2.0/25",
        "192.168.0.0/16",
        "::/0",
    ];
    let egress = vec![
        (
            PolicyMatch::Service(ServiceSetId(0x51)),
            PolicyAction::Allow,
        ),
        traffic(nets(&many), Ports::Ranges(vec![tcp(443, 443)])),
    ];
    put_list(&mut policy, 0xa1, Direction::Ingress, ingress);
    put_list(&mut policy, 0xe1, Direction::Egress, egress);
    put_endpoint(&mut policy, "shop/db", Some(0xa1), Some(0xe1));
    put_endpoint(&mut policy, "shop/web", Some(0xa1), None);
    let mut local = Local::default();
    attach(
        &mut local,
        "shop/db",
        "mgy0c",
        &["10.244.0.7", "fd00:10:244::8"],
    );
    attach(&mut local, "shop/web", "mgy0a", &["10.244.0.5"]);
    local.nat = Nat {
        sources: ["10.244.0.0/16", "fd00:10:244::/56"].map(net).into(),
        pools: ["10.245.0.0/16"].map(net).into(),
        services: ["10.96.0.0/12"].map(net).into(),
    };
    for address in ["10.244.1.9", "fd00:10:244::5"] {
        local.epochs.bump(&Touched::Addresses([ip(address)].into()));
    }
    golden("isolated", &policy, &local);
}

#[test]
fn tiers_with_deny_and_pass() {
    let mut policy = NodePolicy::default();
    let tier = |name: &str, rules: Vec<(PolicyMatch, PolicyAction)>, end| TierRules {
        name: name.to_owned(),
        rules: rules
            .into_iter()
            .enumerate()
            .map(|(rule, (matches, action))| PolicyRule {
                matches,
                action,
                origin: origin(Direction::Ingress, rule),
            })
            .collect(),
        end,
    };
    let bad = nets(&[
        "192.0.2.1/32",
        "192.0.2.3/32",
        "192.0.2.5/32",
        "192.0.2.7/32",
        "192.0.2.9/32",
    ]);
    let any = |action| {
        (
            PolicyMatch::Traffic {
                peer: Peer::Any,
                ports: Ports::Any,
            },
            action,
        )
    };
    let deny = PolicyMatch::Traffic {
        peer: bad,
        ports: Ports::Any,
    };
    let tiers = vec![
        tier(
            "admin",
            vec![(deny, PolicyAction::Deny), any(PolicyAction::Pass)],
            TierEnd::NextTier,
        ),
        tier("baseline", vec![any(PolicyAction::Allow)], TierEnd::Deny),
    ];
    policy.rule_lists.insert(
        RuleListId(0xa2),
        RuleList {
            direction: Direction::Ingress,
            tiers,
        },
    );
    put_endpoint(&mut policy, "shop/web", Some(0xa2), None);
    let mut local = Local::default();
    attach(&mut local, "shop/web", "mgy0a", &["10.244.0.5"]);
    golden("tiers", &policy, &local);
}

#[test]
fn the_kernel_takes_as_many_tiers_as_we_let_in() {
    let mut policy = NodePolicy::default();
    let lists = [(1, Direction::Ingress), (2, Direction::Egress)];
    for (id, direction) in lists {
        let list = RuleList {
            direction,
            tiers: vec![
                TierRules {
                    name: "t".to_owned(),
                    rules: Vec::new(),
                    end: TierEnd::NextTier,
                };
                MAX_TIERS
            ],
        };
        policy.rule_lists.insert(RuleListId(id), list);
    }
    put_endpoint(&mut policy, "shop/web", Some(1), Some(2));
    let mut local = Local::default();
    attach(&mut local, "shop/web", "mgy0a", &["10.244.0.5"]);
    let text = render(&lower(&policy, &local));
    assert!(text.contains(&format!("-{}", MAX_TIERS - 1)), "not closed");
    nft(&["--file", "-"], &text);
}

#[test]
fn comments_hold_nothing_that_nft_could_misread() {
    let rule = Rule {
        matches: Vec::new(),
        action: Action::Verdict(Verdict::Accept),
        comment: "a\"b\\c\nd é".to_owned(),
    };
    assert_eq!(render_rule(&rule), "accept comment \"a?b?c?d é\"");
}

/// Compares with the golden file, and has nft read the text in a network namespace of its own.
fn golden(name: &str, policy: &NodePolicy, local: &Local) {
    let text = render(&lower(policy, local));
    insta::assert_snapshot!(name, text);
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with('#'))
    {
        assert!(
            line.contains("@members") || line.contains("@services"),
            "nft could say: {line}"
        );
    }
    nft(&["--check", "--file", "-"], &text);
}

/// Has nft read a ruleset in a network namespace of its own.
fn nft(arguments: &[&str], text: &str) {
    let mut nft = Command::new("unshare")
        .args(["--net", "nft"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare and nft are installed");
    let mut input = nft.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = nft.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Peer {
    Peer::Cidrs(texts.iter().map(|text| net(text)).collect())
}

fn tcp(first: u16, last: u16) -> PortRange {
    PortRange {
        protocol: Protocol::Tcp,
        first,
        last,
    }
}

fn udp(first: u16, last: u16) -> PortRange {
    PortRange {
        protocol: Protocol::Udp,
        first,
        last,
    }
}

fn traffic(peer: Peer, ports: Ports) -> (PolicyMatch, PolicyAction) {
    (PolicyMatch::Traffic { peer, ports }, PolicyAction::Allow)
}

fn origin(direction: Direction, rule: usize) -> Origin {
    let policy = PolicyId {
        name: "web".into(),
        namespace: "shop".into(),
        kind: PolicyKind::NetworkPolicy,
    };
    Origin {
        policy,
        direction,
        rule,
    }
}

fn put_list(
    policy: &mut NodePolicy,
    id: u128,
    direction: Direction,
    rules: Vec<(PolicyMatch, PolicyAction)>,
) {
    let rules = rules
        .into_iter()
        .enumerate()
        .map(|(rule, (matches, action))| PolicyRule {
            matches,
            action,
            origin: origin(direction, rule),
        })
        .collect();
    let tiers = vec![TierRules {
        name: "default".to_owned(),
        rules,
        end: TierEnd::Deny,
    }];
    policy
        .rule_lists
        .insert(RuleListId(id), RuleList { direction, tiers });
}

fn pod(name: &str) -> PodId {
    PodId::try_from(name.to_owned()).unwrap()
}

fn put_endpoint(policy: &mut NodePolicy, name: &str, ingress: Option<u128>, egress: Option<u128>) {
    let endpoint = Endpoint {
        uid: String::new(),
        addresses: [].into(),
        ingress: ingress.map(RuleListId),
        egress: egress.map(RuleListId),
    };
    policy.endpoints.insert(pod(name), endpoint);
}

fn attach(local: &mut Local, name: &str, link: &str, addresses: &[&str]) {
    let addresses = addresses.iter().map(|address| ip(address)).collect();
    local.attachments.insert(
        pod(name),
        Attachment {
            link: link.to_owned(),
            addresses,
        },
    );
}
