use std::num::NonZeroU8;
use std::time::Duration;

use margay_bgp::Switch;
use margay_bgp::filter::{Change, Condition, Decision, PrefixMatch, RouteSource, Rule};
use margay_bgp::settings::{
    AddPath, LimitAction, LocalAs, NextHopMode, OldAs, OwnAs, PrefixLimit, PrivateAs, Reflection,
    RestartSettings,
};

use super::*;
use crate::{
    AoAlgorithm, AoKey, BfdSettings, BgpId, Dial, Export, Family, HoldTime, Password, PeerSettings,
    Transport, Ttl,
};

fn complaint(text: &str) -> String {
    parse(Path::new("bgpd.toml"), text).unwrap_err().to_string()
}

const START: &str = "asn = 64512\nrouter-id = \"192.0.2.1\"\n";

#[test]
fn a_small_file_has_the_usual_defaults() {
    let text = format!("{START}[peers.tor]\naddress = \"192.0.2.254\"\nasn = 65000\n");
    let config = parse(Path::new("bgpd.toml"), &text).unwrap();
    let tor = PeerSettings::new("192.0.2.254".parse().unwrap(), Asn(65000));
    let speaker = margay_bgp::Settings {
        peers: BTreeMap::from([("tor".into(), tor)]),
        tell_routes: Switch::Off,
        ..margay_bgp::Settings::new(Asn(64512), BgpId("192.0.2.1".parse().unwrap()))
    };
    let listen = vec!["0.0.0.0:179".parse().unwrap(), "[::]:179".parse().unwrap()];
    let expected = Config {
        settings: Settings {
            transport: BTreeMap::from([("tor".into(), Transport::default())]),
            ..Settings::new(speaker, listen)
        },
        control: None,
        metrics: None,
        files: BTreeSet::new(),
    };
    assert_eq!(config, expected);
}

const EVERYTHING: &str = r#"
asn = 4200000000
router-id = "192.0.2.1"
listen = ["192.0.2.1:1179"]
announce = ["10.0.0.0/26", "fd00::/122"]
control = "/run/bgpd.sock"
metrics = "127.0.0.1:9179"
cluster-id = "192.0.2.9"
ebgp-requires-policy = true
graceful-shutdown = true
honour-graceful-shutdown = false
track-next-hops = true
selection-deferral = { most = 90 }

[next-hop]
ipv4 = "192.0.2.1"
ipv6 = "2001:db8::1"

[best-path]
med = "always"
multipath-ebgp = 4
multipath-ibgp = 2

[announcements."10.1.0.0/26"]
communities = ["64512:7", "no-export"]
large-communities = ["4200000000:1:2"]
extended-communities = ["0002fc0000000001"]
med = 5
local-pref = 200

[aggregates."10.0.0.0/8"]
suppress = true
with = { med = 1 }

[filters.all]
default = "accept"

[peers.tor]
address = "fe80::254"
interface = "eth0"
asn = 65000
port = 1790
hold-time = 9
source = "fe80::1"
passive = true
families = ["IPv6"]
export = "all"
import-filter = "all"
export-filter = "all"
shutdown = "later"
delay-open = 3
graceful-restart = { enabled = false, time = 60, notification = false, long-lived = 3600 }
extended-messages = false
enhanced-refresh = false
extended-next-hop = false
add-path = { receive = true, send = 8 }
reflector-client = true
next-hop = "unchanged"
allow-own-as = 2
local-as = { asn = 65010, hide-real = true }
as-override = true
private-as = "replace"
prefix-limits = { IPv6 = { max = 10, warn-percent = 50, restart-after = 30 } }
keep-received = true
graceful-shutdown = true
password = "secret"
ttl-security = 2
bfd = { interval = 50, multiplier = 5 }

[ranges.nodes]
prefix = "10.9.0.0/16"
asns = [64512, 64513]
limit = 7
peer = { tcp-ao = { key = "range", id = 7, receive-id = 9, algorithm = "aes-128-cmac" }, multihop = 3, next-hop = "self" }
"#;

fn tor() -> PeerSettings {
    PeerSettings {
        address: "fe80::254".parse().unwrap(),
        port: 1790,
        asn: Asn(65000),
        hold_time: HoldTime::from_secs(9),
        source: Some("fe80::1".parse().unwrap()),
        dial: Dial::Passive,
        families: [Family::Ipv6].into(),
        export: Export::All,
        import_filter: Some(Filter::accept_all()),
        export_filter: Some(Filter::accept_all()),
        shut_down: Some("later".to_owned()),
        delay_open: Some(Duration::from_secs(3)),
        restart: RestartSettings {
            graceful: Switch::Off,
            time: 60,
            notification: Switch::Off,
            long_lived: Some(Duration::from_hours(1)),
        },
        extended_messages: Switch::Off,
        enhanced_refresh: Switch::Off,
        extended_next_hop: Switch::Off,
        add_path: AddPath {
            receive: Switch::On,
            send: 8,
        },
        reflection: Reflection::Client,
        next_hop: NextHopMode::Unchanged,
        allow_own_as: 2,
        local_as: Some(LocalAs {
            asn: Asn(65010),
            real: OldAs::Hidden,
        }),
        own_as: OwnAs::Override,
        private_as: PrivateAs::Replace,
        prefix_limits: BTreeMap::from([(
            Family::Ipv6,
            PrefixLimit {
                max: 10,
                warn_percent: 50,
                action: LimitAction::TearDown {
                    restart: Some(Duration::from_secs(30)),
                },
            },
        )]),
        keep_received: Switch::On,
        graceful_shutdown: Switch::On,
    }
}

fn transports() -> (Transport, Transport) {
    let hops = |hops| NonZeroU8::new(hops).unwrap();
    let password = |text: &str| Some(Password::try_from(text.to_owned()).unwrap());
    let transport = Transport {
        password: password("secret"),
        ao: None,
        ttl: Ttl::Security(hops(2)),
        interface: Some("eth0".to_owned()),
        bfd: Some(BfdSettings {
            interval: Duration::from_millis(50),
            multiplier: hops(5),
        }),
    };
    let range_transport = Transport {
        ao: Some(AoKey {
            key: Password::try_from("range".to_owned()).unwrap(),
            send_id: 7,
            receive_id: 9,
            algorithm: AoAlgorithm::Aes128Cmac,
        }),
        ttl: Ttl::Hops(hops(3)),
        ..Transport::default()
    };
    (transport, range_transport)
}

#[test]
fn every_field_counts() {
    let config = parse(Path::new("bgpd.toml"), EVERYTHING).unwrap();
    let details = Details {
        communities: [64512 << 16 | 7, 0xffff_ff01].into(),
        large_communities: [[4_200_000_000, 1, 2]].into(),
        extended_communities: [[0, 2, 0xfc, 0, 0, 0, 0, 1]].into(),
        med: Some(5),
        local_pref: Some(200),
    };
    let aggregate = Aggregate {
        suppress: Switch::On,
        details: Details {
            med: Some(1),
            ..Details::default()
        },
    };
    let range = PeerRange {
        prefix: "10.9.0.0/16".parse().unwrap(),
        asns: [Asn(64512), Asn(64513)].into(),
        template: PeerSettings {
            next_hop: NextHopMode::Own,
            ..PeerSettings::new("10.9.0.0".parse().unwrap(), Asn(64512))
        },
        limit: 7,
    };
    let prefix = |text: &str| text.parse::<IpNet>().unwrap();
    let speaker = margay_bgp::Settings {
        asn: Asn(4_200_000_000),
        bgp_id: BgpId("192.0.2.1".parse().unwrap()),
        next_hops: NextHops {
            v4: Some("192.0.2.1".parse().unwrap()),
            v6: Some("2001:db8::1".parse().unwrap()),
        },
        peers: BTreeMap::from([("tor".into(), tor())]),
        announce: ["10.0.0.0/26", "10.1.0.0/26", "fd00::/122"]
            .map(prefix)
            .into(),
        announcements: BTreeMap::from([(prefix("10.1.0.0/26"), Announcement { details })]),
        aggregates: BTreeMap::from([(prefix("10.0.0.0/8"), aggregate)]),
        cluster_id: Some(BgpId("192.0.2.9".parse().unwrap())),
        best_path: BestPath {
            med: MedComparison::Always,
            multipath_external: 4,
            multipath_internal: 2,
        },
        ranges: BTreeMap::from([("nodes".to_owned(), range)]),
        ebgp_requires_policy: Switch::On,
        graceful_shutdown: Switch::On,
        honour_graceful_shutdown: Switch::Off,
        tell_routes: Switch::Off,
        track_next_hops: Switch::On,
        deferral: Some(Deferral {
            most: Duration::from_secs(90),
            ..Deferral::USUAL
        }),
    };
    let (transport, range_transport) = transports();
    let expected = Config {
        settings: Settings {
            speaker,
            listen: vec!["192.0.2.1:1179".parse().unwrap()],
            transport: BTreeMap::from([("tor".into(), transport)]),
            range_transport: BTreeMap::from([("nodes".to_owned(), range_transport)]),
        },
        control: Some("/run/bgpd.sock".into()),
        metrics: Some("127.0.0.1:9179".parse().unwrap()),
        files: BTreeSet::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn filters_are_read_rule_by_rule() {
    let text = format!(
        r#"{START}
[filters.tor]
default = "reject"
[[filters.tor.rules]]
when = {{ prefixes = ["10.0.0.0/8 ge 24 le 28", "192.0.2.0/24", "fd00::/8 or-longer"], source = "ebgp" }}
unless = {{ communities = ["no-export"] }}
set = {{ local-pref = 200, prepend = 2, remove-all-communities = true, add-communities = ["1:2"] }}
then = "accept"
[[filters.tor.rules]]
when = {{ as-path = "* 65000 ?", peer = "a" }}
set = {{ remove-med = true }}
[peers.a]
address = "192.0.2.2"
asn = 1
import-filter = "tor"
"#
    );
    let config = parse(Path::new("bgpd.toml"), &text).unwrap();
    let prefix = |text: &str, ge, le| PrefixMatch {
        within: text.parse().unwrap(),
        ge,
        le,
    };
    let no_export = Condition::Community(vec![0xffff_ff01]);
    let expected = Filter {
        rules: vec![
            Rule {
                when: vec![
                    Condition::Prefix(vec![
                        prefix("10.0.0.0/8", 24, 28),
                        prefix("192.0.2.0/24", 24, 24),
                        prefix("fd00::/8", 8, 128),
                    ]),
                    Condition::Source(RouteSource::External),
                    Condition::Not(Box::new(no_export)),
                ],
                changes: vec![
                    Change::LocalPref(200),
                    Change::Prepend {
                        asn: None,
                        times: 2,
                    },
                    Change::RemoveCommunities { value: 0, mask: 0 },
                    Change::AddCommunity(1 << 16 | 2),
                ],
                then: Some(Decision::Accept),
            },
            Rule {
                when: vec![
                    Condition::AsPath("* 65000 ?".parse().unwrap()),
                    Condition::Source(RouteSource::Peer("a".into())),
                ],
                changes: vec![Change::Med(None)],
                then: None,
            },
        ],
        default: Decision::Reject,
    };
    let peer = &config.settings.speaker.peers["a"];
    assert_eq!(peer.import_filter, Some(expected));
    assert_eq!(peer.export_filter, None);
}

#[test]
fn a_password_file_is_read_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tor.key"), "secret\n").unwrap();
    let text = |file: &str| {
        format!("{START}[peers.a]\naddress = \"192.0.2.2\"\nasn = 1\npassword-file = \"{file}\"")
    };
    let file = folder.path().join("bgpd.toml");
    let config = parse(&file, &text("tor.key")).unwrap();
    let password = &config.settings.transport["a"].password;
    assert_eq!(
        *password,
        Some(Password::try_from("secret".to_owned()).unwrap())
    );
    assert_eq!(config.files, [folder.path().join("tor.key")].into());
    let error = parse(&file, &text("none.key")).unwrap_err();
    assert!(error.reason.starts_with("cannot read "), "{error}");
    assert_eq!(error.line, 6);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        (
            "asn = \n",
            "bgpd.toml:1: string values must be quoted, expected literal string, in `asn =`",
        ),
        (
            "asn = 0\n",
            "bgpd.toml:1: AS number 0 is reserved; 1 to 4294967295 is allowed, in `asn = 0`",
        ),
        (
            "asn = 1\nrouter-id = \"0.0.0.0\"",
            "bgpd.toml:2: 0.0.0.0 is no identifier; take an address of this host, in `router-id = ",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\nholdtime = 3",
            "bgpd.toml:3: unknown field `holdtime`, expected one of `asn`, `router-id`, `listen`, ",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\nannounce = [\n\"10.0.0.0/26\",\n\"10.0.0.0/33\"]",
            "bgpd.toml:5: `10.0.0.0/33` is no prefix, like \"10.0.0.0/26\" or \"fd00::/122\", in `\"10.0.0.0/33\"]`",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\nlisten = [\"179\"]",
            "bgpd.toml:3: `179` is no address with a port, like \"0.0.0.0:179\" or \"[::]:179\", in `listen = ",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\nmetrics = \"localhost:1\"",
            "bgpd.toml:3: `localhost:1` is no address with a port, like",
        ),
        (
            "asn = 1\nrouter-id = \"192.0.2.300\"",
            "bgpd.toml:2: `192.0.2.300` is no IPv4 address, like \"192.0.2.1\", in `router-id = ",
        ),
        (
            "asn = \"65000\"",
            "bgpd.toml:1: invalid type: string \"65000\", expected u32, in `asn = ",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[next-hop]\nipv6 = \"1.1.1.1\"",
            "bgpd.toml:4: `1.1.1.1` is no IPv6 address, like \"2001:db8::1\"",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[announcements.\"10.0.0.0\"]\nmed = 1",
            "bgpd.toml:3: `10.0.0.0` is no prefix, like",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[ranges.x]\nprefix = \"all\"\nasns = [1]",
            "bgpd.toml:4: `all` is no prefix, like",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[announcements.\"10.0.0.0/8\"]\ncommunities = [\n\"no-export\",\n\"b\",\n]",
            "bgpd.toml:6: `b` is no community",
        ),
        (
            "router-id = \"1.1.1.1\"",
            "bgpd.toml:1: missing field `asn`",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[announcements.\"10.0.0.0/8\"]\ncommunities = [\"a\"]",
            "bgpd.toml:4: `a` is no community: two numbers up to 65535 like \"64512:1\", or one of no-export, ",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[filters.x]\nrules = []",
            "bgpd.toml:3: missing field `default`",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[filters.x]\ndefault = \"reject\"\n\
             [[filters.x.rules]]\nwhen.prefixes = [\"10.0.0.0/8 ge 7\"]",
            "bgpd.toml:6: `10.0.0.0/8 ge 7` is no prefix to match: \"10.0.0.0/8\", with \"or-longer\", ",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\n[ranges.x]\nprefix = \"10.0.0.0/8\"",
            "bgpd.toml:3: a range needs `asns`, or `peer.asn`",
        ),
    ];
    for (text, start) in cases {
        let complaint = complaint(text);
        assert!(complaint.starts_with(start), "{text:?}: {complaint}");
    }
}

#[test]
fn what_is_wrong_with_a_peer_is_told_with_its_line() {
    let cases = [
        (
            "address = \"192.0.2.2\"\nasn = 1\nhold-time = 2",
            "bgpd.toml:6: a hold time is 0 (none) or 3",
        ),
        (
            "address = \"0.0.0.0\"\nasn = 1",
            "bgpd.toml:4: 0.0.0.0 is not the address of a host",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nfamilies = []",
            "bgpd.toml:6: no family to speak",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nfamilies = [\"ipx\"]",
            "bgpd.toml:6: unknown variant `ipx`, expected `IPv4` or `IPv6`, in `families = ",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nport = 0",
            "bgpd.toml:6: a port is 1 to 65535, in `port = 0`",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nport = 65536",
            "bgpd.toml:6: a port is 1 to 65535, in `port = 65536`",
        ),
        (
            "address = \"tor.example\"\nasn = 1",
            "bgpd.toml:4: `tor.example` is no address, like \"192.0.2.1\" or \"2001:db8::1\", in `address = ",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nsource = \"eth0\"",
            "bgpd.toml:6: `eth0` is no address, like",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nexport = \"most\"",
            "bgpd.toml:6: unknown variant `most`, expected `own` or `all`, in `export = ",
        ),
        ("asn = 1", "bgpd.toml:3: missing field `address`"),
        (
            "address = \"192.0.2.2\"",
            "bgpd.toml:3: missing field `asn`",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nimport-filter = \"x\"",
            "bgpd.toml:6: there is no filter `x`; filters here: none",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\npassword = \"\"",
            "bgpd.toml:6: a password has 1 to 80 octets",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\ntcp-ao = { key = \"a\" }",
            "bgpd.toml:6: missing field `id`",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\ntcp-ao = { id = 1 }",
            "bgpd.toml:6: missing field `key` (or `key-file`)",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\ntcp-ao = { id = 1, key = \"a\", algorithm = \"md5\" }",
            "bgpd.toml:6: unknown variant `md5`, expected `hmac-sha1` or `aes-128-cmac`",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\npassword = \"a\"\ntcp-ao = { id = 1, key = \"a\" }",
            "bgpd.toml:7: password and tcp-ao: only one is allowed",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nmultihop = 0",
            "bgpd.toml:6: 1 to 255 hops are allowed",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nmultihop = 2\nttl-security = 1",
            "bgpd.toml:7: ttl-security says how many hops are allowed already",
        ),
        (
            "address = \"fe80::1\"\nasn = 1",
            "bgpd.toml:4: fe80::1 is a link-local address and needs `interface`",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nbfd = { interval = 1 }",
            "bgpd.toml:6: 10 to 60000 milliseconds are allowed",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\ngraceful-restart = { time = 5000 }",
            "bgpd.toml:6: a restart time is 1 to 4095 seconds",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nsource = \"::1\"",
            "bgpd.toml:4: 192.0.2.2 cannot be dialled from ::1",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\n[peers.b]\naddress = \"192.0.2.2\"\nasn = 1",
            "bgpd.toml:7: peer a has the same address",
        ),
    ];
    for (text, start) in cases {
        let complaint = complaint(&format!("{START}[peers.a]\n{text}"));
        assert!(complaint.starts_with(start), "{text:?}: {complaint}");
    }
}
