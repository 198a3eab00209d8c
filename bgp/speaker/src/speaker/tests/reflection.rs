//! Route reflection (RFC 4456).

use super::*;
use crate::settings::{NextHopMode, Reflection};

/// A star of one AS: node 0 reflects, the others are its clients unless said otherwise.
fn star(leaves: usize, ordinary: &[usize]) -> Net {
    let mut net = Net::new(9);
    for node in 0..=leaves {
        net.add_mesh_node(node);
    }
    for leaf in 1..=leaves {
        net.peer(0, leaf);
        net.set(0, leaf, |peer| {
            peer.export = Export::All;
            if !ordinary.contains(&leaf) {
                peer.reflection = Reflection::Client;
            }
        });
    }
    net
}

/// §6: from clients to all, from the others to clients; §8: who began it, and through which clusters it came.
#[test]
fn a_reflector_passes_routes_between_clients_and_leaves_the_next_hop() {
    let mut net = star(4, &[3, 4]);
    net.run_for(seconds(2));
    for (from, to, expected) in [
        (1, 2, true),
        (1, 3, true),
        (3, 1, true),
        (3, 4, false),
        (4, 3, false),
    ] {
        let best = net.best(to, &format!("10.{from}.0.0/26"));
        assert_eq!(best.is_some(), expected, "from {from} to {to}");
        if let Some(best) = best {
            assert_eq!(best.next_hop.address(), net.address_of(from));
            let id = |node| BgpId(format!("192.0.2.{}", node + 1).parse().unwrap());
            assert_eq!(best.attrs.originator_id, Some(id(from)));
            assert_eq!(best.attrs.cluster_list, [id(0)]);
        }
    }
    // IPv6 routes keep theirs too.
    assert_eq!(next_hops(&net, 2, "fd00:1::/122"), hops(&["2001:db8::2"]));
    // A client hears nothing of its own routes.
    assert_eq!(net.status(1)["n0"].refused, 0);
    net.announce(1, &[]);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 2, "10.1.0.0/26"), hops(&[]));
}

/// RFC 4456 §10 has a reflector leave the next hop; who asks for it gets the reflector (RFC 4271 §5.1.3).
#[test]
fn a_reflector_may_be_the_next_hop_of_what_it_passes_on() {
    let mut net = star(2, &[]);
    net.set(0, 2, |peer| peer.next_hop = NextHopMode::Own);
    net.run_for(seconds(2));
    assert_eq!(next_hops(&net, 2, "10.1.0.0/26"), hops(&["192.0.2.1"]));
    assert_eq!(next_hops(&net, 2, "fd00:1::/122"), hops(&["2001:db8::1"]));
    assert_eq!(next_hops(&net, 1, "10.2.0.0/26"), hops(&["192.0.2.3"]));
    // It takes effect without a new session, both ways.
    let resets = net.resets(2);
    net.set(0, 2, |peer| peer.next_hop = NextHopMode::Auto);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 2, "10.1.0.0/26"), hops(&["192.0.2.2"]));
    net.set(0, 2, |peer| peer.next_hop = NextHopMode::Own);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 2, "10.1.0.0/26"), hops(&["192.0.2.1"]));
    assert_eq!(net.resets(2), resets);
}

/// §8: two reflectors of one cluster do not take each other's reflected routes; of two clusters they do.
#[test]
fn a_cluster_is_not_entered_twice() {
    for (cluster, expected) in [(Some("10.9.9.9"), false), (None, true)] {
        let mut net = Net::new(10);
        for node in 0..4 {
            net.add_mesh_node(node);
        }
        // n0 and n1 reflect for each other; n2 is a client of n0, n3 of n1.
        for (one, other) in [(0, 1), (0, 2), (1, 3)] {
            net.peer(one, other);
        }
        for reflector in [0, 1] {
            net.change(reflector, |settings| {
                settings.cluster_id = cluster.map(|id| BgpId(id.parse().unwrap()));
                for peer in settings.peers.values_mut() {
                    peer.export = Export::All;
                    peer.reflection = Reflection::Client;
                }
            });
        }
        net.run_for(seconds(2));
        let reached = net.best(3, "10.2.0.0/26").is_some();
        assert_eq!(reached, expected, "{cluster:?}");
        let refused = net.status(1)["n0"].refused > 0;
        assert_eq!(refused, !expected);
        if let Some(best) = net.best(3, "10.2.0.0/26") {
            assert_eq!(best.attrs.cluster_list.len(), 2);
        }
    }
}

#[test]
fn a_peer_that_becomes_a_client_is_told_without_a_new_session() {
    let mut net = star(3, &[1, 2, 3]);
    net.run_for(seconds(2));
    let resets = net.resets(0);
    assert!(net.best(1, "10.2.0.0/26").is_none());
    net.set(0, 1, |peer| peer.reflection = Reflection::Client);
    net.run_for(seconds(1));
    assert!(net.best(1, "10.2.0.0/26").is_some());
    assert!(net.best(2, "10.1.0.0/26").is_some());
    assert!(net.best(2, "10.3.0.0/26").is_none());
    net.set(0, 1, |peer| peer.reflection = Reflection::Ordinary);
    net.run_for(seconds(1));
    assert!(net.best(1, "10.2.0.0/26").is_none());
    assert!(net.best(2, "10.1.0.0/26").is_none());
    assert_eq!(net.resets(0), resets);
}
