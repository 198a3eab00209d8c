//! What is worth a closer look, with BIRD alone: orders of events, changes while running.

use crate::bird::{CHANNELS, ENDS, START};
use crate::session::{Peer, Session};
use crate::world::World;

type Test = fn(&mut World);

/// Every test here.
pub(crate) const ALL: &[(&str, Test)] = &[
    (
        "the session comes up when bird is there first",
        the_session_comes_up_when_bird_is_there_first,
    ),
    (
        "the session comes up when we are there first",
        the_session_comes_up_when_we_are_there_first,
    ),
    (
        "the session comes up when only bird dials",
        the_session_comes_up_when_only_bird_dials,
    ),
    (
        "the session comes up when only we dial",
        the_session_comes_up_when_only_we_dial,
    ),
    ("one session per family", one_session_per_family),
    (
        "both families over one ipv6 session",
        both_families_over_one_ipv6_session,
    ),
    (
        "inside one as with numbers of four octets",
        inside_one_as_with_numbers_of_four_octets,
    ),
    (
        "a peer that knows as numbers of two octets only",
        a_peer_that_knows_as_numbers_of_two_octets_only,
    ),
    (
        "routes appear and vanish on both sides",
        routes_appear_and_vanish_on_both_sides,
    ),
    (
        "bird keeps the routes of a killed speaker until it is back and says otherwise",
        bird_keeps_the_routes_of_a_killed_speaker_until_it_is_back_and_says_otherwise,
    ),
    (
        "a session that bird resets or shuts down comes back",
        a_session_that_bird_resets_or_shuts_down_comes_back,
    ),
    (
        "a session that a cut link ended comes back",
        a_session_that_a_cut_link_ended_comes_back,
    ),
    (
        "a prefix of two routers has both next hops",
        a_prefix_of_two_routers_has_both_next_hops,
    ),
    (
        "as numbers that do not fit are told on our side",
        as_numbers_that_do_not_fit_are_told_on_our_side,
    ),
    (
        "a session between link-local addresses",
        a_session_between_link_local_addresses,
    ),
    (
        "an unnumbered session with bird",
        an_unnumbered_session_with_bird,
    ),
    (
        "an unnumbered session with frr",
        an_unnumbered_session_with_frr,
    ),
    (
        "bfd packets from farther away are nobody's",
        bfd_packets_from_farther_away_are_nobodys,
    ),
    (
        "a route is used while there is a way to its next hop",
        a_route_is_used_while_there_is_a_way_to_its_next_hop,
    ),
];

/// Our daemon: AS 64512, one peer that carries both families over IPv4.
const MARGAY: &str = r#"
asn = 64512
router-id = "192.0.2.1"
announce = ["10.0.0.0/26", "fd00::/122"]
next-hop = { ipv6 = "2001:db8::1" }
[peers.router]
address = "192.0.2.2"
asn = 65000
hold-time = 9
"#;

/// BIRD with one session for both families, and `more` in its protocol block.
fn bird(more: &str) -> String {
    format!("{START}\nprotocol bgp margay from timers {{ {ENDS} {CHANNELS} {more} }}\n")
}

/// Both sides have each other's routes of both families.
fn routes_are_exchanged(world: &World) {
    world.bird_learns("bird", "10.0.0.0/26", "192.0.2.1");
    world.bird_learns("bird", "fd00::/122", "2001:db8::1");
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    world.margay_learns("2001:db8:beef::/48", &["2001:db8::2"]);
}

fn the_session_comes_up_when_bird_is_there_first(world: &mut World) {
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    world.until_established("router");
    routes_are_exchanged(world);
    let peer = world.peer("router").unwrap();
    assert_eq!(peer["families"], serde_json::json!(["IPv4", "IPv6"]));
    assert_eq!(
        (&peer["received"], &peer["announced"]),
        (&2.into(), &2.into())
    );
    assert_eq!(peer["reason"], "");
    assert_eq!(peer["notes"], serde_json::json!([]));
    world.until_peer("router", "End-of-RIB", |peer| {
        peer["end_of_rib"] == serde_json::json!(["IPv4", "IPv6"])
    });
}

fn the_session_comes_up_when_we_are_there_first(world: &mut World) {
    world.start_margay(MARGAY);
    world.until_peer("router", "refused", |peer| {
        peer["reason"] == "cannot connect: connection refused"
    });
    world.start_bird("bird", &bird(""));
    world.until_established("router");
    routes_are_exchanged(world);
}

fn the_session_comes_up_when_only_bird_dials(world: &mut World) {
    world.start_margay(&format!("{MARGAY}passive = true"));
    world.start_bird("bird", &bird(""));
    world.until_established("router");
    routes_are_exchanged(world);
}

fn the_session_comes_up_when_only_we_dial(world: &mut World) {
    world.start_bird("bird", &bird("passive;"));
    world.start_margay(MARGAY);
    world.until_established("router");
    routes_are_exchanged(world);
}

fn one_session_per_family(world: &mut World) {
    let v4 = "ipv4 { import all; export where source = RTS_STATIC; next hop self; };";
    let v6 = "ipv6 { import all; export where source = RTS_STATIC; next hop self; };";
    world.start_bird(
        "bird",
        &format!(
            "{START}\nprotocol bgp four from timers {{ {ENDS} {v4} }}\n\
             protocol bgp six from timers {{ local 2001:db8::2 as 65000; neighbor 2001:db8::1 as 64512; {v6} }}\n"
        ),
    );
    world.start_margay(
        r#"
asn = 64512
router-id = "192.0.2.1"
announce = ["10.0.0.0/26", "fd00::/122"]
[peers.router4]
address = "192.0.2.2"
asn = 65000
families = ["IPv4"]
[peers.router6]
address = "2001:db8::2"
asn = 65000
families = ["IPv6"]
"#,
    );
    world.until_established("router4");
    world.until_established("router6");
    routes_are_exchanged(world);
}

fn both_families_over_one_ipv6_session(world: &mut World) {
    world.start_bird(
        "bird",
        &format!(
            "{START}\nprotocol bgp six from timers {{
               local 2001:db8::2 as 65000; neighbor 2001:db8::1 as 64512;
               ipv4 {{ import all; export where source = RTS_STATIC; next hop address 192.0.2.2; }};
               ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
        ),
    );
    world.start_margay(
        r#"
asn = 64512
router-id = "192.0.2.1"
announce = ["10.0.0.0/26", "fd00::/122"]
next-hop = { ipv4 = "192.0.2.1" }
[peers.router]
address = "2001:db8::2"
asn = 65000
"#,
    );
    routes_are_exchanged(world);
}

fn inside_one_as_with_numbers_of_four_octets(world: &mut World) {
    let bird = bird("");
    let bird = bird
        .replace("64512", "4200000001")
        .replace("65000", "4200000001");
    world.start_bird("bird", &bird);
    let margay = MARGAY
        .replace("64512", "4200000001")
        .replace("65000", "4200000001");
    world.start_margay(&margay);
    routes_are_exchanged(world);
    let route = world.birdc("bird", "show route all 10.0.0.0/26");
    assert!(route.contains("BGP.local_pref: 100"), "{route}");
}

fn a_peer_that_knows_as_numbers_of_two_octets_only(world: &mut World) {
    world.start_bird("bird", &bird("enable as4 off;"));
    world.start_margay(MARGAY);
    routes_are_exchanged(world);
    let route = world.birdc("bird", "show route all 10.0.0.0/26");
    assert!(route.contains("BGP.as_path: 64512"), "{route}");
}

fn routes_appear_and_vanish_on_both_sides(world: &mut World) {
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    routes_are_exchanged(world);

    world.birdc("bird", "disable s4");
    world.margay_learns("198.51.100.0/24", &[]);
    world.margay_learns("2001:db8:beef::/48", &["2001:db8::2"]);
    world.birdc("bird", "enable s4");
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);

    world.reload_margay(&MARGAY.replace("10.0.0.0/26", "10.0.0.64/26"));
    world.bird_learns("bird", "10.0.0.64/26", "192.0.2.1");
    world.bird_forgets("bird", "10.0.0.0/26");
    world.reload_margay(&MARGAY.replace("\"fd00::/122\"", ""));
    world.bird_forgets("bird", "fd00::/122");
    world.bird_learns("bird", "10.0.0.0/26", "192.0.2.1");

    // The same session all the time.
    let log = world.birdc("bird", "show protocols all margay");
    assert!(log.contains("Established"), "{log}");

    world.stop_margay();
    world.bird_forgets("bird", "10.0.0.0/26");
    let log = world.birdc("bird", "show protocols all margay");
    assert!(log.contains("Administrative shutdown"), "{log}");
    world.start_margay(MARGAY);
    routes_are_exchanged(world);
}

fn bird_keeps_the_routes_of_a_killed_speaker_until_it_is_back_and_says_otherwise(
    world: &mut World,
) {
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    routes_are_exchanged(world);
    world.kill_margay();
    world.bird_says("show protocols margay", "start");
    world.bird_learns("bird", "10.0.0.0/26", "192.0.2.1");
    world.start_margay(&MARGAY.replace("10.0.0.0/26", "10.0.0.64/26"));
    world.bird_learns("bird", "10.0.0.64/26", "192.0.2.1");
    world.bird_forgets("bird", "10.0.0.0/26");
}

fn a_session_that_bird_resets_or_shuts_down_comes_back(world: &mut World) {
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    routes_are_exchanged(world);

    world.birdc("bird", "restart margay");
    // It may be back sooner than anybody could see it gone.
    world.until_peer("router", "another session", |peer| {
        peer["state"] == "Established" && peer["sessions"] == 2
    });
    routes_are_exchanged(world);

    world.birdc("bird", "disable margay \"rack maintenance\"");
    world.until_peer("router", "BIRD's own words", |peer| {
        let reason = peer["reason"].as_str().unwrap_or_default();
        reason.contains("administrative shutdown (6/2): “rack maintenance”")
            && peer["hint"] == "the session is shut down at the peer"
    });
    world.margay_learns("198.51.100.0/24", &[]);
    world.birdc("bird", "enable margay");
    routes_are_exchanged(world);

    // All routes again on request.
    world.birdc("bird", "reload in margay");
    routes_are_exchanged(world);
}

fn a_session_that_a_cut_link_ended_comes_back(world: &mut World) {
    let v4 = "ipv4 { import all; export where source = RTS_STATIC; next hop self; };";
    world.start_bird(
        "bird",
        &format!("{START}\nprotocol bgp margay from timers {{ {ENDS} {v4} hold time 3; }}\n"),
    );
    world.start_margay(&MARGAY.replace("hold-time = 9", "hold-time = 3"));
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    world.bird_learns("bird", "10.0.0.0/26", "192.0.2.1");

    world.link("down");
    world.until_peer("router", "the hold timer", |peer| {
        let reason = peer["reason"].as_str().unwrap_or_default();
        reason.contains("hold timer expired: nothing heard for 3 s")
    });
    world.margay_learns("198.51.100.0/24", &[]);
    world.link("up");
    world.until_established("router");
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    world.bird_learns("bird", "10.0.0.0/26", "192.0.2.1");
}

fn a_prefix_of_two_routers_has_both_next_hops(world: &mut World) {
    let second = bird("strict bind;")
        .replace("local 192.0.2.2", "local 192.0.2.3")
        .replace("router id 192.0.2.2", "router id 192.0.2.3")
        .replace(
            "next hop address 2001:db8::2",
            "next hop address 2001:db8::3",
        );
    world.start_bird("bird", &bird("strict bind;"));
    world.start_bird("second", &second);
    let peer = "[peers.second]\naddress = \"192.0.2.3\"\nasn = 65000\n";
    world.start_margay(&format!("{MARGAY}{peer}"));
    world.margay_learns("198.51.100.0/24", &["192.0.2.2", "192.0.2.3"]);
    world.margay_learns("2001:db8:beef::/48", &["2001:db8::2", "2001:db8::3"]);
    world.birdc("second", "disable margay");
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    world.margay_learns("2001:db8:beef::/48", &["2001:db8::2"]);
}

fn as_numbers_that_do_not_fit_are_told_on_our_side(world: &mut World) {
    world.start_bird("bird", &bird("").replace("64512", "64513"));
    world.start_margay(MARGAY);
    world.until_peer("router", "the peer expects another AS", |peer| {
        peer["hint"] == "the peer expects another AS number than ours"
    });
    world.reload_margay(&MARGAY.replace("65000", "65001"));
    world.until_peer("router", "wrong AS", |peer| {
        peer["reason"] == "wrong AS: the peer is in AS 65000, configured is AS 65001"
    });
}

fn a_session_between_link_local_addresses(world: &mut World) {
    let session = Session {
        link_local: true,
        ipv4: false,
        ipv6: true,
        ..Session::USUAL
    };
    Peer::Bird.start(world, &session);
    world.start_margay(&session.ours(""));
    world.until_established("router");
    Peer::Bird.learns(world, "fd00::/122", &["fe80::1"]);
    world.until_path("margay.sock", "2001:db8:beef::/48", "a path", |paths| {
        paths[0]["selected"] == true
    });
}

/// The peer is whoever is the router on our link; next hops of both families are link-local (RFC 8950).
const UNNUMBERED: &str = r#"
asn = 64512
router-id = "192.0.2.1"
announce = ["10.0.0.0/26", "fd00::/122"]
[peers.router]
interface = "eth0"
asn = 65000
hold-time = 9
"#;

fn an_unnumbered_session_with_bird(world: &mut World) {
    world.unnumber();
    world.start_margay(UNNUMBERED);
    world.until_peer("router", "nobody there yet", |peer| {
        peer["reason"] == "no router has been seen on eth0 yet"
    });
    world.start_bird(
        "bird",
        &format!(
            "{START}
             protocol radv {{ interface \"eth0\" {{ min ra interval 3; max ra interval 4; default lifetime 0; }}; }}
             protocol bgp margay from timers {{
               local as 65000; neighbor range fe80::/10 as 64512; interface \"eth0\"; direct;
               ipv4 {{ import all; export where source = RTS_STATIC; extended next hop on; }};
               ipv6 {{ import all; export where source = RTS_STATIC; }}; }}\n"
        ),
    );
    unnumbered_routes(world, Peer::Bird);
}

fn an_unnumbered_session_with_frr(world: &mut World) {
    if Peer::Frr.missing().is_some() {
        return;
    }
    world.unnumber();
    crate::frr::start_unnumbered(world);
    world.start_margay(UNNUMBERED);
    unnumbered_routes(world, Peer::Frr);
}

fn unnumbered_routes(world: &World, peer: Peer) {
    world.until_established("router");
    let address = world.peer("router").unwrap()["address"].clone();
    let router = address.as_str().unwrap();
    assert!(router.starts_with("fe80::"), "{router}");
    world.margay_learns("198.51.100.0/24", &[router]);
    world.margay_learns("2001:db8:beef::/48", &[router]);
    peer.learns(world, "10.0.0.0/26", &["fe80::", "eth0"]);
    peer.learns(world, "fd00::/122", &["fe80::", "eth0"]);
}

/// RFC 5881 §5: on one link a packet must still have the TTL that it began with.
fn bfd_packets_from_farther_away_are_nobodys(world: &mut World) {
    let session = Session {
        bfd: true,
        ..Session::USUAL
    };
    Peer::Bird.start(world, &session);
    world.start_margay(&session.ours(""));
    let up =
        |peer: &serde_json::Value| peer["state"] == "Established" && peer["bfd"]["state"] == "Up";
    world.until_peer("router", "BFD up", up);
    let farther = world.write(
        "farther.nft",
        "add table ip farther; add chain ip farther out { type filter hook output priority 0; };\n\
         add rule ip farther out udp dport 3784 ip ttl set 254\n",
    );
    world.ask_router("nft", &["-f", &farther]);
    world.until_peer("router", "lost by BFD", |peer| {
        let reason = peer["reason"].as_str().unwrap_or_default();
        reason.contains("BFD") && peer["bfd"]["state"] != "Up"
    });
    world.ask_router("nft", &["delete", "table", "ip", "farther"]);
    world.until_peer("router", "BFD up", up);
}

fn a_route_is_used_while_there_is_a_way_to_its_next_hop(world: &mut World) {
    world.start_bird("bird", &bird(""));
    let elsewhere = r#"
import-filter = "elsewhere"
[filters.elsewhere]
default = "accept"
rules = [{ when = { family = "IPv4" }, set = { next-hop = "203.0.113.77" } }]
"#;
    world.start_margay(&format!("track-next-hops = true\n{MARGAY}{elsewhere}"));
    world.until_established("router");
    let learned = |next_hops: &[&str]| world.margay_learns("198.51.100.0/24", next_hops);
    world.margay_learns("2001:db8:beef::/48", &["2001:db8::2"]);
    learned(&[]);
    let route = ["203.0.113.77/32", "via", "192.0.2.2"];
    world.ip_route(&[&["add"], &route[..]].concat());
    learned(&["203.0.113.77"]);
    let paths = world.ask("/bgp/routes").unwrap();
    assert!(paths.to_string().contains("\"selected\":true"), "{paths}");
    world.ip_route(&["replace", "blackhole", "203.0.113.77/32"]);
    learned(&[]);
    world.ip_route(&["del", "blackhole", "203.0.113.77/32"]);
    world.ip_route(&["add", "203.0.113.77/32", "dev", "eth0"]);
    learned(&["203.0.113.77"]);
    world.link("down");
    learned(&[]);
}
