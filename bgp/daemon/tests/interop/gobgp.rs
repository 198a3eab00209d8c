//! GoBGP 3.

use std::fmt::Write as _;

use crate::session::Session;
use crate::world::{World, wait_for};

/// Starts one for a session.
pub(crate) fn start(world: &mut World, session: &Session) {
    let config = world.write("gobgp.toml", &config(session));
    let mut arguments = vec![
        "-f",
        &config,
        "--pprof-disable",
        "--api-hosts",
        "127.0.0.1:50051",
    ];
    // Its own routes are told by a program after it has started.
    if session.graceful {
        arguments.push("-r");
    }
    world.start("gobgpd", "gobgpd", &arguments);
    wait_for("GoBGP", || ask(world, &["neighbor"]).contains("Peer"));
    for (on, family, prefix, next_hop) in [
        (session.ipv4, "ipv4", "198.51.100.0/24", "192.0.2.2"),
        (session.ipv6, "ipv6", "2001:db8:beef::/48", "2001:db8::2"),
    ] {
        if on {
            let mut words = vec!["global", "rib", "-a", family, "add", prefix];
            let next_hop = if session.extended_next_hop {
                "2001:db8::2"
            } else {
                next_hop
            };
            words.extend(["nexthop", next_hop]);
            if session.communities {
                words.extend(["community", "65000:1", "large-community", "65000:1:2"]);
            }
            let answer = ask(world, &words);
            assert_eq!(answer, "", "GoBGP takes {prefix}");
        }
    }
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
        bfd: _,
        graceful,
        notification,
        communities: _,
        extended_messages: _,
        extended_next_hop: _,
        add_path,
        reflector,
        many: _,
    } = *session;
    let (ours, own) = session.ends();
    let mut text = format!(
        "[global.config]\nas = {asn}\nrouter-id = \"192.0.2.2\"\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{ours}\"\npeer-as = {our_asn}\n"
    );
    if let Some(password) = password {
        writeln!(text, "auth-password = \"{password}\"").unwrap();
    }
    write!(
        text,
        "[neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 1\n\
         idle-hold-time-after-reset = 1\n\
         [neighbors.transport.config]\nlocal-address = \"{own}\"\n"
    )
    .unwrap();
    for (on, lines) in [
        (
            ttl_security,
            "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n",
        ),
        (
            multihop,
            "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 2\n",
        ),
        (
            graceful,
            "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 20\n",
        ),
        (notification, "notification-enabled = true\n"),
        (reflector, CLIENT),
    ] {
        text.push_str(if on { lines } else { "" });
    }
    for (on, family) in [(ipv4, "ipv4-unicast"), (ipv6, "ipv6-unicast")] {
        if on {
            write!(text, "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n").unwrap();
            if graceful {
                text.push_str("[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n");
            }
            if add_path {
                text.push_str(
                    "[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 4\n",
                );
            }
        }
    }
    if add_path {
        for host in [5, 6] {
            write!(
                text,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"192.0.2.{host}\"\npeer-as = 6500{host}\n\
                 [neighbors.transport.config]\npassive-mode = true\n"
            )
            .unwrap();
        }
    }
    if reflector {
        write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"192.0.2.5\"\npeer-as = {asn}\n\
             [neighbors.transport.config]\npassive-mode = true\n{CLIENT}"
        )
        .unwrap();
    }
    text
}

const CLIENT: &str = "[neighbors.route-reflector.config]\nroute-reflector-client = true\n\
                      route-reflector-cluster-id = \"192.0.2.2\"\n";

fn ask(world: &World, arguments: &[&str]) -> String {
    world.ask_router("gobgp", arguments)
}

pub(crate) fn route(world: &World, prefix: &str) -> String {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    ask(world, &["global", "rib", "-a", family, prefix])
}
