use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_api::load::{Object, documents};
use margay_policy::model::{Node, NodeName};
use margay_sync::message::BgpPeer;
use margay_sync::status::NodeStatus;

use super::{Inputs, ipam_page, network};

#[test]
fn nodes_form_a_mesh_by_their_first_addresses() {
    let inputs = three_nodes();
    let network = network(&inputs, &name("n2")).unwrap();
    assert_eq!(network.addresses, [ip("192.0.2.2"), ip("2001:db8::2")]);
    assert_eq!((network.bgp.asn, network.bgp.port), (64512, 179));
    assert_eq!(
        network.bgp.peers,
        BTreeMap::from([
            ("mesh-n1".to_owned(), mesh_peer("192.0.2.1")),
            ("mesh-n3".to_owned(), mesh_peer("192.0.2.3")),
        ])
    );
}

#[test]
fn both_ends_of_a_session_mean_the_same_addresses() {
    let mut inputs = three_nodes();
    set_node(&mut inputs, "n1", &["2001:db8::1", "192.0.2.1"]);
    set_node(&mut inputs, "n3", &["2001:db8::3"]);
    let address = |node: &str, peer: &str| {
        let network = network(&inputs, &name(node)).unwrap();
        network
            .bgp
            .peers
            .get(&format!("mesh-{peer}"))
            .map(|peer| peer.address)
    };
    // n1 is first by name and begins with IPv6.
    assert_eq!(address("n1", "n2"), Some(ip("2001:db8::2")));
    assert_eq!(address("n2", "n1"), Some(ip("2001:db8::1")));
    assert_eq!(address("n2", "n3"), Some(ip("2001:db8::3")));
    assert_eq!(address("n3", "n2"), Some(ip("2001:db8::2")));
    set_node(&mut inputs, "n2", &["192.0.2.2"]);
    let lonely = network(&inputs, &name("n2")).unwrap();
    assert_eq!(
        lonely.bgp.peers.keys().collect::<Vec<_>>(),
        ["mesh-n1"],
        "no family in common with n3"
    );
}

#[test]
fn nodes_with_one_address_do_not_dial_themselves() {
    let mut inputs = three_nodes();
    set_node(&mut inputs, "n3", &["192.0.2.2"]);
    let network = network(&inputs, &name("n2")).unwrap();
    assert_eq!(network.bgp.peers.keys().collect::<Vec<_>>(), ["mesh-n1"]);
}

#[test]
fn a_bgp_peer_goes_to_the_nodes_it_selects_and_takes_the_place_of_a_mesh_peer() {
    let mut inputs = three_nodes();
    add(
        &mut inputs,
        "apiVersion: margay.io/v1alpha1
kind: BGPPeer
metadata: {name: router}
spec:
  peerAddress: 192.0.2.254
  peerASN: 65000
  port: 1179
  nodeSelector: {matchLabels: {kubernetes.io/hostname: n2}}
---
apiVersion: margay.io/v1alpha1
kind: BGPPeer
metadata: {name: reflector}
spec: {peerAddress: 192.0.2.3, peerASN: 64512}
",
    );
    let names = |node: &str| {
        let network = network(&inputs, &name(node)).unwrap();
        network.bgp.peers.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names("n1"), ["mesh-n2", "reflector"]);
    assert_eq!(names("n2"), ["mesh-n1", "reflector", "router"]);
    assert_eq!(
        names("n3"),
        ["mesh-n1", "mesh-n2"],
        "a node is not its own peer"
    );
    let router = network(&inputs, &name("n2")).unwrap().bgp.peers["router"].clone();
    let expected = BgpPeer {
        address: ip("192.0.2.254"),
        port: 1179,
        asn: 65000,
        hold_time: 90,
    };
    assert_eq!(router, expected);
}

#[test]
fn the_config_changes_speakers_and_can_end_the_mesh() {
    let mut inputs = three_nodes();
    add(
        &mut inputs,
        "apiVersion: margay.io/v1alpha1
kind: NetworkConfig
metadata: {name: default}
spec: {asn: 4200000001, nodeMesh: false, bgpPort: 1790, holdTime: 9}
",
    );
    let bgp = network(&inputs, &name("n1")).unwrap().bgp;
    assert_eq!(
        (bgp.asn, bgp.port, bgp.peers.len()),
        (4_200_000_001, 1790, 0)
    );
}

#[test]
fn pools_say_whether_the_node_may_use_them_and_blocks_are_the_nodes_own() {
    let mut inputs = three_nodes();
    let usual = network(&inputs, &name("n1")).unwrap().pools;
    let cidrs: Vec<String> = usual.iter().map(|pool| pool.cidr.to_string()).collect();
    assert_eq!(cidrs, ["10.244.0.0/16", "fd00:10:244::/56"]);
    add(
        &mut inputs,
        "apiVersion: margay.io/v1alpha1
kind: IPPool
metadata: {name: a}
spec: {cidr: 10.1.0.0/16, natOutgoing: true, nodeSelector: {matchLabels: {kubernetes.io/hostname: n2}}}
---
apiVersion: margay.io/v1alpha1
kind: IPPool
metadata: {name: b}
spec: {cidr: 10.2.0.0/16, disabled: true}
",
    );
    inputs.claims = BTreeMap::from([
        ("10.1.0.0/26".parse().unwrap(), name("n2")),
        ("10.1.0.64/26".parse().unwrap(), name("n3")),
    ]);
    let usable = |node: &str| {
        let network = network(&inputs, &name(node)).unwrap();
        network
            .pools
            .iter()
            .map(|pool| (pool.nat_outgoing, pool.usable))
            .collect::<Vec<_>>()
    };
    assert_eq!(usable("n1"), [(true, false), (false, false)]);
    assert_eq!(usable("n2"), [(true, true), (false, false)]);
    let blocks = network(&inputs, &name("n2")).unwrap().blocks;
    assert_eq!(blocks, BTreeSet::from(["10.1.0.0/26".parse().unwrap()]));
    let mut status = NodeStatus::default();
    status.blocks.insert("10.1.0.0/26".parse().unwrap(), 7);
    let page = ipam_page(&inputs, &BTreeMap::from([(name("n2"), &status)]));
    let use_of = |n: usize| {
        (
            page.pools[n].blocks,
            page.pools[n].claimed,
            page.pools[n].used,
        )
    };
    assert_eq!((use_of(0), use_of(1)), ((1024, 2, 7), (1024, 0, 0)));
    let used: Vec<Option<u32>> = page.blocks.values().map(|block| block.used).collect();
    assert_eq!(used, [Some(7), None]);
}

#[test]
fn an_unknown_node_has_no_network() {
    assert_eq!(network(&three_nodes(), &name("n9")), None);
}

fn three_nodes() -> Inputs {
    let mut inputs = Inputs::default();
    for n in 1..=3 {
        let (v4, v6) = (format!("192.0.2.{n}"), format!("2001:db8::{n}"));
        set_node(&mut inputs, &format!("n{n}"), &[&v4, &v6]);
    }
    inputs
}

fn set_node(inputs: &mut Inputs, node: &str, addresses: &[&str]) {
    let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), node.to_owned())]);
    let addresses = addresses.iter().map(|address| ip(address)).collect();
    inputs.nodes.insert(name(node), Node { labels, addresses });
}

fn add(inputs: &mut Inputs, text: &str) {
    for document in documents("test.yaml", text) {
        let object = document.unwrap().object;
        let name = object.key().name;
        match object {
            Object::IpPool(pool) => drop(inputs.pools.insert(name, *pool)),
            Object::BgpPeer(peer) => drop(inputs.peers.insert(name, *peer)),
            Object::NetworkConfig(config) => inputs.config = config.spec,
            Object::Node(_)
            | Object::Namespace(_)
            | Object::Pod(_)
            | Object::NetworkPolicy(_)
            | Object::Other { .. } => panic!("not for networks: {name}"),
        }
    }
}

fn mesh_peer(address: &str) -> BgpPeer {
    BgpPeer {
        address: ip(address),
        port: 179,
        asn: 64512,
        hold_time: 90,
    }
}

fn name(name: &str) -> NodeName {
    NodeName(name.to_owned())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
