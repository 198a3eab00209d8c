use super::*;
use crate::model::{PeerSelector, PortSelector};

#[test]
fn a_seed_gives_the_same_world_every_time() {
    assert_eq!(cluster(7, &Profile::wild()), cluster(7, &Profile::wild()));
    assert_ne!(cluster(7, &Profile::wild()), cluster(8, &Profile::wild()));
    let world = cluster(7, &Profile::kubernetes());
    assert_eq!(probes(1, &world, 100), probes(1, &world, 100));
}

#[test]
fn worlds_have_the_corners_that_they_are_for() {
    let worlds: Vec<Cluster> = (0..50)
        .map(|seed| cluster(seed, &Profile::kubernetes()))
        .collect();
    let pods = || worlds.iter().flat_map(|world| world.pods.values());
    let rules = || {
        let policies = worlds.iter().flat_map(|world| world.policies.values());
        policies
            .flat_map(|policy| policy.ingress.iter().chain(&policy.egress))
            .flatten()
    };
    let peers = || rules().filter_map(|rule| rule.peers.as_ref()).flatten();
    let ports = || rules().filter_map(|rule| rule.ports.as_ref()).flatten();
    assert!(pods().any(|pod| pod.host_network));
    assert!(pods().any(|pod| pod.finished));
    assert!(pods().any(|pod| pod.addresses.len() == 1));
    assert!(peers().any(|peer| matches!(peer, PeerSelector::Unusable(_))));
    assert!(
        peers().any(|peer| matches!(peer, PeerSelector::Cidr { except, .. } if !except.is_empty()))
    );
    assert!(ports().any(|port| matches!(port, PortSelector::Named(..))));
    assert!(
        ports().any(|port| matches!(port, PortSelector::Range(_, first, last) if first < last))
    );
    assert!(ports().any(|port| matches!(port, PortSelector::Unusable(_))));
}

#[test]
fn a_share_of_the_probes_is_allowed_and_a_share_denied() {
    let (mut allowed, mut all) = (0, 0);
    for seed in 0..50 {
        let world = cluster(seed, &Profile::kubernetes());
        let evaluator = crate::verdict::Evaluator::new(&world);
        for flow in probes(seed, &world, 100) {
            all += 1;
            allowed += usize::from(evaluator.verdict(&flow).unwrap().allow);
        }
    }
    assert!(
        all > 4_000 && allowed > all / 5 && allowed < all * 4 / 5,
        "{allowed} of {all}"
    );
}
