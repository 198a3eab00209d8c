//! The objects to judge by: a folder of YAML.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use margay_api::world::{self, World};
use margay_policy::model::Cluster;
use margay_policy::verdict::FlowError;

use crate::output::{count, list, remark};
use crate::similar::did_you_mean;

/// Pools of a world that names none, as the controller has it.
const POOLS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];

/// Reads a world; what is wrong inside its files is told on stderr.
pub(super) fn read(folder: &Path) -> anyhow::Result<World> {
    let mut world = world::read(folder)?;
    for problem in &world.problems {
        remark(format_args!("{}/{problem}", folder.display()));
    }
    let assumed = assume_addresses(&mut world);
    if assumed > 0 {
        let pools = list(pools(&world), " and ");
        remark(format_args!(
            "{} without status.podIPs: judged as if with addresses of {pools}",
            count(assumed, "pod")
        ));
    }
    Ok(world)
}

/// Gives pods and nodes without any address one of each family; of how many pods.
///
/// A node hands out addresses when a pod starts; in a folder that never met a node they are unknown, but
/// what selectors decide does not depend on them.
fn assume_addresses(world: &mut World) -> usize {
    let pods = world.cluster.pods.values();
    let taken: BTreeSet<IpAddr> = pods.flat_map(|pod| &pod.addresses).copied().collect();
    let mut free: Vec<_> = pools(world).iter().map(IpNet::hosts).collect();
    let mut assumed = 0;
    for pod in world.cluster.pods.values_mut() {
        if pod.is_workload() && pod.claims().is_empty() {
            let next = free
                .iter_mut()
                .filter_map(|pool| pool.find(|address| !taken.contains(address)));
            pod.reported = next.collect();
            assumed += 1;
        }
    }
    for (node, number) in world.cluster.nodes.values_mut().zip(1..) {
        if node.addresses.is_empty() {
            node.addresses = vec![
                Ipv4Addr::new(198, 18, 0, number).into(),
                Ipv6Addr::new(0xfdfe, 18, 0, 0, 0, 0, 0, number.into()).into(),
            ];
        }
    }
    assumed
}

/// The first pool of each family that addresses are taken from.
fn pools(world: &World) -> Vec<IpNet> {
    let named: Vec<IpNet> = world
        .pools
        .iter()
        .filter(|pool| !pool.spec.disabled)
        .map(|pool| pool.spec.cidr)
        .collect();
    let all: Vec<IpNet> = if world.pools.is_empty() {
        POOLS.iter().filter_map(|pool| pool.parse().ok()).collect()
    } else {
        named
    };
    let first = |v4: bool| all.iter().find(|pool| pool.addr().is_ipv4() == v4).copied();
    [first(true), first(false)].into_iter().flatten().collect()
}

/// Whether whoever asked mistook a name, as against an end that has no address at present.
pub(super) fn is_mistake(error: &FlowError) -> bool {
    match error {
        FlowError::UnknownPod(_) | FlowError::UnknownNode(_) | FlowError::WrongFamily { .. } => {
            true
        }
        FlowError::Unscheduled(_)
        | FlowError::Finished(_)
        | FlowError::NoAddress { .. }
        | FlowError::Superseded { .. } => false,
    }
}

/// Why there can be no such flow, with names that were perhaps meant.
pub(super) fn with_guess(error: &FlowError, cluster: &Cluster) -> String {
    let guess = match error {
        FlowError::UnknownPod(id) => {
            let names: Vec<String> = cluster.pods.keys().map(ToString::to_string).collect();
            did_you_mean(&id.to_string(), names.iter().map(String::as_str))
        }
        FlowError::UnknownNode(name) => {
            did_you_mean(&name.0, cluster.nodes.keys().map(|name| name.0.as_str()))
        }
        FlowError::Unscheduled(_)
        | FlowError::Finished(_)
        | FlowError::NoAddress { .. }
        | FlowError::Superseded { .. }
        | FlowError::WrongFamily { .. } => String::new(),
    };
    format!("{error}{guess}")
}
