use super::*;

#[test]
fn ends_are_written_as_they_are_read() {
    for text in ["shop/web-0", "node/n1", "10.0.0.1", "fd00::1"] {
        assert_eq!(text.parse::<End>().unwrap().to_string(), text);
    }
    assert_eq!(
        "::ffff:10.0.0.1".parse::<End>().unwrap().to_string(),
        "10.0.0.1"
    );
    for wrong in ["", "web", "/web", "shop/", "a/b/c", "node/", "10.0.0"] {
        assert!(wrong.parse::<End>().is_err(), "{wrong}");
    }
}

#[test]
fn protocols_go_by_name_or_number() {
    for (text, written) in [
        ("TCP", "TCP"),
        ("udp", "UDP"),
        ("132", "SCTP"),
        ("ICMPv6", "ICMP"),
        ("1", "ICMP"),
        ("47", "47"),
    ] {
        assert_eq!(text.parse::<Transport>().unwrap().to_string(), written);
    }
    assert!("256".parse::<Transport>().is_err());
    assert_eq!(
        "http".parse::<Transport>().unwrap_err().to_string(),
        "`http` is no protocol: write TCP, UDP, SCTP, ICMP or an IP protocol number"
    );
}

#[test]
fn flows_are_told_in_words() {
    let flow = Flow {
        from: "a/b".parse().unwrap(),
        to: "10.0.0.1".parse().unwrap(),
        protocol: "TCP".parse().unwrap(),
        port: 80,
        family: Family::V4,
    };
    assert_eq!(flow.to_string(), "a/b -> 10.0.0.1 TCP port 80 over IPv4");
}
