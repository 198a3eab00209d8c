//! The features, each tried with every peer in the same way.

use std::fmt::Write as _;

use crate::session::{Peer, Session};
use crate::world::World;

type Test = fn(&mut World, Peer);

/// A row of the matrix.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) test: Test,
    /// Peers that cannot do it, and how that is known.
    pub(crate) lack: &'static [(Peer, &'static str)],
}

const NO_NOTIFICATION: &str = "the graceful restart capability in the OPEN of BIRD 2.0.12 begins with 0078: \
     no N bit (4000), and no option sets it";
const NO_ENHANCED: &str =
    "the OPEN of GoBGP 3.10.0 has the capabilities 1, 2, 5, 64, 65 and 73, not 70";
const NO_EXTENDED_MESSAGES: &str =
    "the OPEN of GoBGP 3.10.0 has the capabilities 1, 2, 5, 64, 65 and 73, not 6";
const NO_BFD: &str =
    "GoBGP 3.10.0 has no BFD: neither `gobgpd --help` nor `gobgp neighbor --help` knows the word";

/// Every row.
pub(crate) const ALL: &[Feature] = &[
    feature("IPv4", ipv4),
    feature("IPv6", ipv6),
    feature("both families in one session", dual),
    feature("MD5", md5),
    feature("GTSM", gtsm),
    feature("GR helper", graceful_helper),
    feature("GR restarting", graceful_restart),
    Feature {
        name: "8538",
        test: notification,
        lack: &[(Peer::Bird, NO_NOTIFICATION)],
    },
    feature("reflection", reflection),
    feature("add-path out", paths_out),
    feature("add-path in", paths_in),
    feature("route refresh", refresh),
    Feature {
        name: "enhanced refresh",
        test: enhanced_refresh,
        lack: &[(Peer::GoBgp, NO_ENHANCED)],
    },
    feature("communities", communities),
    Feature {
        name: "extended messages",
        test: extended_messages,
        lack: &[(Peer::GoBgp, NO_EXTENDED_MESSAGES)],
    },
    feature("extended next hop", extended_next_hop),
    feature("prefix limit", prefix_limit),
    feature("4-octet AS", wide_as),
    Feature {
        name: "BFD",
        test: bfd,
        lack: &[(Peer::GoBgp, NO_BFD)],
    },
    feature("multihop", multihop),
    Feature {
        name: "BFD, multihop",
        test: bfd_multihop,
        lack: &[(Peer::GoBgp, NO_BFD)],
    },
    feature("shutdown text", shutdown),
];

const fn feature(name: &'static str, test: Test) -> Feature {
    Feature {
        name,
        test,
        lack: &[],
    }
}

/// Starts both sides and waits for routes both ways.
fn bring_up(world: &mut World, peer: Peer, session: &Session) {
    peer.start(world, session);
    world.start_margay(&session.ours(""));
    world.until_established("router");
    exchanged(world, peer, session);
}

fn exchanged(world: &World, peer: Peer, session: &Session) {
    if session.ipv4 {
        world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
        let own = if session.multihop {
            "203.0.113.1"
        } else {
            "192.0.2.1"
        };
        peer.learns(world, "10.0.0.0/26", &[own]);
    }
    if session.ipv6 {
        world.margay_learns("2001:db8:beef::/48", &["2001:db8::2"]);
        peer.learns(world, "fd00::/122", &["2001:db8::1"]);
    }
}

fn ipv4(world: &mut World, peer: Peer) {
    bring_up(world, peer, &Session::USUAL);
}

fn ipv6(world: &mut World, peer: Peer) {
    let session = Session {
        over_v6: true,
        ipv4: false,
        ipv6: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
}

fn dual(world: &mut World, peer: Peer) {
    let session = Session {
        ipv6: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
}

fn md5(world: &mut World, peer: Peer) {
    let session = Session {
        password: Some("inTheRack"),
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    world.stop_margay();
    for (password, reason) in [
        (Some("another"), "wrong password"),
        (None, "no password here"),
    ] {
        let wrong = Session {
            password,
            ..session
        };
        world.start_margay(&wrong.ours(""));
        world.until_peer("router", reason, |status| {
            let text = status["reason"].as_str().unwrap_or_default();
            text.starts_with(reason) && status["hint"] != ""
        });
        world.kill_margay();
    }
    world.start_margay(&session.ours(""));
    exchanged(world, peer, &session);
}

fn gtsm(world: &mut World, peer: Peer) {
    let session = Session {
        ttl_security: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    peer.kill(world);
    let without = Session {
        ttl_security: false,
        ..session
    };
    peer.start(world, &without);
    world.until_peer("router", "TTL", |status| {
        let text = status["reason"].as_str().unwrap_or_default();
        text.starts_with("TTL too low") && status["hint"] != ""
    });
    peer.kill(world);
    peer.start(world, &session);
    exchanged(world, peer, &session);
}

fn graceful_helper(world: &mut World, peer: Peer) {
    let session = Session {
        graceful: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    peer.kill(world);
    world.until_peer("router", "routes are kept", |status| {
        status["state"] != "Established" && status["notes"].to_string().contains("kept")
    });
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    peer.start(world, &session);
    world.until_peer("router", "nothing stale any more", |status| {
        status["state"] == "Established" && !status["notes"].to_string().contains("kept")
    });
    exchanged(world, peer, &session);
}

fn graceful_restart(world: &mut World, peer: Peer) {
    let session = Session {
        graceful: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    world.kill_margay();
    peer.learns(world, "10.0.0.0/26", &["192.0.2.1"]);
    world.start_margay(&session.ours("").replace("10.0.0.0/26", "10.0.0.64/26"));
    world.until_established("router");
    peer.learns(world, "10.0.0.64/26", &["192.0.2.1"]);
    peer.forgets(world, "10.0.0.0/26", "192.0.2.1");
}

fn notification(world: &mut World, peer: Peer) {
    let session = Session {
        graceful: true,
        notification: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    // The peer falls silent: our hold timer runs out, and its routes stay nevertheless.
    world.signal(peer.process(), "-STOP");
    world.until_peer("router", "routes are kept", |status| {
        let reason = status["reason"].as_str().unwrap_or_default();
        reason.contains("hold timer expired") && status["notes"].to_string().contains("kept")
    });
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    world.signal(peer.process(), "-CONT");
    world.until_peer("router", "nothing stale any more", |status| {
        status["state"] == "Established" && !status["notes"].to_string().contains("kept")
    });
    exchanged(world, peer, &session);
}

/// We reflect between the peer and another speaker.
fn reflection(world: &mut World, peer: Peer) {
    let session = Session {
        asn: 64512,
        ..Session::USUAL
    };
    peer.start(world, &session);
    let client = "reflector-client = true\nexport = \"all\"\n";
    let second = "[peers.second]\naddress = \"192.0.2.5\"\nasn = 64512\npassive = true\nreflector-client = true\nexport = \"all\"\n";
    world.start_margay(&session.ours(&format!("{client}{second}")));
    world.start_another(
        5,
        "asn = 64512\nannounce = [\"198.18.0.0/24\"]\n\
         [peers.main]\naddress = \"192.0.2.1\"\nasn = 64512\nsource = \"192.0.2.5\"\n",
    );
    world.until_established("router");
    world.until_established("second");
    // RFC 4456 §8: who began it, and which cluster it has passed.
    world.until_path("another5.sock", "198.51.100.0/24", "reflected", |paths| {
        paths[0]["originator_id"] == "192.0.2.2"
            && paths[0]["cluster_list"] == serde_json::json!(["192.0.2.1"])
            && paths[0]["next_hop"] == "192.0.2.2"
    });
    peer.learns(world, "198.18.0.0/24", &["192.0.2.5", "192.0.2.1"]);
}

fn others(world: &mut World, address: &str, asn: u32) {
    for host in [5, 6] {
        let config = format!(
            "asn = 6500{host}\nannounce = [\"198.18.0.0/24\"]\n\
             [peers.main]\naddress = \"{address}\"\nasn = {asn}\nsource = \"192.0.2.{host}\"\nfamilies = [\"IPv4\"]\n"
        );
        world.start_another(host, &config);
    }
}

/// We have two paths and tell both.
fn paths_out(world: &mut World, peer: Peer) {
    let session = Session {
        add_path: true,
        ..Session::USUAL
    };
    peer.start(world, &session);
    let mut more = "export = \"all\"\nnext-hop = \"unchanged\"\n".to_owned();
    for host in [5, 6] {
        write!(
            more,
            "[peers.other{host}]\naddress = \"192.0.2.{host}\"\nasn = 6500{host}\npassive = true\n"
        )
        .unwrap();
    }
    world.start_margay(&session.ours(&more));
    others(world, "192.0.2.1", 64512);
    world.margay_learns("198.18.0.0/24", &["192.0.2.5", "192.0.2.6"]);
    peer.learns(
        world,
        "198.18.0.0/24",
        &["65005", "65006", "192.0.2.5", "192.0.2.6"],
    );
    world.signal("another6", "-TERM");
    peer.forgets(world, "198.18.0.0/24", "65006");
    peer.learns(world, "198.18.0.0/24", &["65005"]);
}

/// The peer has two paths and tells both.
fn paths_in(world: &mut World, peer: Peer) {
    let session = Session {
        add_path: true,
        ..Session::USUAL
    };
    peer.start(world, &session);
    world.start_margay(&session.ours(""));
    others(world, "192.0.2.2", 65000);
    world.until_path("margay.sock", "198.18.0.0/24", "two paths", |paths| {
        let all = paths.to_string();
        paths.as_array().is_some_and(|paths| paths.len() == 2)
            && all.contains("65000 65005")
            && all.contains("65000 65006")
    });
}

fn refresh(world: &mut World, peer: Peer) {
    bring_up(world, peer, &Session::USUAL);
    for _ in 0..3 {
        peer.refresh(world);
    }
    exchanged(world, peer, &Session::USUAL);
    // Now we ask: another filter needs what the first one refused.
    let filter = "import-filter = \"none\"\n[filters.none]\ndefault = \"reject\"\n";
    world.reload_margay(&Session::USUAL.ours(filter));
    world.margay_learns("198.51.100.0/24", &[]);
    world.reload_margay(&Session::USUAL.ours(""));
    exchanged(world, peer, &Session::USUAL);
    let status = world.peer("router").unwrap();
    assert_eq!(status["sessions"], 1, "the same session all the time");
}

fn has_capability(world: &World, name: &str) {
    world.until_peer("router", name, |status| {
        status["capabilities"].to_string().contains(name)
    });
}

fn enhanced_refresh(world: &mut World, peer: Peer) {
    refresh(world, peer);
    has_capability(world, "enhanced route refresh");
}

fn communities(world: &mut World, peer: Peer) {
    let session = Session {
        communities: true,
        ..Session::USUAL
    };
    peer.start(world, &session);
    let more = "[announcements.\"10.7.0.0/26\"]\ncommunities = [\"64512:7\"]\nlarge-communities = [\"64512:1:2\"]\n";
    world.start_margay(&session.ours(more));
    world.until_path("margay.sock", "198.51.100.0/24", "communities", |paths| {
        paths[0]["communities"] == serde_json::json!(["65000:1"])
            && paths[0]["large_communities"] == serde_json::json!(["65000:1:2"])
    });
    let texts = match peer {
        Peer::Bird => ["(64512,7)", "(64512, 1, 2)"],
        Peer::Frr | Peer::GoBgp => ["64512:7", "64512:1:2"],
    };
    peer.learns(world, "10.7.0.0/26", &texts);
}

fn extended_messages(world: &mut World, peer: Peer) {
    let session = Session {
        extended_messages: true,
        ..Session::USUAL
    };
    peer.start(world, &session);
    // More than a message of 4,096 octets holds, all with the same attributes.
    let many: Vec<String> = (0..=255)
        .flat_map(|third| (0..8).map(move |last| format!("\"10.8.{third}.{last}/32\"")))
        .collect();
    let config = session.ours("");
    let config = config.replace(
        "\"10.0.0.0/26\"",
        &format!("\"10.0.0.0/26\", {}", many.join(", ")),
    );
    world.start_margay(&config);
    exchanged(world, peer, &session);
    has_capability(world, "extended messages");
    for prefix in ["10.8.0.0/32", "10.8.128.3/32", "10.8.255.7/32"] {
        peer.learns(world, prefix, &["192.0.2.1"]);
    }
}

fn extended_next_hop(world: &mut World, peer: Peer) {
    let session = Session {
        over_v6: true,
        extended_next_hop: true,
        ..Session::USUAL
    };
    peer.start(world, &session);
    world.start_margay(&session.ours(""));
    world.margay_learns("198.51.100.0/24", &["2001:db8::2"]);
    peer.learns(world, "10.0.0.0/26", &["2001:db8::1"]);
}

fn prefix_limit(world: &mut World, peer: Peer) {
    peer.start(world, &Session::USUAL);
    let limit = "prefix-limits = { IPv4 = { max = 0 } }\n";
    world.start_margay(&Session::USUAL.ours(limit));
    world.until_peer("router", "the limit", |status| {
        let reason = status["reason"].as_str().unwrap_or_default();
        reason.contains("more than 0 IPv4 prefixes") && status["hint"] != ""
    });
    world.reload_margay(&Session::USUAL.ours(""));
    exchanged(world, peer, &Session::USUAL);
}

fn wide_as(world: &mut World, peer: Peer) {
    let session = Session {
        our_asn: 4_200_000_001,
        asn: 4_200_000_002,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    peer.learns(world, "10.0.0.0/26", &["4200000001"]);
}

fn bfd(world: &mut World, peer: Peer) {
    let session = Session {
        bfd: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    world.until_peer("router", "BFD up", |status| status["bfd"]["state"] == "Up");
    world.link("down");
    world.margay_learns("198.51.100.0/24", &[]);
    world.until_peer("router", "lost by BFD", |status| {
        status["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("BFD")
    });
    world.link("up");
    exchanged(world, peer, &session);
    world.until_peer("router", "BFD up", |status| status["bfd"]["state"] == "Up");
}

fn multihop(world: &mut World, peer: Peer) {
    let session = Session {
        multihop: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
}

/// RFC 5883: over a router, and on a port of its own.
fn bfd_multihop(world: &mut World, peer: Peer) {
    let session = Session {
        multihop: true,
        bfd: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    world.until_peer("router", "BFD up", |status| status["bfd"]["state"] == "Up");
    world.link("down");
    world.until_peer("router", "lost by BFD", |status| {
        status["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("BFD")
    });
    world.margay_learns("198.51.100.0/24", &[]);
}

fn shutdown(world: &mut World, peer: Peer) {
    bring_up(world, peer, &Session::USUAL);
    peer.shut_down(world, "maintenance");
    world.until_peer("router", "the peer's words", |status| {
        status["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("maintenance")
    });
    world.margay_learns("198.51.100.0/24", &[]);
}
