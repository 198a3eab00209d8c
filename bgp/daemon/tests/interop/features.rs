//! The features, each tried with every peer in the same way.

use std::fmt::Write as _;

use crate::session::{Peer, Session};
use crate::world::World;

type Test = fn(&mut World, Peer);

/// A row of the matrix.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) test: Test,
    /// Peers that cannot do it.
    pub(crate) lack: &'static [Lack],
}

/// Something that a peer cannot do.
pub(crate) struct Lack {
    pub(crate) peer: Peer,
    /// How that is known, for people.
    pub(crate) evidence: &'static str,
    /// Sees it with one's own eyes, and panics once the peer has learnt it.
    pub(crate) proof: Test,
}

const NO_NOTIFICATION: Lack = Lack {
    peer: Peer::Bird,
    evidence: "the graceful restart capability in the OPEN of BIRD 2.0.12 begins with 0078, no N bit (4000), and no \
               option sets it; so its routes go with our hold timer",
    proof: routes_go_with_the_hold_timer,
};
const NO_ENHANCED: Lack = Lack {
    peer: Peer::GoBgp,
    evidence: "the OPEN of GoBGP has no capability 70",
    proof: offers_no_enhanced_refresh,
};
const NO_ASKING: Lack = Lack {
    peer: Peer::GoBgp,
    evidence: "GoBGP has kept what it was told, and counts no ROUTE-REFRESH sent after `gobgp neighbor softresetin`",
    proof: sends_no_refresh,
};
const NO_EXTENDED_MESSAGES: Lack = Lack {
    peer: Peer::GoBgp,
    evidence: "the OPEN of GoBGP has no capability 6",
    proof: offers_no_extended_messages,
};
const NO_BFD: Lack = Lack {
    peer: Peer::GoBgp,
    evidence: "neither `gobgpd --help` nor `gobgp neighbor --help` knows the word BFD",
    proof: knows_no_bfd,
};

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
        lack: &[NO_NOTIFICATION],
    },
    feature("reflection", reflection),
    feature("reflection, as a client", reflected),
    feature("add-path out", paths_out),
    feature("add-path in", paths_in),
    feature("route refresh, we ask", refresh),
    Feature {
        name: "route refresh, the peer asks",
        test: refresh_theirs,
        lack: &[NO_ASKING],
    },
    Feature {
        name: "enhanced refresh",
        test: enhanced_refresh,
        lack: &[NO_ENHANCED],
    },
    feature("communities", communities),
    Feature {
        name: "extended messages",
        test: extended_messages,
        lack: &[NO_EXTENDED_MESSAGES],
    },
    feature("extended next hop", extended_next_hop),
    feature("prefix limit", prefix_limit),
    feature("4-octet AS", wide_as),
    Feature {
        name: "BFD",
        test: bfd,
        lack: &[NO_BFD],
    },
    feature("multihop", multihop),
    Feature {
        name: "BFD, multihop",
        test: bfd_multihop,
        lack: &[NO_BFD],
    },
    feature("shutdown text", shutdown),
    feature("shutdown text, ours", shutdown_ours),
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
    peer.keeps(world, "10.0.0.0/26");
    world.start_margay(&session.ours("").replace("10.0.0.0/26", "10.0.0.64/26"));
    world.until_established("router");
    peer.learns(world, "10.0.0.64/26", &["192.0.2.1"]);
    peer.forgets(world, "10.0.0.0/26", "192.0.2.1");
}

/// RFC 8538: after a NOTIFICATION routes are kept too, by both sides, unless it is a Hard Reset.
fn notification(world: &mut World, peer: Peer) {
    let session = Session {
        graceful: true,
        notification: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    // Nobody of us dials or listens any more: once down, the session stays so until both sides were looked at.
    let alone = format!("listen = []{}", session.ours("passive = true\n"));
    world.reload_margay(&alone);
    world.until_it_listens_nowhere();
    // The peer falls silent: our hold timer runs out, and its routes stay nevertheless.
    world.signal(peer.process(), "-STOP");
    world.until_peer("router", "routes are kept", |status| {
        let reason = status["reason"].as_str().unwrap_or_default();
        reason.contains("hold timer expired") && status["notes"].to_string().contains("kept")
    });
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    world.signal(peer.process(), "-CONT");
    // It has our NOTIFICATION now, and keeps our routes.
    peer.keeps(world, "10.0.0.0/26");
    world.reload_margay(&session.ours(""));
    world.until_peer("router", "nothing stale any more", |status| {
        status["state"] == "Established" && !status["notes"].to_string().contains("kept")
    });
    exchanged(world, peer, &session);
    // An end that is meant is a Hard Reset (§3.1): nothing is kept of it, although 120 s were said.
    world.stop_margay();
    peer.forgets(world, "10.0.0.0/26", "192.0.2.1");
}

/// What 8538 is about does not happen.
fn routes_go_with_the_hold_timer(world: &mut World, peer: Peer) {
    let session = Session {
        graceful: true,
        notification: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    world.signal(peer.process(), "-STOP");
    world.until_peer("router", "the hold timer", |status| {
        let reason = status["reason"].as_str().unwrap_or_default();
        reason.contains("hold timer expired")
    });
    let notes = world.peer("router").unwrap()["notes"].to_string();
    assert!(!notes.contains("kept"), "now it can: {notes}");
    world.margay_learns("198.51.100.0/24", &[]);
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
    let marks = match peer {
        Peer::Bird => [
            "BGP.originator_id: 192.0.2.5",
            "BGP.cluster_list: 192.0.2.1",
        ],
        Peer::Frr => ["Originator: 192.0.2.5", "Cluster list: 192.0.2.1"],
        Peer::GoBgp => ["{Originator: 192.0.2.5}", "{ClusterList: [192.0.2.1]}"],
    };
    peer.learns(world, "198.18.0.0/24", &marks);
}

/// The peer reflects between us and another speaker.
fn reflected(world: &mut World, peer: Peer) {
    let session = Session {
        asn: 64512,
        reflector: true,
        ..Session::USUAL
    };
    peer.start(world, &session);
    world.start_margay(&session.ours(""));
    world.start_another(
        5,
        "asn = 64512\nannounce = [\"198.18.0.0/24\"]\n\
         [peers.main]\naddress = \"192.0.2.2\"\nasn = 64512\nsource = \"192.0.2.5\"\nfamilies = [\"IPv4\"]\n",
    );
    for (socket, prefix, originator) in [
        ("margay.sock", "198.18.0.0/24", "192.0.2.5"),
        ("another5.sock", "10.0.0.0/26", "192.0.2.1"),
    ] {
        world.until_path(socket, prefix, "reflected", |paths| {
            paths[0]["originator_id"] == originator
                && paths[0]["cluster_list"] == serde_json::json!(["192.0.2.2"])
                && paths[0]["selected"] == true
        });
    }
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
    // One goes, by its identifier (RFC 7911 §3).
    world.signal("another6", "-TERM");
    world.until_path("margay.sock", "198.18.0.0/24", "one path", |paths| {
        paths.as_array().is_some_and(|paths| paths.len() == 1)
            && paths[0]["as_path"] == "65000 65005"
    });
}

/// We ask (RFC 2918): another filter needs what the first one refused.
fn refresh(world: &mut World, peer: Peer) {
    bring_up(world, peer, &Session::USUAL);
    let filter = "import-filter = \"none\"\n[filters.none]\ndefault = \"reject\"\n";
    world.reload_margay(&Session::USUAL.ours(filter));
    world.margay_learns("198.51.100.0/24", &[]);
    world.reload_margay(&Session::USUAL.ours(""));
    exchanged(world, peer, &Session::USUAL);
    let status = world.peer("router").unwrap();
    assert_eq!(status["sessions"], 1, "the same session all the time");
}

/// The peer asks: each time it is told all of our routes once more.
fn refresh_theirs(world: &mut World, peer: Peer) {
    bring_up(world, peer, &Session::USUAL);
    for _ in 0..3 {
        let before = world.traffic("router", "updates_out");
        peer.refresh(world);
        world.until_peer("router", "more UPDATEs", |status| {
            status["traffic"]["updates_out"].as_u64() > Some(before)
        });
    }
    let status = world.peer("router").unwrap();
    assert_eq!(status["sessions"], 1, "the same session all the time");
    exchanged(world, peer, &Session::USUAL);
}

fn sends_no_refresh(world: &mut World, peer: Peer) {
    bring_up(world, peer, &Session::USUAL);
    peer.refresh(world);
    let said = world.ask_router("gobgp", &["neighbor", "192.0.2.1"]);
    let mut lines = said.lines();
    let counts = lines.find_map(|line| line.trim().strip_prefix("Route Refresh:"));
    let sent = counts.and_then(|counts| counts.split_whitespace().next());
    assert_eq!(sent, Some("0"), "now it can: {said}");
}

fn has_capability(world: &World, name: &str) {
    world.until_peer("router", name, |status| {
        status["capabilities"].to_string().contains(name)
    });
}

fn lacks_capability(world: &mut World, peer: Peer, session: &Session, name: &str) {
    bring_up(world, peer, session);
    let offered = world.peer("router").unwrap()["capabilities"].to_string();
    assert!(offered.contains("four-octet AS numbers"), "{offered}");
    assert!(!offered.contains(name), "now it can: {offered}");
}

fn offers_no_enhanced_refresh(world: &mut World, peer: Peer) {
    lacks_capability(world, peer, &Session::USUAL, "enhanced route refresh");
}

fn offers_no_extended_messages(world: &mut World, peer: Peer) {
    let session = Session {
        extended_messages: true,
        ..Session::USUAL
    };
    lacks_capability(world, peer, &session, "extended messages");
}

fn knows_no_bfd(world: &mut World, _: Peer) {
    for (program, arguments) in [
        ("gobgpd", &["--help"][..]),
        ("gobgp", &["neighbor", "--help"]),
    ] {
        let said = world.ask_router(program, arguments);
        assert!(said.contains("Usage"), "{said}");
        assert!(!said.to_lowercase().contains("bfd"), "now it can: {said}");
    }
}

/// RFC 7313: an answer has a beginning and an end, in both directions.
fn enhanced_refresh(world: &mut World, peer: Peer) {
    refresh(world, peer);
    has_capability(world, "enhanced route refresh");
    peer.refresh(world);
    // What it asked for and got, and what it answered to us.
    match peer {
        Peer::Bird => world.until_logged(
            "bird",
            &[
                "margay: Sending ROUTE-REFRESH",
                "margay: Got BEGIN-OF-RR",
                "margay: Got END-OF-RR",
                "margay: Got ROUTE-REFRESH",
                "margay: Sending BEGIN-OF-RR",
                "margay: Sending END-OF-RR",
            ],
        ),
        Peer::Frr => world.until_logged(
            "bgpd",
            &[
                "rcvd route-refresh (BoRR)",
                "rcvd route-refresh (EoRR)",
                "sending route-refresh (BoRR)",
                "sending route-refresh (EoRR)",
            ],
        ),
        Peer::GoBgp => unreachable!("GoBGP has no enhanced refresh"),
    }
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

/// RFC 8654: what takes three messages of 4,096 octets comes and goes in one.
fn extended_messages(world: &mut World, peer: Peer) {
    let session = Session {
        extended_messages: true,
        many: true,
        ..Session::USUAL
    };
    peer.start(world, &session);
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
    // And End-of-RIB.
    let heard = peer.updates_in(world);
    assert!(heard <= 2, "{heard} UPDATEs for one set of attributes");
    let (before, most) = match peer {
        Peer::Bird => {
            let before = world.traffic("router", "updates_in");
            world.birdc("bird", "enable many");
            (before, 2)
        }
        // It has said all of them, the one of before and End-of-RIB already.
        Peer::Frr | Peer::GoBgp => (0, 3),
    };
    world.until_peer("router", "all of its routes", |status| {
        status["received"] == 2049
    });
    let told = world.traffic("router", "updates_in") - before;
    assert!(told <= most, "{told} UPDATEs with one set of attributes");
    world.margay_learns("10.9.255.7/32", &["192.0.2.2"]);
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

/// Over a router, which a TTL of 1 would not reach beyond.
fn multihop(world: &mut World, peer: Peer) {
    world.put_router_between();
    let session = Session {
        multihop: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
}

/// RFC 5883: over a router, and on a port of its own.
fn bfd_multihop(world: &mut World, peer: Peer) {
    world.put_router_between();
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

/// RFC 9003, the other way.
fn shutdown_ours(world: &mut World, peer: Peer) {
    bring_up(world, peer, &Session::USUAL);
    world.reload_margay(&Session::USUAL.ours("shutdown = \"new cables in row 7\"\n"));
    peer.is_told(world, "new cables in row 7");
    peer.forgets(world, "10.0.0.0/26", "192.0.2.1");
}
