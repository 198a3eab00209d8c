use super::*;

#[test]
fn each_version_has_its_own_form() {
    let attached = attached();
    assert_eq!(
        attached.render(Version::V1_1_0),
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "mgy1", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1400},
                {"name": "eth0", "sandbox": "/run/netns/p"},
            ],
            "ips": [
                {"address": "10.1.2.3/32", "gateway": "169.254.1.1", "interface": 1},
                {"address": "fd00::3/128", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
            "dns": {"nameservers": ["10.96.0.10"]},
        })
    );
    let one = attached.render(Version::V1_0_0);
    assert_eq!(one["interfaces"][0].get("mtu"), None);
    assert_eq!(one["ips"][0].get("version"), None);
    for version in [Version::V0_3_1, Version::V0_4_0] {
        let old = attached.render(version);
        assert_eq!(old["cniVersion"], json!(version));
        assert_eq!(old["ips"][0]["version"], json!("4"));
        assert_eq!(old["ips"][1]["version"], json!("6"));
    }
}

#[test]
fn a_result_of_any_version_is_read_back() {
    for version in Version::ALL {
        let read = parse(attached().render(version)).unwrap();
        let mut expected = attached();
        if version < Version::V1_1_0 {
            expected.interfaces[0].mtu = None;
        }
        assert_eq!(read, expected, "{version:?}");
    }
    assert_eq!(parse(json!({"ips": null})).unwrap(), Attached::default());
    assert_eq!(
        parse(json!({"ips": "none"})).unwrap_err().code,
        Code::Decode
    );
}

#[test]
fn in_a_chain_interfaces_are_counted_on() {
    let both = attached().after(Some(attached()));
    assert_eq!(both.interfaces.len(), 4);
    assert_eq!(both.ips[2].interface, Some(3));
}

fn attached() -> Attached {
    Attached {
        interfaces: vec![
            Interface {
                name: "mgy1".to_owned(),
                mac: "ee:ee:ee:ee:ee:ee".to_owned(),
                mtu: Some(1400),
                sandbox: String::new(),
            },
            Interface {
                name: "eth0".to_owned(),
                sandbox: "/run/netns/p".to_owned(),
                ..Interface::default()
            },
        ],
        ips: vec![
            Ip {
                address: "10.1.2.3/32".parse().unwrap(),
                gateway: Some("169.254.1.1".parse().unwrap()),
                interface: Some(1),
            },
            Ip {
                address: "fd00::3/128".parse().unwrap(),
                gateway: None,
                interface: Some(1),
            },
        ],
        routes: vec![Route {
            dst: "0.0.0.0/0".parse().unwrap(),
            gw: Some("169.254.1.1".parse().unwrap()),
        }],
        dns: Some(json!({"nameservers": ["10.96.0.10"]})),
    }
}
