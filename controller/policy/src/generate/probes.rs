//! Random probes of a world.

use std::collections::BTreeSet;

use super::{EXTERNALS, PORTS, Random, protocol};
use crate::flow::{End, Family, Flow, Transport};
use crate::model::{Cluster, PodId};
use crate::verdict::Evaluator;

/// At most `count` different flows that there can be in the cluster, in no order.
///
/// One end at least is a pod with an address of its own; none is the other. Addresses are those of
/// pods or of the outside.
pub fn probes(seed: u64, cluster: &Cluster, count: usize) -> Vec<Flow> {
    let random = &mut Random::new(seed);
    let evaluator = Evaluator::new(cluster);
    let pods: Vec<&PodId> = cluster
        .pods
        .iter()
        .filter(|(_, pod)| pod.is_workload())
        .map(|(id, _)| id)
        .collect();
    let mut flows = BTreeSet::new();
    let mut shuffled = Vec::new();
    // Some tries give flows that cannot be, or that there are already.
    for _ in 0..count.saturating_mul(4) {
        if shuffled.len() == count {
            break;
        }
        let Some(pod) = random.pick(&pods) else { break };
        let (one, other) = (End::Pod((*pod).clone()), other_end(random, cluster, &pods));
        let (from, to) = if random.chance(1, 2) {
            (one, other)
        } else {
            (other, one)
        };
        let family = if random.chance(1, 2) {
            Family::V4
        } else {
            Family::V6
        };
        let flow = flow(random, cluster, from, to, family);
        let itself = match evaluator.parties(&flow) {
            Ok((client, server)) => client.address == server.address,
            Err(_) => continue,
        };
        if !itself && flows.insert(flow.clone()) {
            shuffled.push(flow);
        }
    }
    shuffled
}

fn other_end(random: &mut Random, cluster: &Cluster, pods: &[&PodId]) -> End {
    let pod = |random: &mut Random| random.pick(pods).map(|id| End::Pod((*id).clone()));
    let found = match random.below(10) {
        0 | 1 => random
            .pick(&EXTERNALS)
            .and_then(|text| text.parse().ok())
            .map(End::Address),
        2 => {
            let nodes: Vec<_> = cluster.nodes.keys().collect();
            random.pick(&nodes).map(|name| End::Node((*name).clone()))
        }
        3 => {
            let host: Vec<_> = cluster
                .pods
                .iter()
                .filter(|(_, pod)| pod.host_network)
                .map(|(id, _)| id)
                .collect();
            random.pick(&host).map(|id| End::Pod((*id).clone()))
        }
        // The address of a live pod is that pod.
        4 => {
            let claimed: Vec<_> = cluster
                .pods
                .values()
                .flat_map(|pod| pod.claims().iter().copied())
                .collect();
            random.pick(&claimed).map(|address| End::Address(*address))
        }
        _ => pod(random),
    };
    found
        .or_else(|| pod(random))
        .unwrap_or(End::Address(std::net::IpAddr::V4(
            std::net::Ipv4Addr::LOCALHOST,
        )))
}

fn flow(random: &mut Random, cluster: &Cluster, from: End, to: End, family: Family) -> Flow {
    if random.one_in(10) {
        return Flow {
            from,
            to,
            protocol: Transport::Icmp,
            port: 0,
            family,
        };
    }
    // Half of the probes go where the server listens.
    let listening = match &to {
        End::Pod(id) => cluster
            .pods
            .get(id)
            .map(|pod| pod.ports.as_slice())
            .unwrap_or_default(),
        End::Node(_) | End::Address(_) => &[],
    };
    let (protocol, port) = match random.pick(listening) {
        Some(port) if random.chance(1, 2) => (port.protocol, port.number),
        Some(_) | None => (protocol(random), *random.pick(&PORTS).unwrap_or(&80)),
    };
    Flow {
        from,
        to,
        protocol: Transport::Port(protocol),
        port,
        family,
    }
}
