//! The features, each tried with every peer in the same way.

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

const NO_BFD: &str = "GoBGP 3.10.0 has no BFD: no such word in `gobgpd --help`, its documentation or its configuration";

/// Every row.
pub(crate) const ALL: &[Feature] = &[
    feature("IPv4", ipv4),
    feature("IPv6", ipv6),
    feature("both families in one session", dual),
    feature("MD5", md5),
    feature("GTSM", gtsm),
    feature("GR helper", graceful_helper),
    feature("GR restarting", graceful_restart),
    feature("route refresh", refresh),
    feature("4-octet AS", wide_as),
    Feature {
        name: "BFD",
        test: bfd,
        lack: &[(Peer::GoBgp, NO_BFD)],
    },
    feature("multihop", multihop),
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

fn refresh(world: &mut World, peer: Peer) {
    let session = Session {
        ipv6: true,
        ..Session::USUAL
    };
    bring_up(world, peer, &session);
    for _ in 0..3 {
        peer.refresh(world);
    }
    exchanged(world, peer, &session);
    let status = world.peer("router").unwrap();
    assert_eq!(status["state"], "Established");
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
