use super::*;

const ROUTES4: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\tFE0200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth1\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
mgy0123456789a\t0000F40A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
*\t0000F40A\t00000000\t0200\t0\t0\t0\tC0FFFFFF\t0\t0\t0
";

const ROUTES6: &str = "\
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
20010db8000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001     eth1
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth1
";

fn names(links: &[Uplink]) -> Vec<&str> {
    links.iter().map(|link| link.name.as_str()).collect()
}

#[cfg(target_endian = "little")]
#[test]
fn routes_are_read_without_rejects_and_own_addresses() {
    let v4: Vec<String> = parse_routes4(ROUTES4)
        .iter()
        .map(|(prefix, link)| format!("{prefix} {link}"))
        .collect();
    assert_eq!(
        v4,
        [
            "0.0.0.0/0 eth0",
            "192.0.2.0/24 eth0",
            "198.51.100.0/24 eth1",
            "10.244.0.0/32 mgy0123456789a"
        ]
    );
    let v6: Vec<String> = parse_routes6(ROUTES6)
        .iter()
        .map(|(prefix, link)| format!("{prefix} {link}"))
        .collect();
    assert_eq!(v6, ["2001:db8::/64 eth1"]);
}

#[cfg(target_endian = "little")]
#[test]
fn uplinks_are_the_links_that_lead_to_peers() {
    let routes = parse_routes4(ROUTES4);
    let peer = "198.51.100.7".parse().unwrap();
    assert_eq!(names(&choose(&routes, [peer].into_iter())), ["eth1"]);
    let far = "203.0.113.1".parse().unwrap();
    assert_eq!(names(&choose(&routes, [far].into_iter())), ["eth0"]);
    assert_eq!(
        names(&choose(&routes, std::iter::empty())),
        ["eth0", "eth1"]
    );
}

#[test]
fn links_are_named_before_the_colon() {
    let text = "Inter-|   Receive\n face |bytes\n    lo:  0 0\n  eth0: 12 3\nmgy0123456789a: 0 0\n";
    assert_eq!(parse_links(text), ["lo", "eth0", "mgy0123456789a"]);
}
