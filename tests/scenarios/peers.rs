//! Each setting of a `BGPPeer` does what it says, and what keeps a session down is told for what it is.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use margay_sync::status::PeerStatus;
use margay_tests::lab::bird::{self, Dialling};
use margay_tests::lab::clock::{now, wait};
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::ip;
use margay_tests::lab::process::{Privilege, spawn};
use margay_tests::lab::settle::PATIENCE;
use serde_json::{Value, json};

use crate::bgp::{label, peer, reconfigure, said, topology};
use crate::bird::{routes, with_bird};
use crate::support::{alone, tell};

/// Where they listen: the lab's own BIRD has the usual port of every address.
const PORT: u16 = 1790;

/// A router on the nodes' switch, at 192.168.0.`host`, with a BIRD of its own.
struct Router {
    host: u8,
    name: &'static str,
    asn: u32,
    /// Lines of BIRD's protocol.
    bird: &'static str,
    /// What it announces: prefix and gateway.
    routes: &'static [(&'static str, &'static str)],
    /// Of the object.
    spec: Value,
    /// What must be said, in this order; nothing: the session is up.
    said: [&'static str; 2],
}

impl Router {
    fn new(host: u8, name: &'static str, bird: &'static str, spec: Value) -> Self {
        Self {
            host,
            name,
            asn: 65100,
            bird,
            routes: &[],
            spec,
            said: [""; 2],
        }
    }

    fn address(&self) -> String {
        format!("192.168.0.{}", self.host)
    }

    /// Its BIRD's configuration.
    fn config(&self) -> String {
        let Self { asn, bird, .. } = self;
        let mut text = format!("router id {0};\nprotocol device {{}}\n", self.address());
        for (prefix, gateway) in self.routes {
            let _ = writeln!(
                text,
                "protocol static {{ ipv4; route {prefix} via {gateway}; }}"
            );
        }
        if bird.contains("bfd on") {
            text += "protocol bfd { interface \"eth0\" { interval 50 ms; multiplier 3; }; }\n";
        }
        let paths = if bird.contains("# paths") {
            "add paths tx;"
        } else {
            ""
        };
        let seen = if bird.contains("neighbor") {
            ""
        } else {
            "neighbor 192.168.0.1 as 64512;"
        };
        let local = self.address();
        let _ = writeln!(
            text,
            "protocol bgp node {{ local {local} port {PORT} as {asn}; {seen} passive; direct; strict bind; hold time 9; error wait time 1, 2;\n \
             {bird}\n ipv4 {{ import all; export all; next hop keep; {paths} }}; }}"
        );
        text
    }

    fn object(&self) -> Value {
        let mut object = json!({
            "apiVersion": "margay.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": self.name},
            "spec": {
                "peerAddress": self.address(), "peerASN": self.asn, "port": PORT, "families": ["IPv4"],
                "nodeSelector": {"matchLabels": {"rack": "a"}},
            },
        });
        for (field, value) in self.spec.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        object
    }
}

fn routers(password_file: &str) -> Vec<Router> {
    let two = &[
        ("198.51.100.0/28", "192.168.0.241"),
        ("198.51.100.0/28", "192.168.0.242"),
    ];
    vec![
        Router::new(201, "gtsm", "ttl security on;", json!({"ttlSecurity": 1})),
        Router {
            said: ["TTL too low", "TTL security (GTSM)"],
            ..Router::new(202, "far", "", json!({"ttlSecurity": 1}))
        },
        Router::new(
            203,
            "local-as",
            "neighbor 192.168.0.1 as 64999;",
            json!({"localAS": {"asn": 64999}}),
        ),
        Router {
            routes: two,
            ..Router::new(
                204,
                "paths",
                "# paths\n",
                json!({"addPath": {"receive": true}}),
            )
        },
        Router {
            routes: &[
                ("198.51.100.16/28", "192.168.0.241"),
                ("198.51.100.32/28", "192.168.0.241"),
            ],
            said: ["the peer announced more than 1 IPv4 prefixes", "limit"],
            ..Router::new(
                205,
                "limit",
                "",
                json!({"prefixLimits": {"IPv4": {"max": 1}}}),
            )
        },
        Router::new(
            206,
            "file",
            "password \"correct-horse\";",
            json!({"password": {"file": password_file}}),
        ),
        Router {
            routes: &[("198.51.100.77/32", "192.168.0.241")],
            ..Router::new(
                207,
                "bfd",
                "bfd on;",
                json!({"bfd": {"intervalMilliseconds": 50, "multiplier": 3}}),
            )
        },
        Router {
            said: [
                "wrong AS: the peer is in AS 65100, configured is AS 65109",
                "AS",
            ],
            ..Router::new(208, "wrong-as", "", json!({"peerASN": 65109}))
        },
        Router {
            asn: 64512,
            said: ["identifier", "identifier"],
            ..Router::new(209, "same-id", "router id 192.168.0.1;", json!({}))
        },
        Router {
            said: ["connection refused", "port"],
            ..Router::new(210, "refused", "", json!({"port": 180}))
        },
        Router {
            said: ["no answer", "password"],
            ..Router::new(
                211,
                "signed",
                "password \"battery-staple\";",
                json!({"password": {"file": password_file}}),
            )
        },
    ]
}

#[test]
fn every_setting_of_a_peer_takes_effect_and_every_mistake_has_its_own_reason() {
    let _machine = alone();
    let mut lab = with_bird(Dialling::Both);
    label(&mut lab, "n1", "rack", "a");
    let file = lab.folder().join("password");
    std::fs::write(&file, "correct-horse\n").unwrap();
    let routers = routers(file.to_str().unwrap());
    let addresses = routers
        .iter()
        .map(|router| format!("addr add {}/24 dev eth0", router.address()));
    ip::batch(lab.router().name(), &addresses.collect::<Vec<_>>()).unwrap();
    let uplink = lab.node("n1").unwrap();
    let uplink = [
        format!(
            "link add up1 type veth peer name up1 netns {}",
            uplink.name()
        ),
        "link set up1 up".to_owned(),
    ];
    ip::batch(lab.router().name(), &uplink).unwrap();
    ip::batch(
        lab.node("n1").unwrap().name(),
        &["link set up1 up".to_owned()],
    )
    .unwrap();
    reconfigure(&lab, |text| text + UNNUMBERED);
    let mut birds = Birds(Vec::new());
    for router in &routers {
        birds.start(&lab, router);
        lab.apply(router.object()).unwrap();
    }
    lab.apply(json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "unnumbered"},
        "spec": {"interface": "up1", "peerASN": 65200, "nodeSelector": {"matchLabels": {"rack": "a"}}},
    }))
    .unwrap();
    wait("every peer is as it should be", PATIENCE, || {
        let mut wrong = String::new();
        for router in &routers {
            match peer(&lab, "n1", router.name)? {
                Some(status) if as_told(&status, router.said) => {}
                other => {
                    let _ = writeln!(wrong, "{}: {other:?}", router.name);
                }
            }
            if let Some(other) = peer(&lab, "n2", router.name)? {
                let _ = writeln!(wrong, "n2 is not selected, and has {other:?}");
            }
        }
        match peer(&lab, "n1", "unnumbered")? {
            Some(status) if as_told(&status, [""; 2]) => {}
            other => {
                let _ = writeln!(wrong, "unnumbered: {other:?}");
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    })
    .unwrap();
    let own = bird::ask(&folder(&lab, "local-as"), "show route all").unwrap();
    assert!(own.contains("BGP.as_path: 64999 64512"), "{own}");
    several_paths_are_one_route(&lab);
    routes_lead_over_the_link(&lab);
    bfd_takes_a_dead_peers_routes_away(&lab);
    nodes_that_a_selector_pairs_are_peers(&mut lab);
}

/// The routers' BIRDs; they end with the value.
struct Birds(Vec<Child>);

impl Birds {
    fn start(&mut self, lab: &Lab, router: &Router) {
        let folder = folder(lab, router.name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("bird.conf"), router.config()).unwrap();
        let mut command = bird::command(&folder);
        let log = folder.join("bird.log");
        let child = spawn(&lab.router(), Privilege::Full, &mut command, &log);
        self.0.push(child.unwrap());
    }
}

impl Drop for Birds {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Both fail only for a process that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The files of a router's BIRD.
fn folder(lab: &Lab, router: &str) -> PathBuf {
    lab.folder().join("routers").join(router)
}

fn as_told(status: &PeerStatus, [reason, hint]: [&str; 2]) -> bool {
    let up = status.state == "Established";
    match reason {
        "" => up,
        _ => !up && status.reason.contains(reason) && status.hint.contains(hint),
    }
}

/// Both gateways of the prefix that came twice.
fn several_paths_are_one_route(lab: &Lab) {
    kernel_route(lab, "-4", "198.51.100.0/28", |route| {
        let hops = route["nexthops"].as_array().into_iter().flatten();
        let hops: Vec<&str> = hops.filter_map(|hop| hop["gateway"].as_str()).collect();
        hops == ["192.168.0.241", "192.168.0.242"]
    });
}

/// BIRD as a router that is known by its link alone, with a route of each family.
const UNNUMBERED: &str = r#"
ipv4 table t_un4;
ipv6 table t_un6;
protocol static un4 { ipv4 { table t_un4; }; route 198.51.100.200/32 blackhole; }
protocol static un6 { ipv6 { table t_un6; }; route 2001:db8:200::/64 blackhole; }
protocol radv { interface "up1" { min ra interval 3; max ra interval 4; default lifetime 0; }; }
protocol bgp r_unnumbered {
  local as 65200; neighbor range fe80::/10 as 64512; interface "up1"; direct; hold time 9;
  ipv4 { table t_un4; import all; export all; extended next hop on; };
  ipv6 { table t_un6; import all; export all; };
}
"#;

/// IPv4 by an IPv6 next hop too (RFC 8950).
fn routes_lead_over_the_link(lab: &Lab) {
    let there = |route: &Value| {
        let gateway = route["via"]["host"].as_str().or(route["gateway"].as_str());
        route["dev"] == "up1" && gateway.is_some_and(|gateway| gateway.starts_with("fe80::"))
    };
    kernel_route(lab, "-4", "198.51.100.200", there);
    kernel_route(lab, "-6", "2001:db8:200::/64", there);
    let found = lab.bird("show route table t_un4").unwrap();
    assert!(found.contains("on up1"), "{found}");
}

fn kernel_route(lab: &Lab, family: &str, prefix: &str, fits: impl Fn(&Value) -> bool) {
    let node = lab.node("n1").unwrap();
    wait("the kernel has the route", PATIENCE, || {
        let found = ip::json(node.name(), &[family, "route", "show", prefix]);
        let found = found.map_err(|error| error.to_string())?;
        if found.as_array().is_some_and(|all| all.iter().any(&fits)) {
            Ok(())
        } else {
            Err(format!("{prefix}: {found}"))
        }
    })
    .unwrap();
}

/// A peer falls silent, as a host that dies: BFD sees it long before the hold time.
fn bfd_takes_a_dead_peers_routes_away(lab: &Lab) {
    let has = || routes(lab, "n1").contains(&"198.51.100.77".parse().unwrap());
    wait("BFD is up and the route there", PATIENCE, || {
        let page: Value = lab
            .ask_felix("n1", "/bgp")
            .map_err(|error| error.to_string())?;
        let state = &page["peers"]["bfd"]["bfd"]["state"];
        if state == "Up" && has() {
            Ok(())
        } else {
            Err(page["peers"]["bfd"].to_string())
        }
    })
    .unwrap();
    let silence = "add table inet dead; \
                   add chain inet dead out { type filter hook output priority 0; }; \
                   add rule inet dead out ip saddr 192.168.0.207 drop";
    let silence = || {
        anyhow::ensure!(Command::new("nft").arg(silence).status()?.success());
        Ok(())
    };
    lab.router().run(silence).unwrap();
    let since = now();
    wait("the route is gone", PATIENCE, || {
        if has() {
            Err("still there".to_owned())
        } else {
            Ok(())
        }
    })
    .unwrap();
    tell(&format!(
        "BFD at 50 ms x 3: the dead peer's route was gone after {:?}",
        now().duration_since(since)
    ));
    // The page follows the kernel.
    wait("the reason is BFD", PATIENCE, || {
        match peer(lab, "n1", "bfd")? {
            Some(status) if said(&status).contains("BFD") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
}

fn nodes_that_a_selector_pairs_are_peers(lab: &mut Lab) {
    label(lab, "n2", "rack", "b");
    lab.apply(json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "racks"},
        "spec": {
            "nodeSelector": {"matchLabels": {"rack": "a"}}, "peerSelector": {"matchLabels": {"rack": "b"}},
            "holdTime": 15,
        },
    }))
    .unwrap();
    lab.apply(topology("None")).unwrap();
    let paired = |lab: &Lab, wanted: bool| {
        wait("the nodes pair as the object says", PATIENCE, || {
            for (here, there) in [("n1", "node-n2"), ("n2", "node-n1")] {
                let page: Value = lab
                    .ask_felix(here, "/bgp")
                    .map_err(|error| error.to_string())?;
                let peer = &page["peers"][there];
                let there = peer["state"] == "Established" && peer["hold_time"] == 15;
                if there != wanted || (!wanted && !peer.is_null()) {
                    return Err(format!("{here}: {peer}"));
                }
            }
            Ok(())
        })
        .unwrap();
    };
    paired(lab, true);
    label(lab, "n2", "rack", "c");
    paired(lab, false);
}
