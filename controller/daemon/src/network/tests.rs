use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_api::load::{Object, documents};
use margay_policy::model::{Node, NodeName};
use margay_sync::message::NodeNetwork;
use margay_sync::message::bgp::{AddPath, BgpPeer, Decision, Export, Password};
use margay_sync::status::NodeStatus;

use super::{Inputs, Plan, ipam_page};

#[test]
fn nodes_form_a_mesh_by_their_first_addresses() {
    let inputs = three_nodes();
    let network = network(&inputs, &name("n2")).unwrap();
    assert_eq!(network.addresses, [ip("192.0.2.2"), ip("2001:db8::2")]);
    assert_eq!((network.bgp.asn, network.bgp.port), (64512, 179));
    assert_eq!(
        network.bgp.peers,
        BTreeMap::from([
            ("node-n1".to_owned(), mesh_peer("n1", "192.0.2.1")),
            ("node-n3".to_owned(), mesh_peer("n3", "192.0.2.3")),
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
            .get(&format!("node-{peer}"))
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
        ["node-n1"],
        "no family in common with n3"
    );
}

#[test]
fn nodes_with_one_address_do_not_dial_themselves() {
    let mut inputs = three_nodes();
    set_node(&mut inputs, "n3", &["192.0.2.2"]);
    let network = network(&inputs, &name("n2")).unwrap();
    assert_eq!(network.bgp.peers.keys().collect::<Vec<_>>(), ["node-n1"]);
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
    assert_eq!(names("n1"), ["node-n2", "reflector"]);
    assert_eq!(names("n2"), ["node-n1", "reflector", "router"]);
    assert_eq!(
        names("n3"),
        ["node-n1", "node-n2"],
        "a node is not its own peer"
    );
    let router = network(&inputs, &name("n2")).unwrap().bgp.peers["router"].clone();
    let expected = BgpPeer {
        port: 1179,
        ..BgpPeer::new(ip("192.0.2.254"), 65000)
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
spec: {bgp: {asn: 4200000001, topology: None, port: 1790, holdTime: 9}}
",
    );
    let bgp = network(&inputs, &name("n1")).unwrap().bgp;
    assert_eq!(
        (bgp.asn, bgp.port, bgp.peers.len()),
        (4_200_000_001, 1790, 0)
    );
}

#[test]
fn a_peer_has_the_password_of_its_secret_and_the_rules_of_its_filters() {
    let mut inputs = three_nodes();
    let peer = "apiVersion: margay.io/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec:
  peerAddress: 192.0.2.254
  peerASN: 65000
  password: {secretKeyRef: {name: tor, key: password}}
  filters: [first, second]
";
    add(&mut inputs, peer);
    let tor = |inputs: &Inputs| {
        let network = network(inputs, &name("n1")).unwrap();
        network.bgp.peers["tor"].details.clone()
    };
    let details = tor(&inputs);
    assert!(matches!(details.password, Some(Password::Missing(_))));
    // What is missing keeps everything out.
    let last = |rules: &[margay_sync::message::bgp::Rule]| rules[0].then;
    assert_eq!(last(&details.import), Some(Decision::Reject));
    assert_eq!(last(&details.export_rules), Some(Decision::Reject));
    let problems: Vec<String> = super::problems(&inputs).into_iter().map(|p| p.2).collect();
    assert!(
        problems[0].contains("there is no BGPFilter `first`"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("there is no BGPFilter `second`"),
        "{problems:?}"
    );
    assert!(
        problems[2].contains("there is no Secret tor"),
        "{problems:?}"
    );
    add(
        &mut inputs,
        "apiVersion: v1
kind: Secret
metadata: {name: tor, namespace: margay-system}
stringData: {password: \"hunter2\\n\"}
---
apiVersion: margay.io/v1alpha1
kind: BGPFilter
metadata: {name: first}
spec: {import: [{prefixes: [{cidr: 10.0.0.0/8, ge: 24}], action: Continue}]}
---
apiVersion: margay.io/v1alpha1
kind: BGPFilter
metadata: {name: second}
spec: {export: [{action: Reject}]}
",
    );
    let details = tor(&inputs);
    assert_eq!(details.password, Some(Password::Text("hunter2".to_owned())));
    assert_eq!((details.import.len(), details.export_rules.len()), (1, 1));
    assert_eq!(details.import[0].then, None);
    assert_eq!(super::problems(&inputs), []);
    assert!(!format!("{inputs:?}").contains("hunter2"), "not for logs");
}

#[test]
fn of_two_objects_with_one_address_the_older_has_the_session() {
    let mut inputs = three_nodes();
    for (object, born) in [("a", "2026-01-02"), ("b", "2026-01-01")] {
        add(
            &mut inputs,
            &format!(
                "apiVersion: margay.io/v1alpha1
kind: BGPPeer
metadata: {{name: {object}, creationTimestamp: \"{born}T00:00:00Z\"}}
spec: {{peerAddress: 192.0.2.254, peerASN: 65000}}
"
            ),
        );
    }
    let peers = network(&inputs, &name("n1")).unwrap().bgp.peers;
    assert_eq!(
        peers.keys().collect::<Vec<_>>(),
        ["b", "node-n2", "node-n3"]
    );
    let problems = super::problems(&inputs);
    assert_eq!(problems.len(), 3, "on each node: {problems:?}");
    assert!(
        problems
            .iter()
            .all(|(kind, name, _)| (*kind, name.as_str()) == ("BGPPeer", "a"))
    );
}

#[test]
fn nodes_that_a_selector_pairs_tell_each_other_as_their_labels_say() {
    let mut inputs = three_nodes();
    add(
        &mut inputs,
        "apiVersion: margay.io/v1alpha1
kind: NetworkConfig
metadata: {name: default}
spec: {bgp: {topology: None}}
---
apiVersion: margay.io/v1alpha1
kind: BGPPeer
metadata: {name: to-reflectors}
spec: {peerSelector: {matchExpressions: [{key: margay.io/route-reflector, operator: Exists}]}, holdTime: 9, passive: true}
",
    );
    let labels = &mut inputs.nodes.get_mut(&name("n1")).unwrap().labels;
    labels.insert(
        "margay.io/route-reflector".to_owned(),
        "10.0.0.9".to_owned(),
    );
    let bgp = |node: &str| network(&inputs, &name(node)).unwrap().bgp;
    let reflector = bgp("n1");
    assert_eq!(reflector.cluster_id, Some("10.0.0.9".parse().unwrap()));
    assert_eq!(
        reflector.peers.keys().collect::<Vec<_>>(),
        ["node-n2", "node-n3"]
    );
    let client = &reflector.peers["node-n2"];
    assert!(client.details.reflector_client);
    assert_eq!(client.details.export, Export::Internal);
    assert_eq!(client.hold_time, 9);
    let peers = bgp("n2").peers;
    assert_eq!(peers.keys().collect::<Vec<_>>(), ["node-n1"]);
    let there = &peers["node-n1"].details;
    assert!(!there.reflector_client && there.export == Export::Own);
    assert!(!(client.details.passive && there.passive), "somebody dials");
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

pub(super) fn three_nodes() -> Inputs {
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

pub(super) fn add(inputs: &mut Inputs, text: &str) {
    for document in documents("test.yaml", text) {
        let object = document.unwrap().object;
        let name = object.key().name;
        match object {
            Object::IpPool(pool) => drop(inputs.pools.insert(name, *pool)),
            Object::BgpPeer(peer) => drop(inputs.peers.insert(name, *peer)),
            Object::BgpFilter(filter) => drop(inputs.filters.insert(name, *filter)),
            Object::Secret(secret) => drop(inputs.secrets.put(name, &secret)),
            Object::NetworkConfig(config) => inputs.config = config.spec,
            Object::Node(_)
            | Object::Namespace(_)
            | Object::Pod(_)
            | Object::NetworkPolicy(_)
            | Object::Other { .. } => panic!("not for networks: {name}"),
        }
    }
}

pub(super) fn network(inputs: &Inputs, name: &NodeName) -> Option<NodeNetwork> {
    super::network(inputs, &Plan::of(inputs), name)
}

fn mesh_peer(node: &str, address: &str) -> BgpPeer {
    let mut peer = BgpPeer::new(ip(address), 64512);
    peer.node = Some(name(node));
    peer.details.add_path = AddPath {
        receive: true,
        send: 8,
    };
    peer
}

pub(super) fn name(name: &str) -> NodeName {
    NodeName(name.to_owned())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
