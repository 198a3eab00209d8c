//! Next hops that are tracked (RFC 4271 §9.1.2.1, §9.1.2.2 e), and routes that wait (RFC 4724 §4.1).

use super::*;
use crate::rib::{Reach, Step};
use crate::settings::{Deferral, Switch};

const PREFIX: &str = "198.51.100.0/24";

/// Node 0 hears of a prefix from nodes 1 and 2, of two other ASes, and passes on to node 3 what it knows.
fn two_ways() -> Net {
    let mut net = Net::new(9);
    for asn in [65000, 65001, 65002, 65003] {
        net.add_router(asn);
    }
    for other in 1..4 {
        net.peer(0, other);
    }
    net.transit(0);
    net.announce(1, &[PREFIX]);
    net.announce(2, &[PREFIX]);
    net.change(0, |settings| settings.track_next_hops = Switch::On);
    net.run_for(seconds(2));
    net
}

fn via(metric: u32, gateways: &[&str]) -> Reach {
    Reach::Via {
        metric,
        gateways: hops(gateways),
    }
}

#[test]
fn a_route_without_a_way_to_its_next_hop_is_neither_used_nor_told() {
    let mut net = two_ways();
    assert_eq!(
        next_hops(&net, 0, PREFIX),
        hops(&["192.0.2.2", "192.0.2.3"])
    );
    net.set_way(0, "192.0.2.2", Reach::Unreachable);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, PREFIX), hops(&["192.0.2.3"]));
    let paths = net
        .speaker(0)
        .destination(&PREFIX.parse().unwrap())
        .unwrap();
    let last = paths.paths.last().unwrap();
    assert_eq!(
        (last.selected, last.decided_by),
        (false, Some(Step::Reachable))
    );
    net.set_way(0, "192.0.2.3", Reach::Unreachable);
    net.run_for(seconds(1));
    assert!(next_hops(&net, 0, PREFIX).is_empty());
    assert!(net.best(3, PREFIX).is_none());
    assert_eq!(net.resets(0) + net.resets(3), 0);
    net.set_way(0, "192.0.2.2", via(0, &[]));
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, PREFIX), hops(&["192.0.2.2"]));
    assert!(net.best(3, PREFIX).is_some());
}

#[test]
fn the_nearer_next_hop_is_preferred_and_a_distant_one_reached_by_its_gateways() {
    let mut net = two_ways();
    net.set_way(0, "192.0.2.2", via(20, &["192.0.2.77", "192.0.2.78"]));
    net.set_way(0, "192.0.2.3", via(30, &[]));
    net.run_for(seconds(1));
    let gateways = hops(&["192.0.2.77", "192.0.2.78"]);
    assert_eq!(next_hops(&net, 0, PREFIX), gateways);
    let best = net.best(0, PREFIX).unwrap();
    assert_eq!(best.decided_by, Some(Step::Metric));
    // Only the gateway is another.
    net.set_way(0, "192.0.2.2", via(20, &["192.0.2.78"]));
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, PREFIX), hops(&["192.0.2.78"]));
    net.set_way(0, "192.0.2.3", via(20, &[]));
    net.run_for(seconds(1));
    assert_eq!(
        next_hops(&net, 0, PREFIX),
        hops(&["192.0.2.78", "192.0.2.3"])
    );
}

#[test]
fn what_no_route_has_any_more_is_not_tracked_and_switched_off_nothing_is() {
    let mut net = two_ways();
    let all = hops(&["192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    assert_eq!(net.tracked(0), &all);
    net.change(0, |settings| {
        settings.peers.remove("n2");
    });
    net.run_for(seconds(1));
    assert_eq!(net.tracked(0), &hops(&["192.0.2.2", "192.0.2.4"]));
    net.set_way(0, "192.0.2.2", Reach::Unreachable);
    net.change(0, |settings| settings.track_next_hops = Switch::Off);
    net.run_for(seconds(1));
    assert!(net.tracked(0).is_empty());
    assert_eq!(next_hops(&net, 0, PREFIX), hops(&["192.0.2.2"]));
}

/// Node 0, which passes everything on, restarts beside two others.
fn restarting(deferral: Option<Deferral>) -> Net {
    let mut net = Net::new(9);
    for asn in [65000, 65001, 65002] {
        net.add_router(asn);
    }
    net.peer(0, 1);
    net.peer(0, 2);
    net.transit(0);
    net.change(0, |settings| settings.deferral = deferral);
    // Longer than they count as just started.
    net.run_for(seconds(130));
    net
}

#[test]
fn after_a_restart_nothing_is_told_until_everybody_has_told_everything() {
    let deferral = Deferral {
        most: seconds(300),
        absent: seconds(20),
    };
    let mut net = restarting(Some(deferral));
    assert!(net.best(2, "203.0.1.0/24").is_some());
    // One of the two does not come back in time.
    net.cut(0, 2);
    net.kill(0);
    net.start(0);
    net.run_for(seconds(10));
    assert_eq!(net.state(0, "n1"), State::Established);
    assert!(next_hops(&net, 0, "203.0.1.0/24").is_empty());
    net.run_for(seconds(15));
    assert!(!next_hops(&net, 0, "203.0.1.0/24").is_empty());
    net.join(0, 2);
    net.run_for(seconds(20));
    for prefix in ["203.0.0.0/24", "203.0.1.0/24"] {
        assert!(net.best(2, prefix).is_some());
    }
}

#[test]
fn without_deferral_and_with_everybody_there_nothing_waits() {
    for deferral in [None, Some(Deferral::USUAL)] {
        let mut net = restarting(deferral);
        net.restart(0);
        net.run_for(seconds(8));
        assert!(!next_hops(&net, 0, "203.0.1.0/24").is_empty());
        assert!(net.best(2, "203.0.1.0/24").is_some());
    }
}
