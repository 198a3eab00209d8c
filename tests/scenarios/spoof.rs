//! A pod has its own addresses and no other, whatever it claims.

use std::process::Command;

use margay_sync::status::NodeStatus;
use margay_tests::lab::clock::wait;
use margay_tests::lab::ip;
use margay_tests::lab::prober::Effort;
use margay_tests::lab::prober::{Protocol, Seen, Shot};
use margay_tests::lab::settle::PATIENCE;
use serde_json::json;

use crate::snapshot::nft;
use crate::support::{gets_through, id, only_from, pod, policy, raise, shot_over, together};

#[test]
fn a_pod_cannot_send_with_the_address_of_another() {
    let _others = together();
    let documents = [
        pod("friend", "n1"),
        pod("thief", "n1"),
        pod("server", "n2"),
        only_from("some", "server", &["friend"]),
    ];
    let mut lab = raise(2, documents);
    let friend = lab.pod(&id("friend")).unwrap().clone();
    let thief = lab.pod(&id("thief")).unwrap().clone();
    for v4 in [true, false] {
        let stolen = friend.address(v4).unwrap();
        let length = if v4 { "32" } else { "128 nodad" };
        ip::batch(
            &thief.netns,
            &[format!("addr add {stolen}/{length} dev eth0")],
        )
        .unwrap();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            let mut shot = shot_over(&lab, "thief", "server", protocol, v4);
            shot.source = Some(stolen);
            // The answer would go to the friend: count what arrives instead.
            let before = arrived(&lab, v4);
            assert!(!gets_through(&mut lab, shot));
            assert_eq!(
                arrived(&lab, v4),
                before,
                "{protocol} v4={v4} arrived on the server's node"
            );
        }
    }
}

#[test]
fn a_claim_by_arp_or_neighbour_discovery_diverts_nothing() {
    let _others = together();
    let mut lab = raise(
        1,
        [pod("victim", "n1"), pod("thief", "n1"), pod("client", "n1")],
    );
    let victim = lab.pod(&id("victim")).unwrap().clone();
    let thief = lab.pod_netns(&id("thief")).unwrap();
    // With these, another hardware address announces every address to everyone on the link.
    thief
        .set(&[
            ("net/ipv4/conf/eth0/arp_notify", "1"),
            ("net/ipv6/conf/eth0/ndisc_notify", "1"),
        ])
        .unwrap();
    for v4 in [true, false] {
        let stolen = victim.address(v4).unwrap();
        let length = if v4 { "32" } else { "128 nodad" };
        ip::batch(
            thief.name(),
            &[format!("addr add {stolen}/{length} dev eth0")],
        )
        .unwrap();
    }
    let node = lab.node("n1").unwrap();
    let status: NodeStatus = lab.ask_felix("n1", "/status").unwrap();
    let link = &status.pods[&id("thief")].link;
    let heard = || {
        let links = ip::json(node.name(), &["-s", "link", "show", "dev", link]).unwrap();
        links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    };
    let before = heard();
    let claim = "link set eth0 address 02:00:00:00:00:66".to_owned();
    ip::batch(thief.name(), &[claim]).unwrap();
    // An announcement of each address that it has now.
    wait("the node has heard the claims", PATIENCE, || {
        match heard() - before {
            4.. => Ok(()),
            fewer => Err(format!("{fewer} packets")),
        }
    })
    .unwrap();
    let listener = margay_tests::lab::prober::Listener {
        netns: thief,
        addresses: victim.addresses.clone(),
        ports: [(Protocol::Udp, 7777)].into(),
    };
    lab.prober().unwrap().listen(listener).unwrap();
    for v4 in [true, false] {
        for protocol in [Protocol::Tcp, Protocol::Icmp] {
            let shot = shot_over(&lab, "client", "victim", protocol, v4);
            assert!(
                gets_through(&mut lab, shot),
                "the victim is still reached, {protocol} v4={v4}"
            );
        }
        let node = lab.node("n1").unwrap();
        let family = if v4 { "-4" } else { "-6" };
        let address = victim.address(v4).unwrap().to_string();
        let route = ip::json(node.name(), &[family, "route", "get", &address]).unwrap();
        let neighbours = ip::json(node.name(), &[family, "neigh", "show", "to", &address]).unwrap();
        let link = route[0]["dev"].clone();
        for neighbour in neighbours.as_array().unwrap() {
            assert_eq!(neighbour["dev"], link, "{neighbours}");
        }
    }
}

#[test]
fn the_nodes_own_address_is_no_way_around_a_policy() {
    let _others = together();
    let documents = [
        pod("friend", "n1"),
        pod("stranger", "n1"),
        pod("server", "n1"),
        only_from("some", "server", &["friend"]),
    ];
    let mut lab = raise(1, documents);
    // As a NodePort does: the node's port 8080 is the server's 80, and the client becomes the node.
    for v4 in [true, false] {
        let family = if v4 { "ip" } else { "ip6" };
        let node = *lab.topology().nodes[0]
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == v4)
            .unwrap();
        let server = lab.pod(&id("server")).unwrap().address(v4).unwrap();
        let to = if v4 {
            format!("{server}:80")
        } else {
            format!("[{server}]:80")
        };
        nft(
            &lab,
            "n1",
            &format!(
                "add table {family} port; add chain {family} port pre {{ type nat hook prerouting priority -100; }}; \
                 add chain {family} port post {{ type nat hook postrouting priority 100; }}; \
                 add rule {family} port pre {family} daddr {node} tcp dport 8080 dnat to {to}; \
                 add rule {family} port post {family} daddr {server} tcp dport 80 masquerade"
            ),
        )
        .unwrap();
        for (from, through) in [("friend", true), ("stranger", false)] {
            let mut shot = shot_over(&lab, from, "server", Protocol::Tcp, v4);
            (shot.destination, shot.port) = (node, 8080);
            assert_eq!(gets_through(&mut lab, shot), through, "{from} v4={v4}");
        }
    }
}

#[test]
fn an_isolated_pod_reaches_its_node_only_where_its_policy_says_so() {
    let _others = together();
    let nothing = policy(
        "nothing",
        json!({"podSelector": {"matchLabels": {"app": "closed"}}, "policyTypes": ["Egress"]}),
    );
    let mut lab = raise(1, [pod("open", "n1"), pod("closed", "n1"), nothing]);
    for (from, seen) in [("open", Seen::Through), ("closed", Seen::Silence)] {
        for address in lab.topology().nodes[0].addresses.clone() {
            let record = lab.pod(&id(from)).unwrap();
            let shot = Shot {
                netns: lab.pod_netns(&id(from)).unwrap(),
                source: record.address(address.is_ipv4()),
                destination: address,
                protocol: Protocol::Icmp,
                port: 0,
            };
            let found = lab
                .prober()
                .unwrap()
                .shoot(vec![shot], Effort::default())
                .unwrap();
            assert_eq!(found, std::slice::from_ref(&seen), "{from}");
        }
    }
}

/// Packets that came out of the fabric on the server's node, by family.
fn arrived(lab: &margay_tests::lab::cluster::Lab, v4: bool) -> u64 {
    let netns = lab.pod_netns(&id("server")).unwrap();
    let file = if v4 {
        "/proc/thread-self/net/snmp"
    } else {
        "/proc/thread-self/net/snmp6"
    };
    netns
        .run(|| {
            let output = Command::new("cat")
                .arg(file.replace("thread-self", "self"))
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !v4 {
                let line = text
                    .lines()
                    .find(|line| line.starts_with("Ip6InReceives"))
                    .unwrap_or_default();
                return Ok(line.split_whitespace().nth(1).unwrap_or_default().parse()?);
            }
            let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
            let (names, values) = (
                lines.next().unwrap_or_default(),
                lines.next().unwrap_or_default(),
            );
            let index = names
                .split(' ')
                .position(|name| name == "InReceives")
                .unwrap_or_default();
            Ok(values.split(' ').nth(index).unwrap_or_default().parse()?)
        })
        .unwrap()
}
