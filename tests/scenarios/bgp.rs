//! BGP as its objects say: peers with all their settings, filters, communities, reflectors, restarts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use ipnet::IpNet;
use margay_api::load::Key;
use margay_sync::status::{NodeStatus, ObjectsPage, PeerStatus};
use margay_tests::lab::bird::Dialling;
use margay_tests::lab::clock::{Deadline, wait};
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::ip;
use margay_tests::lab::prober::{Protocol, Shot};
use margay_tests::lab::process::{program, signal};
use margay_tests::lab::settle::PATIENCE;
use margay_tests::lab::topology::ROUTER_ASN;
use margay_tests::lab::traffic::{Kind, Traffic};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bird::{routes, with_bird};
use crate::health;
use crate::support::{alone, gets_through, id, pod, raise, shot, together};

const MILLISECOND: Duration = Duration::from_millis(1);
const EXTERNAL: &str = "203.0.113.9";

#[test]
fn a_peer_with_a_password_says_when_it_is_another_one() {
    let _others = together();
    let mut lab = with_bird(Dialling::Both);
    label(&mut lab, "n1", "rack", "a");
    lab.apply(secret("correct-horse")).unwrap();
    reconfigure(&lab, |text| {
        let session = "protocol bgp node1 {\n";
        text.replace(
            session,
            &format!("{session}  password \"correct-horse\";\n"),
        )
    });
    let settings = json!({
        "nodeSelector": {"matchLabels": {"rack": "a"}},
        "password": {"secretKeyRef": {"name": "tor", "key": "password"}},
    });
    lab.apply(router(&lab, settings)).unwrap();
    let up = |lab: &Lab| {
        wait(
            "the session with a password is up",
            PATIENCE,
            || match peer(lab, "n1", "router")? {
                Some(peer) if peer.state == "Established" => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .unwrap();
    };
    up(&lab);
    wait(
        "the node that is not selected has no such peer",
        PATIENCE,
        || match peer(&lab, "n2", "router")? {
            None => Ok(()),
            Some(peer) => Err(format!("{peer:?}")),
        },
    )
    .unwrap();
    lab.apply(secret("battery-staple")).unwrap();
    lab.wait_read().unwrap();
    lab.bird("restart node1").unwrap();
    wait("the reason is the password", PATIENCE, || {
        match peer(&lab, "n1", "router")? {
            Some(peer) if peer.state != "Established" && said(&peer).contains("password") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    let text = margayctl(&lab, &["bgp", "status", "n1"]);
    assert!(text.contains("password"), "{text}");
    lab.apply(secret("correct-horse")).unwrap();
    up(&lab);
    let text = margayctl(&lab, &["bgp", "peer", "router", "--node", "n1"]);
    assert!(text.contains("Established"), "{text}");
    // Passwords are for root and nobody's eyes.
    let mut shown = text;
    for file in ["controller.log", "nodes/n1/felix.log"] {
        shown += &fs::read_to_string(lab.folder().join(file)).unwrap_or_default();
    }
    for page in ["/objects", "/nodes", "/world", "/status"] {
        shown += &lab.ask_controller::<Value>(page).unwrap().to_string();
    }
    for page in ["/status", "/bgp"] {
        shown += &lab.ask_felix::<Value>("n1", page).unwrap().to_string();
    }
    assert!(
        !shown.contains("horse") && !shown.contains("staple"),
        "{shown}"
    );
    let snapshot = lab.node_folder("n1").join("state/stream.jsonl");
    let mode = fs::metadata(snapshot).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn filters_and_communities_change_no_session() {
    let _others = together();
    let mut lab = with_bird(Dialling::Both);
    let sessions = sessions(&lab);
    let external: IpAddr = EXTERNAL.parse().unwrap();
    let has = |lab: &Lab, wanted: bool| {
        wait("the route beyond is as the filters say", PATIENCE, || {
            let found = ["n1", "n2"].map(|node| routes(lab, node).contains(&external));
            if found == [wanted, wanted] {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .unwrap();
    };
    has(&lab, true);
    lab.apply(json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "BGPFilter", "metadata": {"name": "keep-out"},
        "spec": {
            "import": [{"prefixes": [{"cidr": "203.0.113.0/24", "ge": 32}], "source": "EBGP", "action": "Reject"}],
            "export": [{"family": "IPv4", "set": {"addCommunities": ["64512:99", "64512:1:2"]}}],
        },
    }))
    .unwrap();
    lab.apply(router(&lab, json!({"filters": ["keep-out"]})))
        .unwrap();
    has(&lab, false);
    let other = routes(&lab, "n1");
    assert!(other.contains(&"2001:db8::9".parse().unwrap()), "{other:?}");
    lab.apply(json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "NetworkConfig", "metadata": {"name": "default"},
        "spec": {"bgp": {
            "announcements": [{"cidr": "10.244.0.0/16", "communities": ["64512:77"]}],
            "aggregates": [{"cidr": "10.244.0.0/16", "communities": ["64512:78"]}],
            "serviceRanges": ["10.96.0.0/12"],
        }},
    }))
    .unwrap();
    let address = lab.pod(&id("a")).unwrap().address(true).unwrap();
    wait("BIRD sees the communities", PATIENCE, || {
        let own = lab.bird(&format!("show route for {address} all"));
        let own = own.map_err(|error| error.to_string())?;
        let aggregate = lab.bird("show route 10.244.0.0/16 all");
        let aggregate = aggregate.map_err(|error| error.to_string())?;
        let services = lab.bird("show route 10.96.0.0/12");
        let services = services.map_err(|error| error.to_string())?;
        let all = ["(64512,77)", "(64512,99)", "(64512, 1, 2)"].map(|one| own.contains(one));
        if all == [true; 3] && aggregate.contains("(64512,78)") && services.contains("[node1") {
            Ok(())
        } else {
            Err(format!("{own} {aggregate} {services}"))
        }
    })
    .unwrap();
    nothing_comes_back(&mut lab);
    // A name that no filter has: nothing passes, and the object says why.
    lab.apply(router(&lab, json!({"filters": ["nobody"]})))
        .unwrap();
    wait("BIRD has lost the pods' routes", PATIENCE, || {
        let found = lab.bird(&format!("show route for {address}"));
        let found = found.map_err(|error| error.to_string())?;
        if found.contains("[node1") {
            Err(found)
        } else {
            Ok(())
        }
    })
    .unwrap();
    let page: ObjectsPage = lab.ask_controller("/objects").unwrap();
    let mut objects = page.objects.iter();
    let object = objects.find(|object| object.kind == "BGPPeer").unwrap();
    assert!(
        object.problems[0].contains("there is no BGPFilter `nobody`"),
        "{object:?}"
    );
    lab.apply(router(&lab, json!({}))).unwrap();
    has(&lab, true);
    assert_eq!(self::sessions(&lab), sessions, "no session began anew");
    let text = margayctl(&lab, &["bgp", "routes", EXTERNAL, "--node", "n1"]);
    assert!(
        text.contains("203.0.113.9/32") && text.contains("router"),
        "{text}"
    );
    let (_, metrics) = health::page(&lab, "n1", "/metrics").unwrap();
    for line in [
        "# TYPE margay_bgp_peer_sessions counter\n",
        "margay_bgp_peer_established{peer=\"node-n2\",",
        "margay_bgp_peer_sessions_total{peer=\"router\",",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

#[test]
fn a_switch_to_reflectors_and_back_loses_no_packet() {
    let _machine = alone();
    let mut lab = raise(3, [pod("a", "n2"), pod("b", "n3"), pod("c", "n1")]);
    label(&mut lab, "n1", "margay.io/route-reflector", "true");
    lab.settle().unwrap();
    let flows = [("a", "b"), ("b", "a"), ("c", "b")];
    let flows = flows.map(|(from, to)| shot(&lab, from, to, Protocol::Udp));
    let traffic = Traffic::start(Kind::Datagrams, &flows, MILLISECOND).unwrap();
    let sessions = sessions(&lab);
    lab.apply(topology("Reflectors")).unwrap();
    wait(
        "the clients have no session with each other",
        PATIENCE,
        || match (peer(&lab, "n2", "node-n3")?, peer(&lab, "n3", "node-n2")?) {
            (None, None) => Ok(()),
            some => Err(format!("{some:?}")),
        },
    )
    .unwrap();
    let address = lab.pod(&id("b")).unwrap().address(true).unwrap();
    let page = format!("/bgp/routes/{address}");
    let route: Value = lab.ask_felix("n2", &page).unwrap();
    assert_eq!(route["peer"], "node-n1", "reflected: {route}");
    lab.apply(topology("Mesh")).unwrap();
    wait(
        "the nodes speak with each other, and nobody reflects",
        PATIENCE,
        || {
            let told: Value = lab
                .ask_felix("n1", "/bgp/peers/node-n2/advertised")
                .map_err(|error| error.to_string())?;
            let third = lab
                .topology()
                .node("n3")
                .map_err(|error| error.to_string())?;
            let hops: BTreeSet<String> = third.addresses.iter().map(IpAddr::to_string).collect();
            let told = told.as_array().into_iter().flatten();
            let reflected = told.filter(|path| {
                let hop = path["next_hop"].as_str().unwrap_or_default();
                hops.contains(hop)
            });
            let reflected = reflected.count();
            let up = peer(&lab, "n2", "node-n3")?.is_some_and(|peer| peer.state == "Established");
            if up && reflected == 0 {
                Ok(())
            } else {
                Err(format!("up: {up}, reflected prefixes: {reflected}"))
            }
        },
    )
    .unwrap();
    lab.settle().unwrap();
    traffic.wait_sent(100).unwrap();
    for samples in traffic.stop().unwrap() {
        assert_eq!(samples.lost(), 0, "of {}", samples.sent());
    }
    let after = self::sessions(&lab);
    assert_eq!(
        after["n1"], sessions["n1"],
        "the reflector's own sessions stayed"
    );
}

#[test]
fn with_bird_as_its_helper_felix_is_killed_and_no_packet_is_lost() {
    with_bird_as_its_helper_felix_comes_back(Lab::kill_felix);
}

/// As an upgrade of the `DaemonSet` does it: the old process is asked to end, and another begins with its state.
#[test]
fn with_bird_as_its_helper_felix_is_upgraded_and_no_packet_is_lost() {
    with_bird_as_its_helper_felix_comes_back(|lab, node| {
        let pid = lab.felix_pid(node)?;
        signal(pid, Signal::SIGTERM);
        wait("felix ends when it is asked to", PATIENCE, || {
            // What has ended and was not waited for has no command line any more.
            match fs::read(format!("/proc/{pid}/cmdline")) {
                Ok(line) if !line.is_empty() => Err("it runs".to_owned()),
                Ok(_) | Err(_) => Ok(()),
            }
        })?;
        lab.kill_felix(node)
    });
}

fn with_bird_as_its_helper_felix_comes_back(end: impl Fn(&mut Lab, &str) -> anyhow::Result<()>) {
    let _machine = alone();
    let mut lab = with_bird(Dialling::Both);
    let flows: Vec<Shot> = lab
        .topology()
        .externals
        .iter()
        .map(|external| Shot {
            netns: lab.host(),
            source: Some(*external),
            destination: lab
                .pod(&id("a"))
                .unwrap()
                .address(external.is_ipv4())
                .unwrap(),
            protocol: Protocol::Udp,
            port: 80,
        })
        .collect();
    let traffic = Traffic::start(Kind::Datagrams, &flows, MILLISECOND).unwrap();
    for round in 0..6_u64 {
        end(&mut lab, "n1").unwrap();
        // Away for a moment, or so long that BIRD tries to dial.
        let away = Deadline::after(MILLISECOND * u32::try_from(round * 300).unwrap());
        while !away.is_over() {
            thread::yield_now();
        }
        lab.start_felix("n1").unwrap();
        if round % 2 == 0 {
            lab.wait_ready().unwrap();
        }
    }
    lab.wait_ready().unwrap();
    lab.settle().unwrap();
    traffic.wait_sent(100).unwrap();
    for samples in traffic.stop().unwrap() {
        assert_eq!(samples.lost(), 0, "of {}", samples.sent());
    }
}

/// The new process is there before BFD misses the old one.
#[test]
fn a_node_that_bfd_watches_is_killed_and_no_packet_is_lost() {
    let _machine = alone();
    let mut lab = raise(2, [pod("a", "n1"), pod("b", "n2")]);
    label(&mut lab, "n1", "watch", "this");
    label(&mut lab, "n2", "watch", "this");
    lab.apply(json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "watched"},
        "spec": {
            "nodeSelector": {"matchLabels": {"watch": "this"}}, "peerSelector": {"matchLabels": {"watch": "this"}},
            "bfd": {"intervalMilliseconds": 1000, "multiplier": 5},
        },
    }))
    .unwrap();
    lab.apply(topology("None")).unwrap();
    let seen = |lab: &Lab| {
        wait("BFD is up", PATIENCE, || {
            for (here, there) in [("n1", "node-n2"), ("n2", "node-n1")] {
                let page: Value = lab
                    .ask_felix(here, "/bgp")
                    .map_err(|error| error.to_string())?;
                let peer = &page["peers"][there];
                if peer["state"] != "Established" || peer["bfd"]["state"] != "Up" {
                    return Err(format!("{here}: {peer}"));
                }
            }
            Ok(())
        })
        .unwrap();
    };
    seen(&lab);
    lab.settle().unwrap();
    let before = sessions(&lab)["n1"]["node-n2"].as_u64().unwrap();
    let flows = [("a", "b"), ("b", "a")].map(|(from, to)| shot(&lab, from, to, Protocol::Udp));
    let traffic = Traffic::start(Kind::Datagrams, &flows, MILLISECOND).unwrap();
    for _ in 0..3 {
        lab.kill_felix("n2").unwrap();
        lab.start_felix("n2").unwrap();
        lab.wait_ready().unwrap();
        seen(&lab);
    }
    traffic.wait_sent(100).unwrap();
    for samples in traffic.stop().unwrap() {
        assert_eq!(samples.lost(), 0, "of {}", samples.sent());
    }
    let after = sessions(&lab)["n1"]["node-n2"].as_u64().unwrap();
    assert_eq!(after, before + 3, "each life has one session");
}

pub(crate) fn topology(topology: &str) -> Value {
    json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "NetworkConfig", "metadata": {"name": "default"},
        "spec": {"bgp": {"topology": topology}},
    })
}

fn secret(password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "tor", "namespace": "margay-system"},
        "stringData": {"password": password},
    })
}

/// Nobody has these addresses of announced ranges. What is sent there ends at the node, though it has a default route back
/// to where that came from.
fn nothing_comes_back(lab: &mut Lab) {
    for node in lab.node_names() {
        let command = "route add default via 192.168.0.254".to_owned();
        ip::batch(lab.node(&node).unwrap().name(), &[command]).unwrap();
    }
    let router = lab.router();
    let nft = |words: String| {
        let ask = || Ok(Command::new("nft").arg(&words).output()?);
        let output = router.run(ask).unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let nobody = ["10.96.7.7", "10.244.200.1"];
    nft(format!(
        "add table inet seen; add counter inet seen there; add counter inet seen back; \
         add chain inet seen out {{ type filter hook postrouting priority 0; }}; \
         add chain inet seen in {{ type filter hook prerouting priority -300; }}; \
         add rule inet seen out oifname eth0 ip daddr {{ {0} }} counter name there; \
         add rule inet seen in iifname eth0 ip daddr {{ {0} }} counter name back",
        nobody.join(", ")
    ));
    for address in nobody {
        let shot = Shot {
            netns: lab.host(),
            source: Some(EXTERNAL.parse().unwrap()),
            destination: address.parse().unwrap(),
            protocol: Protocol::Udp,
            port: 80,
        };
        assert!(!gets_through(lab, shot));
    }
    let there = nft("list counter inet seen there".to_owned());
    assert!(!there.contains("packets 0 "), "{there}");
    let back = nft("list counter inet seen back".to_owned());
    assert!(back.contains("packets 0 "), "{back}");
    for node in lab.node_names() {
        let command = "route del default via 192.168.0.254".to_owned();
        ip::batch(lab.node(&node).unwrap().name(), &[command]).unwrap();
    }
}

/// The lab's router as a peer, with further settings.
fn router(lab: &Lab, settings: Value) -> Value {
    let address = lab
        .topology()
        .router
        .iter()
        .map(IpNet::addr)
        .find(IpAddr::is_ipv4);
    let mut spec = json!({"peerAddress": address.unwrap(), "peerASN": ROUTER_ASN});
    for (field, value) in settings.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "BGPPeer",
        "metadata": {"name": "router"}, "spec": spec,
    })
}

pub(crate) fn label(lab: &mut Lab, node: &str, label: &str, value: &str) {
    let key = Key {
        kind: "Node".to_owned(),
        namespace: String::new(),
        name: node.to_owned(),
    };
    let mut document = lab.object(&key).unwrap().clone();
    document["metadata"]["labels"][label] = value.into();
    lab.apply(document).unwrap();
}

/// Changes BIRD's configuration while it runs.
pub(crate) fn reconfigure(lab: &Lab, change: impl Fn(String) -> String) {
    let file = lab.folder().join("bird.conf");
    fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
    lab.bird("configure").unwrap();
}

pub(crate) fn peer(lab: &Lab, node: &str, name: &str) -> Result<Option<PeerStatus>, String> {
    let status: NodeStatus = lab
        .ask_felix(node, "/status")
        .map_err(|error| error.to_string())?;
    Ok(status.peers.get(name).cloned())
}

pub(crate) fn said(peer: &PeerStatus) -> String {
    format!("{} {}", peer.reason, peer.hint)
}

/// How often each session was established, by node.
fn sessions(lab: &Lab) -> Value {
    let mut all = json!({});
    for node in lab.node_names() {
        let page: Value = lab.ask_felix(&node, "/bgp").unwrap();
        for (name, peer) in page["peers"].as_object().unwrap() {
            all[&node][name] = peer["sessions"].clone();
        }
    }
    all
}

fn margayctl(lab: &Lab, arguments: &[&str]) -> String {
    let output = Command::new(program("margayctl").unwrap())
        .arg("--run")
        .arg(lab.folder())
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{complaint}");
    text
}
