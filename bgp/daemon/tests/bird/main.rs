//! Interoperation with BIRD 2, in network namespaces (needs root, `ip` and `bird`).
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod world;

use world::World;

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

const BIRD_START: &str = r"
router id 192.0.2.2;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol static s4 { ipv4; route 198.51.100.0/24 blackhole; }
protocol static s6 { ipv6; route 2001:db8:beef::/48 blackhole; }
template bgp timers {
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
}
";

const BIRD_CHANNELS: &str = r"
  ipv4 { import all; export where source = RTS_STATIC; next hop self; };
  ipv6 { import all; export where source = RTS_STATIC; next hop address 2001:db8::2; };
";

const BIRD_ENDS: &str = "local 192.0.2.2 as 65000; neighbor 192.0.2.1 as 64512;";

/// BIRD with one session for both families, and `more` in its protocol block.
fn bird(more: &str) -> String {
    format!(
        "{BIRD_START}\nprotocol bgp margay from timers {{ {BIRD_ENDS} {BIRD_CHANNELS} {more} }}\n"
    )
}

/// Both sides have each other's routes of both families.
fn routes_are_exchanged(world: &World) {
    world.bird_learns("bird", "10.0.0.0/26", "192.0.2.1");
    world.bird_learns("bird", "fd00::/122", "2001:db8::1");
    world.margay_learns("198.51.100.0/24", &["192.0.2.2"]);
    world.margay_learns("2001:db8:beef::/48", &["2001:db8::2"]);
}

#[test]
fn the_session_comes_up_when_bird_is_there_first() {
    let mut world = World::new();
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    world.until_established("router");
    routes_are_exchanged(&world);
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

#[test]
fn the_session_comes_up_when_we_are_there_first() {
    let mut world = World::new();
    world.start_margay(MARGAY);
    world.until_peer("router", "refused", |peer| {
        peer["reason"] == "cannot connect: connection refused"
    });
    world.start_bird("bird", &bird(""));
    world.until_established("router");
    routes_are_exchanged(&world);
}

#[test]
fn the_session_comes_up_when_only_bird_dials() {
    let mut world = World::new();
    world.start_margay(&format!("{MARGAY}passive = true"));
    world.start_bird("bird", &bird(""));
    world.until_established("router");
    routes_are_exchanged(&world);
}

#[test]
fn the_session_comes_up_when_only_we_dial() {
    let mut world = World::new();
    world.start_bird("bird", &bird("passive;"));
    world.start_margay(MARGAY);
    world.until_established("router");
    routes_are_exchanged(&world);
}

#[test]
fn one_session_per_family() {
    let mut world = World::new();
    let v4 = "ipv4 { import all; export where source = RTS_STATIC; next hop self; };";
    let v6 = "ipv6 { import all; export where source = RTS_STATIC; next hop self; };";
    world.start_bird(
        "bird",
        &format!(
            "{BIRD_START}\nprotocol bgp four from timers {{ {BIRD_ENDS} {v4} }}\n\
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
    routes_are_exchanged(&world);
}

#[test]
fn both_families_over_one_ipv6_session() {
    let mut world = World::new();
    world.start_bird(
        "bird",
        &format!(
            "{BIRD_START}\nprotocol bgp six from timers {{
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
    routes_are_exchanged(&world);
}

#[test]
fn inside_one_as_with_numbers_of_four_octets() {
    let mut world = World::new();
    let bird = bird("");
    let bird = bird
        .replace("64512", "4200000001")
        .replace("65000", "4200000001");
    world.start_bird("bird", &bird);
    let margay = MARGAY
        .replace("64512", "4200000001")
        .replace("65000", "4200000001");
    world.start_margay(&margay);
    routes_are_exchanged(&world);
    let route = world.birdc("bird", "show route all 10.0.0.0/26");
    assert!(route.contains("BGP.local_pref: 100"), "{route}");
}

#[test]
fn a_peer_that_knows_as_numbers_of_two_octets_only() {
    let mut world = World::new();
    world.start_bird("bird", &bird("enable as4 off;"));
    world.start_margay(MARGAY);
    routes_are_exchanged(&world);
    let route = world.birdc("bird", "show route all 10.0.0.0/26");
    assert!(route.contains("BGP.as_path: 64512"), "{route}");
}

#[test]
fn routes_appear_and_vanish_on_both_sides() {
    let mut world = World::new();
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    routes_are_exchanged(&world);

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
    routes_are_exchanged(&world);
}

#[test]
fn bird_keeps_the_routes_of_a_killed_speaker_until_it_is_back_and_says_otherwise() {
    let mut world = World::new();
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    routes_are_exchanged(&world);
    world.kill_margay();
    world.bird_says("show protocols margay", "start");
    world.bird_learns("bird", "10.0.0.0/26", "192.0.2.1");
    world.start_margay(&MARGAY.replace("10.0.0.0/26", "10.0.0.64/26"));
    world.bird_learns("bird", "10.0.0.64/26", "192.0.2.1");
    world.bird_forgets("bird", "10.0.0.0/26");
}

#[test]
fn a_session_that_bird_resets_or_shuts_down_comes_back() {
    let mut world = World::new();
    world.start_bird("bird", &bird(""));
    world.start_margay(MARGAY);
    routes_are_exchanged(&world);

    world.birdc("bird", "restart margay");
    world.margay_learns("198.51.100.0/24", &[]);
    routes_are_exchanged(&world);

    world.birdc("bird", "disable margay \"rack maintenance\"");
    world.until_peer("router", "BIRD's own words", |peer| {
        let reason = peer["reason"].as_str().unwrap_or_default();
        reason.contains("administrative shutdown (6/2): “rack maintenance”")
            && peer["hint"] == "the session is shut down at the peer"
    });
    world.margay_learns("198.51.100.0/24", &[]);
    world.birdc("bird", "enable margay");
    routes_are_exchanged(&world);

    // All routes again on request.
    world.birdc("bird", "reload in margay");
    routes_are_exchanged(&world);
}

#[test]
fn a_session_that_a_cut_link_ended_comes_back() {
    let mut world = World::new();
    let v4 = "ipv4 { import all; export where source = RTS_STATIC; next hop self; };";
    world.start_bird(
        "bird",
        &format!(
            "{BIRD_START}\nprotocol bgp margay from timers {{ {BIRD_ENDS} {v4} hold time 3; }}\n"
        ),
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

#[test]
fn a_prefix_of_two_routers_has_both_next_hops() {
    let mut world = World::new();
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

#[test]
fn as_numbers_that_do_not_fit_are_told_on_our_side() {
    let mut world = World::new();
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
