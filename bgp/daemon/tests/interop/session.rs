//! A session between our daemon and a foreign one, described once for all implementations.

use std::fmt::Write as _;

use crate::world::World;

/// The foreign implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Bird,
    Frr,
    GoBgp,
}

/// What the session is like, seen from both sides.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a line of a configuration, there or not"
)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    /// Over IPv6.
    pub(crate) over_v6: bool,
    /// Between link-local addresses.
    pub(crate) link_local: bool,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    pub(crate) our_asn: u32,
    pub(crate) asn: u32,
    pub(crate) password: Option<&'static str>,
    /// Whether the peer has TTL security.
    pub(crate) ttl_security: bool,
    /// Between loopback addresses.
    pub(crate) multihop: bool,
    pub(crate) bfd: bool,
    /// Whether the peer restarts gracefully and helps others to.
    pub(crate) graceful: bool,
    /// Whether it keeps routes after a NOTIFICATION too (RFC 8538).
    pub(crate) notification: bool,
    /// Whether its IPv4 route has communities 65000:1 and 65000:1:2.
    pub(crate) communities: bool,
    pub(crate) extended_messages: bool,
    /// Whether IPv4 routes have IPv6 next hops.
    pub(crate) extended_next_hop: bool,
    /// Whether it takes and sends several paths, and has sessions with 192.0.2.5 in AS 65005 and 192.0.2.6 in AS 65006.
    pub(crate) add_path: bool,
    /// Whether it reflects between us and 192.0.2.5, which is in its AS as we are.
    pub(crate) reflector: bool,
    /// Whether it has 2,048 more routes with the same attributes to announce.
    pub(crate) many: bool,
}

impl Session {
    pub(crate) const USUAL: Self = Self {
        over_v6: false,
        link_local: false,
        ipv4: true,
        ipv6: false,
        our_asn: 64512,
        asn: 65000,
        password: None,
        ttl_security: false,
        multihop: false,
        bfd: false,
        graceful: false,
        notification: false,
        communities: false,
        extended_messages: false,
        extended_next_hop: false,
        add_path: false,
        reflector: false,
        many: false,
    };

    /// Our address, and the peer's.
    pub(crate) fn ends(&self) -> (&'static str, &'static str) {
        if self.link_local {
            return ("fe80::1", "fe80::2");
        }
        match (self.over_v6, self.multihop) {
            (true, _) => ("2001:db8::1", "2001:db8::2"),
            (false, true) => ("203.0.113.1", "203.0.113.2"),
            (false, false) => ("192.0.2.1", "192.0.2.2"),
        }
    }

    /// Our configuration, with more lines for the peer.
    pub(crate) fn ours(&self, more: &str) -> String {
        let (own, peer) = self.ends();
        let families = match (self.ipv4, self.ipv6) {
            (true, true) => r#""IPv4", "IPv6""#,
            (true, false) => r#""IPv4""#,
            (false, _) => r#""IPv6""#,
        };
        let next_hop = if self.extended_next_hop {
            ""
        } else {
            r#"next-hop = { ipv4 = "192.0.2.1", ipv6 = "2001:db8::1" }"#
        };
        let mut text = format!(
            r#"
asn = {}
router-id = "192.0.2.1"
announce = ["10.0.0.0/26", "fd00::/122"]
{next_hop}
[peers.router]
address = "{peer}"
source = "{own}"
asn = {}
hold-time = 9
families = [{families}]
"#,
            self.our_asn, self.asn
        );
        if self.link_local {
            text.push_str("interface = \"eth0\"\n");
        }
        if let Some(password) = self.password {
            writeln!(text, "password = \"{password}\"").unwrap();
        }
        if self.ttl_security {
            text.push_str("ttl-security = 1\n");
        }
        if self.multihop {
            text.push_str("multihop = 2\n");
        }
        if self.bfd {
            text.push_str("bfd = { interval = 50, multiplier = 3 }\n");
        }
        if self.notification {
            text.push_str("graceful-restart = { notification = true }\n");
        }
        if self.add_path {
            text.push_str("add-path = { receive = true, send = 4 }\n");
        }
        text + more
    }
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Bird, Self::Frr, Self::GoBgp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::GoBgp => "GoBGP",
        }
    }

    /// The Debian package, if it is missing.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let (program, package) = match self {
            Self::Bird => ("bird", "bird2"),
            Self::Frr => (crate::frr::BGPD, "frr"),
            Self::GoBgp => ("gobgpd", "gobgpd"),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let found = folders.any(|folder| folder.join(program).exists());
        (!found).then_some(package)
    }

    /// Starts it. It announces 198.51.100.0/24 and `2001:db8:beef::/48`.
    pub(crate) fn start(self, world: &mut World, session: &Session) {
        match self {
            Self::Bird => crate::bird::start(world, session),
            Self::Frr => crate::frr::start(world, session),
            Self::GoBgp => crate::gobgp::start(world, session),
        }
    }

    /// Kills it without warning.
    pub(crate) fn kill(self, world: &mut World) {
        world.kill(self.process());
    }

    /// What its BGP process is called here.
    pub(crate) fn process(self) -> &'static str {
        match self {
            Self::Bird => "bird",
            Self::Frr => "bgpd",
            Self::GoBgp => "gobgpd",
        }
    }

    /// What it knows of a prefix.
    pub(crate) fn route(self, world: &World, prefix: &str) -> String {
        match self {
            Self::Bird => world.birdc("bird", &format!("show route all {prefix}")),
            Self::Frr => crate::frr::route(world, prefix),
            Self::GoBgp => crate::gobgp::route(world, prefix),
        }
    }

    /// Waits until its route to `prefix` has all of these texts.
    pub(crate) fn learns(self, world: &World, prefix: &str, texts: &[&str]) {
        crate::world::wait_with(
            || format!("{} has {prefix} with {texts:?}", self.name()),
            || {
                let route = self.route(world, prefix);
                texts.iter().all(|text| route.contains(text))
            },
            || self.route(world, prefix),
        );
    }

    /// Waits until it has no route to `prefix` by this next hop.
    pub(crate) fn forgets(self, world: &World, prefix: &str, next_hop: &str) {
        crate::world::wait_with(
            || format!("{} has no {prefix} by {next_hop}", self.name()),
            || !self.route(world, prefix).contains(next_hop),
            || self.route(world, prefix),
        );
    }

    /// Has it shut the session down with a text for us.
    pub(crate) fn shut_down(self, world: &World, text: &str) {
        match self {
            Self::Bird => {
                world.birdc("bird", &format!("disable margay \"{text}\""));
            }
            Self::Frr => crate::frr::configure(
                world,
                &[
                    "router bgp 65000",
                    &format!("neighbor 192.0.2.1 shutdown message {text}"),
                ],
            ),
            Self::GoBgp => {
                world.ask_router(
                    "gobgp",
                    &["neighbor", "192.0.2.1", "shutdown", "--reason", text],
                );
            }
        }
    }

    /// Whether it says that the session is established.
    pub(crate) fn is_established(self, world: &World) -> bool {
        match self {
            Self::Bird => world
                .birdc("bird", "show protocols margay")
                .contains("Established"),
            Self::Frr => crate::frr::ask(world, "show bgp neighbors 192.0.2.1")
                .contains("BGP state = Established"),
            Self::GoBgp => world
                .ask_router("gobgp", &["neighbor", "192.0.2.1"])
                .contains("BGP state = ESTABLISHED"),
        }
    }

    /// Waits until the session is down there, and it keeps our route to `prefix` as one of a speaker that restarts.
    pub(crate) fn keeps(self, world: &World, prefix: &str) {
        let marks = || match self {
            Self::Bird => {
                let said = world.birdc("bird", "show protocols all margay");
                said.contains("Neighbor graceful restart active")
            }
            Self::Frr => self.route(world, prefix).contains("stale"),
            Self::GoBgp => self.route(world, prefix).contains("S*>"),
        };
        crate::world::wait_with(
            || format!("{} keeps {prefix} without a session", self.name()),
            || {
                !self.is_established(world)
                    && marks()
                    && self.route(world, prefix).contains("192.0.2.1")
                    && !self.is_established(world)
            },
            || self.route(world, prefix),
        );
    }

    /// How many UPDATEs it has counted; for those that can take long ones.
    pub(crate) fn updates_in(self, world: &World) -> usize {
        match self {
            Self::Bird => world.log("bird").matches("margay: Got UPDATE").count(),
            Self::Frr => {
                let said = crate::frr::ask(world, "show bgp neighbors 192.0.2.1 json");
                let said: serde_json::Value = serde_json::from_str(&said).unwrap();
                let count = said["192.0.2.1"]["messageStats"]["updatesRecv"].as_u64();
                usize::try_from(count.unwrap()).unwrap()
            }
            Self::GoBgp => unreachable!("GoBGP takes no long messages"),
        }
    }

    /// Waits until it shows the words with which we ended the session.
    pub(crate) fn is_told(self, world: &World, words: &str) {
        match self {
            Self::Bird => world.bird_says("show protocols all margay", words),
            Self::Frr => world.until_logged("bgpd", &[words]),
            Self::GoBgp => world.until_logged("gobgpd", &[words]),
        }
    }

    /// Has it ask us for all routes again.
    pub(crate) fn refresh(self, world: &World) {
        match self {
            Self::Bird => {
                world.birdc("bird", "reload in margay");
            }
            Self::Frr => {
                crate::frr::ask(world, "clear bgp 192.0.2.1 soft in");
            }
            Self::GoBgp => {
                world.ask_router("gobgp", &["neighbor", "192.0.2.1", "softresetin"]);
            }
        }
    }
}

/// 2,048 prefixes, which take more room than a message of 4,096 octets has.
pub(crate) fn many() -> impl Iterator<Item = String> {
    (0..=255).flat_map(|third| (0..8).map(move |last| format!("10.9.{third}.{last}/32")))
}
