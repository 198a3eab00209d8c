use std::collections::BTreeSet;

use super::*;

#[test]
fn a_world_without_the_router_gets_it_as_a_peer_and_nodes_get_both_families() {
    let mut objects = Objects::default();
    objects.add_text(
        "world",
        "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}",
    );
    let topology = Topology::new(&objects.nodes(), &BTreeSet::new(), &BTreeSet::new()).unwrap();
    complete(&mut objects, &topology).unwrap();
    let names: Vec<String> = objects.documents.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["BGPPeer router", "Node n1"]);
    let addresses: Vec<IpAddr> = objects.nodes().remove(0).internal;
    assert_eq!(addresses, topology.nodes[0].addresses);
    let peer = objects.documents.values().next().unwrap();
    assert_eq!(
        peer["spec"],
        json!({"peerAddress": "10.0.0.254", "peerASN": 64600})
    );
}
