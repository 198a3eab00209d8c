use super::*;

#[test]
fn a_node_without_a_family_gets_an_underlay_address_of_it() {
    let topology = Topology::new(
        &[spec("n1", &["192.168.0.1"], &[])],
        &BTreeSet::new(),
        &BTreeSet::new(),
    )
    .unwrap();
    assert_eq!(
        topology.nodes[0].addresses,
        ips(&["192.168.0.1", "fdfe:12::1"])
    );
}

#[test]
fn the_router_stands_in_every_subnet_with_an_address_nobody_has() {
    let taken = BTreeSet::from(["192.168.0.254".parse().unwrap()]);
    let nodes = [
        spec("n1", &["192.168.0.1", "fd00::1"], &[]),
        spec("n2", &["10.9.8.7", "fd00::2"], &[]),
    ];
    let topology = Topology::new(&nodes, &BTreeSet::new(), &taken).unwrap();
    let nets: Vec<IpNet> = ["10.9.8.254/24", "192.168.0.253/24", "fd00::fe/64"]
        .map(|n| n.parse().unwrap())
        .into();
    assert_eq!(topology.router, nets);
    assert_eq!(
        topology.router_for("10.9.8.7".parse().unwrap()),
        Some("10.9.8.254".parse().unwrap())
    );
}

#[test]
fn an_external_address_that_probes_name_is_not_on_the_node() {
    let externals = BTreeSet::from(["203.0.113.1".parse().unwrap()]);
    let nodes = [spec(
        "n1",
        &["192.168.0.1"],
        &["203.0.113.1", "203.0.113.9"],
    )];
    let topology = Topology::new(&nodes, &externals, &BTreeSet::new()).unwrap();
    assert_eq!(topology.nodes[0].extra, ips(&["203.0.113.9"]));
    assert!(
        topology
            .host_commands()
            .contains(&"addr add 203.0.113.1/32 dev lo".to_owned())
    );
}

#[test]
fn two_nodes_with_one_address_are_refused() {
    let nodes = [
        spec("n1", &["192.168.0.1"], &[]),
        spec("n2", &["192.168.0.1"], &[]),
    ];
    let error = Topology::new(&nodes, &BTreeSet::new(), &BTreeSet::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "node n2: another node or external host has the address 192.168.0.1"
    );
}

fn spec(name: &str, internal: &[&str], external: &[&str]) -> NodeSpec {
    NodeSpec {
        name: name.to_owned(),
        internal: ips(internal),
        external: ips(external),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
