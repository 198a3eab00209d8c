use std::collections::BTreeSet;

use margay_sync::message::NodeNetwork;

use super::*;

#[test]
fn a_node_announces_its_blocks_and_what_lies_outside_of_them() {
    let settings = settings(
        &NodeName("n1".to_owned()),
        &view(&["192.0.2.1", "2001:db8::1"]),
    );
    let speaker = &settings.speaker;
    assert_eq!(speaker.bgp_id, BgpId(Ipv4Addr::new(192, 0, 2, 1)));
    let announced: Vec<String> = speaker.announce.iter().map(ToString::to_string).collect();
    assert_eq!(announced, ["10.1.0.0/26", "10.9.9.9/32"]);
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["192.0.2.1:1179", "[2001:db8::1]:1179"]);
    let peer = &speaker.peers["mesh-n2"];
    assert_eq!(peer.source, Some("192.0.2.1".parse().unwrap()));
    assert_eq!((peer.port, peer.hold_time.as_secs()), (1179, 30));
}

#[test]
fn a_node_without_ipv4_has_an_identifier_all_the_same() {
    let id = |name: &str| {
        settings(&NodeName(name.to_owned()), &view(&["2001:db8::1"]))
            .speaker
            .bgp_id
    };
    assert_ne!(id("n1"), id("n2"));
    assert_ne!(id("n1").0.octets()[0], 0);
}

#[test]
fn before_anything_is_known_nobody_is_spoken_to() {
    let settings = settings(&NodeName("n1".to_owned()), &View::default());
    assert!(settings.speaker.peers.is_empty() && settings.listen.is_empty());
}

fn view(addresses: &[&str]) -> View {
    let peer = BgpPeer {
        address: "192.0.2.2".parse().unwrap(),
        port: 1179,
        asn: 64512,
        hold_time: 30,
    };
    View {
        network: Some(NodeNetwork {
            node: NodeName("n1".to_owned()),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            pools: vec![],
            blocks: BTreeSet::new(),
            bgp: Bgp {
                asn: 64512,
                port: 1179,
                peers: [("mesh-n2".to_owned(), peer)].into(),
            },
        }),
        blocks: [("10.1.0.0/26".parse().unwrap(), 3)].into(),
        outside: ["10.9.9.9/32".parse().unwrap()].into(),
        ..View::default()
    }
}
