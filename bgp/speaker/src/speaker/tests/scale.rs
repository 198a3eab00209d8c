//! Many speakers in one process, on the virtual clock.

use super::*;
use crate::settings::Reflection;

/// `full` if `MARGAY_FULL_SIZE` is set in the environment; otherwise what an unoptimised build does in a second or two.
fn size(small: usize, full: usize) -> usize {
    if std::env::var_os("MARGAY_FULL_SIZE").is_some() {
        full
    } else {
        small
    }
}

/// Row 6 of what must hold: a mesh of 100 nodes, complete soon after it started, and again after a restart.
#[test]
fn a_mesh_of_100_nodes_is_complete_within_seconds() {
    let nodes = size(24, 100);
    let mut net = Net::new(17);
    for node in 0..nodes {
        net.add_mesh_node(node);
    }
    net.mesh_all(nodes);
    net.run_for(seconds(3));
    for node in 0..nodes {
        assert_eq!(net.routes(node), &net.expected_in_mesh(node), "node {node}");
    }
    net.restart(nodes / 2);
    net.run_for(seconds(2));
    for node in [0, nodes / 2, nodes - 1] {
        assert_eq!(net.routes(node), &net.expected_in_mesh(node), "node {node}");
    }
}

/// 500 clients of one reflector: everybody knows everybody, and no more is sent than a message for each family of each.
#[test]
fn a_reflector_of_500_clients_tells_everybody_everything_in_one_message_each() {
    let clients = size(50, 500);
    let mut net = Net::new(18);
    for node in 0..=clients {
        net.add_mesh_node(node);
    }
    net.change(0, |settings| {
        for client in 1..=clients {
            let mut peer = PeerSettings::new(net_address(client), Asn(64512));
            peer.export = Export::All;
            peer.reflection = Reflection::Client;
            peer.dial = Dial::Passive;
            settings.peers.insert(format!("n{client}").into(), peer);
        }
    });
    for client in 1..=clients {
        net.change(client, |settings| {
            let peer = PeerSettings::new(net_address(0), Asn(64512));
            settings.peers.insert("n0".into(), peer);
        });
    }
    net.run_for(seconds(5));
    for client in 1..=clients {
        assert_eq!(net.routes(client).len(), 2 * clients, "client {client}");
    }
    // To each client: each other's routes of both families, the reflector's own, and the ends.
    let most = clients * (2 * clients + 4);
    assert!(net.updates(0) <= most, "{} of {most}", net.updates(0));
    let before = net.updates(0);
    net.announce(7, &[]);
    net.run_for(seconds(1));
    assert_eq!(net.routes(1).len(), 2 * clients - 2);
    assert_eq!(net.updates(0) - before, 2 * (clients - 1));
}

/// Row 6: from a mesh to two reflectors and back. An owner begins what is new before it ends what is old; then no node is
/// without a route at any moment.
#[test]
fn a_switch_of_100_nodes_to_reflectors_and_back_takes_no_route_from_anybody() {
    const REFLECTORS: [usize; 2] = [0, 1];
    let nodes = size(16, 100);
    let mut net = Net::new(19);
    for node in 0..nodes {
        net.add_mesh_node(node);
    }
    net.mesh_all(nodes);
    net.run_for(seconds(3));
    let before: Vec<usize> = (0..nodes).map(|node| net.losses(node)).collect();
    let reflect = |net: &mut Net, reflection, export| {
        for reflector in REFLECTORS {
            net.change(reflector, |settings| {
                for peer in settings.peers.values_mut() {
                    (peer.reflection, peer.export) = (reflection, export);
                }
            });
        }
    };
    reflect(&mut net, Reflection::Client, Export::All);
    net.run_for(seconds(1));
    for node in REFLECTORS.len()..nodes {
        net.change(node, |settings| {
            let kept = REFLECTORS.map(|reflector| PeerName::from(format!("n{reflector}")));
            settings.peers.retain(|name, _| kept.contains(name));
        });
        net.run_for(Duration::from_millis(5));
    }
    net.run_for(seconds(3));
    let last = nodes - 1;
    assert_eq!(net.status(last).len(), REFLECTORS.len());
    assert_eq!(net.routes(last), &net.expected_in_mesh(last));
    for node in REFLECTORS.len()..nodes {
        net.change(node, |settings| {
            let others = (REFLECTORS.len()..nodes).filter(|other| *other != node);
            settings.peers.extend(others.map(|other| {
                let peer = PeerSettings::new(net_address(other), Asn(64512));
                (PeerName::from(format!("n{other}")), peer)
            }));
        });
    }
    net.run_for(seconds(5));
    reflect(&mut net, Reflection::Ordinary, Export::Own);
    net.run_for(seconds(3));
    for (node, before) in before.into_iter().enumerate() {
        assert_eq!(net.routes(node), &net.expected_in_mesh(node), "node {node}");
        assert_eq!(net.losses(node), before, "node {node}");
    }
    assert!(
        net.status(last)
            .values()
            .all(|peer| peer.state == State::Established)
    );
}

fn net_address(node: usize) -> IpAddr {
    Net::new(0).address_of(node)
}
