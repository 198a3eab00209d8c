use super::*;

fn complaint(text: &str) -> String {
    parse(Path::new("bgpd.toml"), text).unwrap_err().to_string()
}

const START: &str = "asn = 64512\nrouter-id = \"192.0.2.1\"\n";

#[test]
fn a_small_file_has_the_usual_defaults() {
    let text = format!("{START}[peers.tor]\naddress = \"192.0.2.254\"\nasn = 65000\n");
    let config = parse(Path::new("bgpd.toml"), &text).unwrap();
    let tor = PeerSettings::new("192.0.2.254".parse().unwrap(), Asn(65000));
    let expected = Config {
        settings: Settings {
            speaker: margay_bgp::Settings {
                asn: Asn(64512),
                bgp_id: BgpId("192.0.2.1".parse().unwrap()),
                next_hops: NextHops::default(),
                peers: BTreeMap::from([("tor".into(), tor)]),
                announce: BTreeSet::new(),
                ..margay_bgp::Settings::new(Asn(64512), BgpId("192.0.2.1".parse().unwrap()))
            },
            listen: vec!["0.0.0.0:179".parse().unwrap(), "[::]:179".parse().unwrap()],
        },
        control: None,
    };
    assert_eq!(config, expected);
}

#[test]
fn every_field_counts() {
    let text = r#"
asn = 4200000000
router-id = "192.0.2.1"
listen = ["192.0.2.1:1179"]
announce = ["10.0.0.0/26", "fd00::/122"]
control = "/run/bgpd.sock"

[next-hop]
ipv4 = "192.0.2.1"
ipv6 = "2001:db8::1"

[peers.tor]
address = "2001:db8::254"
asn = 65000
port = 1790
hold-time = 9
source = "2001:db8::1"
passive = true
families = ["IPv6"]
export = "all"
"#;
    let config = parse(Path::new("bgpd.toml"), text).unwrap();
    let tor = PeerSettings {
        address: "2001:db8::254".parse().unwrap(),
        port: 1790,
        asn: Asn(65000),
        hold_time: HoldTime::from_secs(9),
        source: Some("2001:db8::1".parse().unwrap()),
        dial: Dial::Passive,
        families: [Family::Ipv6].into(),
        export: Export::All,
        ..PeerSettings::new("2001:db8::254".parse().unwrap(), Asn(65000))
    };
    let expected = Config {
        settings: Settings {
            speaker: margay_bgp::Settings {
                asn: Asn(4_200_000_000),
                bgp_id: BgpId("192.0.2.1".parse().unwrap()),
                next_hops: NextHops {
                    v4: Some("192.0.2.1".parse().unwrap()),
                    v6: Some("2001:db8::1".parse().unwrap()),
                },
                peers: BTreeMap::from([("tor".into(), tor)]),
                announce: [
                    "10.0.0.0/26".parse().unwrap(),
                    "fd00::/122".parse().unwrap(),
                ]
                .into(),
                ..margay_bgp::Settings::new(Asn(4_200_000_000), BgpId("192.0.2.1".parse().unwrap()))
            },
            listen: vec!["192.0.2.1:1179".parse().unwrap()],
        },
        control: Some("/run/bgpd.sock".into()),
    };
    assert_eq!(config, expected);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        ("asn = \n", "bgpd.toml:1: "),
        (
            "asn = 0\n",
            "bgpd.toml:1: AS number 0 is reserved; 1 to 4294967295 is allowed, in `asn = 0`",
        ),
        (
            "asn = 1\nrouter-id = \"0.0.0.0\"",
            "bgpd.toml:2: router-id 0.0.0.0 is not allowed",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\nholdtime = 3",
            "bgpd.toml:3: unknown field `holdtime`",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\nannounce = [\n\"10.0.0.0/26\",\n\"10.0.0.0/33\"]",
            "bgpd.toml:5: ",
        ),
        (
            "asn = 1\nrouter-id = \"1.1.1.1\"\nlisten = [\"179\"]",
            "bgpd.toml:3: ",
        ),
        (
            "router-id = \"1.1.1.1\"",
            "bgpd.toml:1: missing field `asn`",
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
            "bgpd.toml:6: unknown variant `ipx`",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nport = 0",
            "bgpd.toml:6: ",
        ),
        (
            "address = \"192.0.2.2\"\nasn = 1\nexport = \"most\"",
            "bgpd.toml:6: unknown variant `most`",
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
