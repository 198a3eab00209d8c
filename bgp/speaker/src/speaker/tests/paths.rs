//! Several paths to one prefix (RFC 7911), and how many of them are used.

use super::*;
use crate::settings::{AddPath, BestPath, Reflection, Switch};

/// Node 0 reflects; nodes 1 to 3 announce one anycast prefix, node 4 listens.
fn anycast(send: u8) -> Net {
    let mut net = Net::new(12);
    for node in 0..5 {
        net.add_mesh_node(node);
    }
    for leaf in 1..5 {
        net.peer(0, leaf);
        net.set(0, leaf, |peer| {
            peer.export = Export::All;
            peer.reflection = Reflection::Client;
            peer.add_path = AddPath {
                receive: Switch::Off,
                send,
            };
        });
        net.set(leaf, 0, |peer| peer.add_path.receive = Switch::On);
    }
    for node in 1..4 {
        net.announce(node, &["10.99.0.1/32"]);
    }
    net.run_for(seconds(2));
    net
}

#[test]
fn a_reflector_tells_all_ways_to_an_anycast_address_and_takes_each_back() {
    let mut net = anycast(8);
    let hops_of = |net: &Net| next_hops(net, 4, "10.99.0.1/32");
    assert_eq!(
        hops_of(&net),
        hops(&["192.0.2.2", "192.0.2.3", "192.0.2.4"])
    );
    assert_eq!(net.status(4)["n0"].paths_in, Family::ALL.into());
    assert_eq!(net.status(0)["n4"].paths_out, Family::ALL.into());
    net.announce(2, &[]);
    net.run_for(seconds(1));
    assert_eq!(hops_of(&net), hops(&["192.0.2.2", "192.0.2.4"]));
    net.announce(2, &["10.99.0.1/32"]);
    net.announce(1, &[]);
    net.run_for(seconds(1));
    assert_eq!(hops_of(&net), hops(&["192.0.2.3", "192.0.2.4"]));
    net.shut_down(3);
    net.run_for(seconds(1));
    assert_eq!(hops_of(&net), hops(&["192.0.2.3"]));
    // Whoever announces it is not told its own path.
    let told = net.speaker(0).advertised("n2");
    assert!(
        told.iter()
            .all(|(prefix, ..)| *prefix != "10.99.0.1/32".parse().unwrap())
    );
}

#[test]
fn no_more_paths_are_told_than_the_settings_allow() {
    let net = anycast(2);
    assert_eq!(next_hops(&net, 4, "10.99.0.1/32").len(), 2);
    let net = anycast(0);
    assert_eq!(next_hops(&net, 4, "10.99.0.1/32").len(), 1);
}

#[test]
fn a_peer_that_takes_one_path_gets_one_and_a_new_session_begins_with_all() {
    let mut net = anycast(8);
    net.set(4, 0, |peer| peer.add_path.receive = Switch::Off);
    net.run_for(seconds(2));
    assert_eq!(next_hops(&net, 4, "10.99.0.1/32").len(), 1);
    net.set(4, 0, |peer| peer.add_path.receive = Switch::On);
    net.run_for(seconds(2));
    assert_eq!(next_hops(&net, 4, "10.99.0.1/32").len(), 3);
}

#[test]
fn the_limit_of_ways_takes_effect_at_once() {
    let mut net = anycast(8);
    let limit = |n| BestPath {
        multipath_internal: n,
        ..BestPath::default()
    };
    net.change(4, |settings| settings.best_path = limit(2));
    assert_eq!(
        next_hops(&net, 4, "10.99.0.1/32"),
        hops(&["192.0.2.2", "192.0.2.3"])
    );
    net.change(4, |settings| settings.best_path = limit(1));
    assert_eq!(next_hops(&net, 4, "10.99.0.1/32"), hops(&["192.0.2.2"]));
    net.change(4, |settings| settings.best_path = limit(8));
    assert_eq!(next_hops(&net, 4, "10.99.0.1/32").len(), 3);
    let destination = net.speaker(4).lookup(address("10.99.0.1")).unwrap();
    let decided: Vec<_> = destination
        .paths
        .iter()
        .map(|path| path.decided_by)
        .collect();
    assert_eq!(decided, [Some(crate::Step::BgpId); 3]);
}
