//! FRR 8: bgpd alone, and zebra and bfdd beside it for BFD.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::session::Session;
use crate::world::{World, wait_for};

const FOLDER: &str = "/usr/lib/frr";
pub(crate) const BGPD: &str = "/usr/lib/frr/bgpd";

/// Starts one for a session.
pub(crate) fn start(world: &mut World, session: &Session) {
    let folder = world.path("frr");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let config = world.write("bgpd.conf", &config(session));
    if session.bfd {
        for name in ["zebra", "bfdd"] {
            let socket = folder.join("bfdd.sock");
            let control = ["--bfdctl", socket.to_str().unwrap()];
            let more = if name == "bfdd" { &control[..] } else { &[] };
            start_beside(world, name, more);
        }
    }
    let more = if session.bfd {
        &["-S"][..]
    } else {
        &["-S", "-Z"]
    };
    run(world, "bgpd", BGPD, &config, more);
    let asn = session.our_asn.to_string();
    wait_for("bgpd", || ask(world, "show bgp summary").contains(&asn));
}

/// Starts one that knows its peer by the link alone: zebra sends router advertisements there and takes ours.
pub(crate) fn start_unnumbered(world: &mut World) {
    let folder = world.path("frr");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let config = world.write(
        "bgpd.conf",
        "router bgp 65000\n bgp router-id 192.0.2.2\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n timers bgp 3 9\n neighbor eth0 interface remote-as external\n \
         neighbor eth0 timers connect 1\n \
         address-family ipv4 unicast\n  network 198.51.100.0/24\n exit-address-family\n \
         address-family ipv6 unicast\n  network 2001:db8:beef::/48\n  neighbor eth0 activate\n exit-address-family\n",
    );
    start_beside(world, "zebra", &[]);
    run(world, "bgpd", BGPD, &config, &["-S"]);
    wait_for("bgpd", || ask(world, "show bgp summary").contains("65000"));
}

/// Starts a daemon that bgpd talks to.
fn start_beside(world: &mut World, name: &str, more: &[&str]) {
    run(world, name, &format!("{FOLDER}/{name}"), "/dev/null", more);
    let vty = world.path("frr").join(format!("{name}.vty"));
    wait_for(name, || {
        std::os::unix::net::UnixStream::connect(&vty).is_ok()
    });
}

fn run(world: &mut World, name: &str, program: &str, config: &str, more: &[&str]) {
    let folder = world.path("frr").to_str().unwrap().to_owned();
    let zebra = format!("{folder}/zserv.api");
    let pid = format!("{folder}/{name}.pid");
    let arguments = [
        "-f",
        config,
        "-P",
        "0",
        "--vty_socket",
        &folder,
        "-z",
        &zebra,
        "-i",
        &pid,
        "--log",
        "stdout",
    ];
    world.start(name, program, &[&arguments[..], more].concat());
}

fn config(session: &Session) -> String {
    let Session {
        over_v6: _,
        link_local: _,
        ipv4,
        ipv6,
        our_asn,
        asn,
        password,
        ttl_security,
        multihop,
        bfd,
        graceful,
        notification,
        communities,
        extended_messages: _,
        extended_next_hop,
        add_path,
        reflector,
        many,
    } = *session;
    let (ours, own) = session.ends();
    let next_hop = if extended_next_hop || add_path || reflector {
        "description as it is"
    } else {
        "set ip next-hop 192.0.2.2"
    };
    let marks = if communities {
        " set community 65000:1 additive\n set large-community 65000:1:2 additive\n"
    } else {
        ""
    };
    let mut text = format!(
        "debug bgp neighbor-events\nroute-map NEXT4 permit 10\n {next_hop}\n{marks}\
         route-map ALL permit 10\n route-map NEXT6 permit 10\n set ipv6 next-hop global 2001:db8::2\n\
         router bgp {asn}\n bgp router-id 192.0.2.2\n no bgp ebgp-requires-policy\n\
         no bgp network import-check\n no bgp default ipv4-unicast\n timers bgp 3 9\n\
         neighbor {ours} remote-as {our_asn}\n neighbor {ours} timers connect 1\n\
         neighbor {ours} update-source {own}\n"
    );
    if let Some(password) = password {
        writeln!(text, " neighbor {ours} password {password}").unwrap();
    }
    for (on, line) in [
        (ttl_security, "ttl-security hops 1"),
        (multihop, "ebgp-multihop 2"),
        (bfd, "bfd 3 50 50"),
        (extended_next_hop, "capability extended-nexthop"),
    ] {
        if on {
            writeln!(text, " neighbor {ours} {line}").unwrap();
        }
    }
    if graceful {
        text.push_str(" bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n");
    }
    if notification {
        text.push_str(" bgp graceful-restart notification\n");
    }
    if add_path {
        for host in [5, 6] {
            writeln!(text, " neighbor 192.0.2.{host} remote-as 6500{host}").unwrap();
        }
    }
    if reflector {
        writeln!(text, " neighbor 192.0.2.5 remote-as {asn}").unwrap();
    }
    for (on, family, network, map) in [
        (ipv4, "ipv4", "198.51.100.0/24", "NEXT4"),
        (ipv6, "ipv6", "2001:db8:beef::/48", "NEXT6"),
    ] {
        if on {
            write!(
                text,
                " address-family {family} unicast\n  network {network}\n  neighbor {ours} activate\n  \
                 neighbor {ours} route-map {map} out\n"
            )
            .unwrap();
            if add_path {
                writeln!(text, "  neighbor {ours} addpath-tx-all-paths").unwrap();
                for host in [5, 6] {
                    writeln!(text, "  neighbor 192.0.2.{host} activate").unwrap();
                }
            }
            if reflector {
                for client in [ours, "192.0.2.5"] {
                    writeln!(text, "  neighbor {client} activate").unwrap();
                    writeln!(text, "  neighbor {client} route-reflector-client").unwrap();
                }
            }
            if many {
                for prefix in crate::session::many() {
                    writeln!(text, "  network {prefix}").unwrap();
                }
            }
            text.push_str(" exit-address-family\n");
        }
    }
    text
}

/// What it answers to a command.
pub(crate) fn ask(world: &World, command: &str) -> String {
    let folder = world.path("frr");
    let folder = folder.to_str().unwrap();
    world.ask_router("vtysh", &["--vty_socket", folder, "-c", command])
}

/// Changes its configuration.
pub(crate) fn configure(world: &World, lines: &[&str]) {
    let folder = world.path("frr");
    let mut arguments = vec!["--vty_socket", folder.to_str().unwrap(), "-c", "configure"];
    for line in lines {
        arguments.extend(["-c", line]);
    }
    world.ask_router("vtysh", &arguments);
}

pub(crate) fn route(world: &World, prefix: &str) -> String {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    ask(world, &format!("show bgp {family} unicast {prefix}"))
}
