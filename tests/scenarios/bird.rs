//! BGP with a router that is not ours: BIRD.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_sync::status::NodeStatus;
use margay_tests::lab::bird::Dialling;
use margay_tests::lab::clock::wait;
use margay_tests::lab::cluster::{Lab, Options};
use margay_tests::lab::ip;
use margay_tests::lab::prober::{Protocol, Shot};
use margay_tests::lab::settle::PATIENCE;

use crate::support::{gets_through, id, pod, pod_at, raise_with, together};

#[test]
fn sessions_come_up_whoever_dials_and_carry_both_families() {
    let _others = together();
    for dialling in [Dialling::Passive, Dialling::Both] {
        let mut lab = with_bird(dialling);
        let text = lab.bird("show protocols all").unwrap();
        assert_eq!(
            text.matches("BGP state:          Established").count(),
            2,
            "{text}"
        );
        for family in ["ipv4", "ipv6"] {
            assert_eq!(
                text.matches(&format!("Channel {family}\n    State:          UP"))
                    .count()
                    / 2,
                2,
                "{text}"
            );
        }
        reaches_beyond(&mut lab);
    }
    // Only BIRD dials: every felix starts after it, and its own attempts are refused by the router's firewall.
    let mut lab = with_bird(Dialling::Both);
    let router = lab.router();
    let rules = "add table inet closed; add chain inet closed in { type filter hook input priority 0; }; \
                 add rule inet closed in tcp dport 179 tcp flags syn / syn,ack reject";
    router
        .run(|| {
            anyhow::ensure!(
                std::process::Command::new("nft")
                    .arg(rules)
                    .status()?
                    .success()
            );
            Ok(())
        })
        .unwrap();
    for node in ["n1", "n2"] {
        lab.kill_felix(node).unwrap();
        lab.start_felix(node).unwrap();
    }
    lab.wait_ready().unwrap();
    reaches_beyond(&mut lab);
}

#[test]
fn routes_come_and_go_with_pods_and_blocks() {
    let _others = together();
    let mut lab = with_bird(Dialling::Both);
    for address in lab.pod(&id("a")).unwrap().addresses.clone() {
        assert!(
            lab.bird(&format!("show route for {address}"))
                .unwrap()
                .contains("[node1"),
            "{address}"
        );
    }
    let own = ["10.99.0.7", "fd00:99::7"];
    lab.apply(pod_at("guest", "n2", &own)).unwrap();
    lab.start_pods(&[id("guest")]).unwrap();
    let shown = |lab: &Lab| -> Vec<bool> {
        own.map(|address| {
            lab.bird(&format!("show route for {address}"))
                .unwrap()
                .contains("[node2")
        })
        .into()
    };
    wait("BIRD has the guest's routes", PATIENCE, || {
        if shown(&lab) == [true, true] {
            Ok(())
        } else {
            Err(format!("{:?}", shown(&lab)))
        }
    })
    .unwrap();
    lab.stop_pods(&[id("guest")]).unwrap();
    wait("BIRD has lost the guest's routes", PATIENCE, || {
        if shown(&lab) == [false, false] {
            Ok(())
        } else {
            Err(format!("{:?}", shown(&lab)))
        }
    })
    .unwrap();
}

#[test]
fn a_session_that_bird_resets_comes_back() {
    let _others = together();
    let mut lab = with_bird(Dialling::Both);
    for command in ["restart node1", "disable node2"] {
        lab.bird(command).unwrap();
    }
    wait("felix says why the session is down", PATIENCE, || {
        let status: NodeStatus = lab
            .ask_felix("n2", "/status")
            .map_err(|error| error.to_string())?;
        let peer = &status.peers["router"];
        if peer.state != "Established" && !peer.reason.is_empty() {
            Ok(())
        } else {
            Err(format!("{peer:?}"))
        }
    })
    .unwrap();
    wait("the routes of the reset session are gone", PATIENCE, || {
        let route = routes(&lab, "n2");
        if route.is_disjoint(&lab.topology().externals) {
            Ok(())
        } else {
            Err(format!("{route:?}"))
        }
    })
    .unwrap();
    lab.bird("enable node2").unwrap();
    lab.wait_ready().unwrap();
    lab.settle().unwrap();
    reaches_beyond(&mut lab);
}

#[test]
fn a_session_over_a_cut_link_comes_back() {
    let _others = together();
    let mut lab = with_bird(Dialling::Both);
    let router = lab.router();
    ip::batch(router.name(), &["link set eth0 down".to_owned()]).unwrap();
    wait("the session is down on both sides", PATIENCE, || {
        let status: NodeStatus = lab
            .ask_felix("n1", "/status")
            .map_err(|error| error.to_string())?;
        let bird = lab
            .bird("show protocols")
            .map_err(|error| error.to_string())?;
        if status.peers["router"].state != "Established" && !bird.contains("Established") {
            return Ok(());
        }
        Err(format!("{:?} {bird}", status.peers["router"]))
    })
    .unwrap();
    ip::batch(router.name(), &["link set eth0 up".to_owned()]).unwrap();
    // A link that goes down takes its IPv6 addresses along.
    let again = lab
        .topology()
        .router_commands()
        .into_iter()
        .filter(|line| line.contains("dev eth0 nodad"));
    ip::batch(router.name(), &again.collect::<Vec<_>>()).unwrap();
    lab.wait_ready().unwrap();
    lab.settle().unwrap();
    reaches_beyond(&mut lab);
}

#[test]
fn pods_reach_the_host_beyond_by_bgp_routes_only() {
    let _others = together();
    let mut lab = with_bird(Dialling::Both);
    reaches_beyond(&mut lab);
    lab.kill_bird().unwrap();
    wait("the nodes have lost the routes", PATIENCE, || {
        let left: Vec<BTreeSet<IpAddr>> = ["n1", "n2"].map(|node| routes(&lab, node)).into();
        if left
            .iter()
            .all(|left| left.is_disjoint(&lab.topology().externals))
        {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .unwrap();
    lab.start_bird(Dialling::Both).unwrap();
    lab.wait_ready().unwrap();
    lab.settle().unwrap();
    reaches_beyond(&mut lab);
}

/// Two nodes, a pod on each, and a host beyond with an address of each family.
pub(crate) fn with_bird(dialling: Dialling) -> Lab {
    let externals = BTreeSet::from([
        "203.0.113.9".parse().unwrap(),
        "2001:db8::9".parse().unwrap(),
    ]);
    let options = Options {
        externals,
        dialling,
        ..Options::default()
    };
    raise_with(2, [pod("a", "n1"), pod("b", "n2")], options)
}

/// Every pod reaches the host beyond and is reached by it, both families.
fn reaches_beyond(lab: &mut Lab) {
    for external in lab.topology().externals.clone() {
        for name in ["a", "b"] {
            let address = lab
                .pod(&id(name))
                .unwrap()
                .address(external.is_ipv4())
                .unwrap();
            let out = Shot {
                netns: lab.pod_netns(&id(name)).unwrap(),
                source: Some(address),
                destination: external,
                protocol: Protocol::Tcp,
                port: 443,
            };
            let back = Shot {
                netns: lab.host(),
                source: Some(external),
                destination: address,
                protocol: Protocol::Udp,
                port: 80,
            };
            assert!(gets_through(lab, out), "{name} reaches {external}");
            assert!(gets_through(lab, back), "{external} reaches {name}");
        }
    }
}

/// Single addresses that a node has routes to.
pub(crate) fn routes(lab: &Lab, node: &str) -> BTreeSet<IpAddr> {
    let netns = lab.node(node).unwrap();
    let mut addresses = BTreeSet::new();
    for family in ["-4", "-6"] {
        let listed = ip::json(netns.name(), &[family, "route", "show"]).unwrap();
        let found = listed
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|route| route["dst"].as_str());
        addresses.extend(found.filter_map(|text| text.parse::<IpAddr>().ok()));
    }
    addresses
}
