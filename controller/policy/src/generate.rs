//! Random worlds, full of corners, for tests of everything that handles policy.
//!
//! Values come from a seed alone: the same seed gives the same world on every machine. Worlds of
//! [`Profile::kubernetes`] can be written as Kubernetes YAML; those of [`Profile::wild`] also have
//! tiers, denies and passes, contested addresses and selectors that cannot be understood.

mod events;
mod policies;
mod probes;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{
    Cluster, ContainerPort, Labels, Namespace, Node, NodeName, Pod, PodId, Protocol,
};

pub use events::events;
pub use probes::probes;
pub use random::Random;

#[cfg(test)]
mod tests;

/// What a random world is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How many nodes, at least 1.
    pub nodes: usize,
    /// How many namespaces, 1 to 6.
    pub namespaces: usize,
    /// How many live pods with addresses of their own, about.
    pub pods: usize,
    /// How many policies, about.
    pub policies: usize,
    /// More than a Kubernetes API server would let in.
    pub wild: bool,
}

impl Profile {
    /// Ten pods on three nodes, as plain Kubernetes objects.
    pub fn kubernetes() -> Self {
        Self {
            nodes: 3,
            namespaces: 3,
            pods: 10,
            policies: 8,
            wild: false,
        }
    }

    /// The same, with everything that the model can hold.
    pub fn wild() -> Self {
        Self {
            wild: true,
            ..Self::kubernetes()
        }
    }
}

const NAMESPACES: [&str; 6] = ["red", "green", "blue", "a", "b", "app"];
const KEYS: [&str; 4] = ["app", "role", "example.com/zone", "env"];
const VALUES: [&str; 4] = ["", "a", "b", "ab"];
const PORTS: [u16; 8] = [1, 53, 79, 80, 81, 443, 8080, 65535];
const PORT_NAMES: [&str; 3] = ["web", "dns", "metrics"];
const HOSTS: [u8; 14] = [1, 2, 3, 4, 7, 8, 31, 63, 64, 127, 128, 129, 254, 255];

/// Addresses outside the cluster.
const EXTERNALS: [&str; 8] = [
    "8.8.8.8",
    "9.255.255.255",
    "10.1.0.0",
    "172.16.0.1",
    "2001:db8::1",
    "2600::",
    "fd00:11::1",
    "fd00:10:0:ffff::1",
];

/// A random world.
pub fn cluster(seed: u64, profile: &Profile) -> Cluster {
    let random = &mut Random::new(seed);
    let mut world = World {
        profile,
        cluster: Cluster::default(),
        taken: BTreeSet::new(),
    };
    world.nodes(random);
    world.namespaces(random);
    world.pods(random);
    for index in 0..profile.policies {
        let (id, policy) = world.policy(random, index);
        world.cluster.policies.insert(id, policy);
    }
    world.cluster
}

/// A world in the making.
struct World<'a> {
    profile: &'a Profile,
    cluster: Cluster,
    /// Host parts in use, by namespace.
    taken: BTreeSet<(usize, u8)>,
}

impl World<'_> {
    fn nodes(&mut self, random: &mut Random) {
        for number in 1..=self.profile.nodes {
            let addresses = [
                format!("192.168.0.{number}"),
                format!("fd00:192:168::{number:x}"),
            ];
            let addresses = addresses
                .iter()
                .filter_map(|address| address.parse().ok())
                .collect();
            let node = Node {
                labels: labels(random),
                addresses,
            };
            self.cluster
                .nodes
                .insert(NodeName(format!("n{number}")), node);
        }
    }

    fn namespaces(&mut self, random: &mut Random) {
        for name in self.namespace_names() {
            // A namespace without an object is selected by nothing but `{}` and its own name.
            if self.profile.wild && random.one_in(8) {
                continue;
            }
            let mut labels = labels(random);
            if random.chance(2, 3) {
                labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
            }
            self.cluster.namespaces.insert(name, Namespace { labels });
        }
    }

    fn namespace_names(&self) -> Vec<String> {
        NAMESPACES
            .iter()
            .take(self.profile.namespaces)
            .map(|name| (*name).to_owned())
            .collect()
    }

    fn pods(&mut self, random: &mut Random) {
        for index in 0..self.profile.pods {
            let (id, pod) = self.pod(random, &format!("p{index}"), index);
            self.cluster.pods.insert(id, pod);
        }
        for index in 0..self.profile.pods.div_ceil(8) {
            let (id, mut pod) =
                self.pod(random, &format!("host{index}"), self.profile.pods + index);
            pod.host_network = true;
            let node = pod
                .node
                .as_ref()
                .and_then(|node| self.cluster.nodes.get(node));
            pod.addresses = node
                .map(|node| node.addresses.iter().copied().collect())
                .unwrap_or_default();
            self.cluster.pods.insert(id, pod);
        }
        // Finished pods, some with the address of a live one.
        for index in 0..self.profile.pods.div_ceil(8) {
            let (id, mut pod) = self.pod(
                random,
                &format!("done{index}"),
                self.profile.pods * 2 + index,
            );
            pod.finished = true;
            let live: Vec<_> = self
                .cluster
                .pods
                .values()
                .filter(|pod| pod.is_workload())
                .collect();
            if let Some(other) = random.pick(&live)
                && random.chance(1, 2)
            {
                pod.addresses.clone_from(&other.addresses);
            }
            self.cluster.pods.insert(id, pod);
        }
        if self.profile.wild {
            self.contest(random);
        }
    }

    /// Lets some pods claim addresses of others, be on no node yet, or have reported ones only.
    fn contest(&mut self, random: &mut Random) {
        let workloads = self.cluster.pods.values().filter(|pod| !pod.host_network);
        let all: Vec<BTreeSet<IpAddr>> = workloads.map(|pod| pod.addresses.clone()).collect();
        for pod in self.cluster.pods.values_mut() {
            if random.one_in(6)
                && let Some(addresses) = random.pick(&all)
            {
                pod.addresses.extend(addresses.iter().copied());
            }
            if random.one_in(8) {
                pod.reported = std::mem::take(&mut pod.addresses);
            }
            if random.one_in(10) {
                pod.node = None;
            }
        }
    }

    fn pod(&mut self, random: &mut Random, name: &str, age: usize) -> (PodId, Pod) {
        let names = self.namespace_names();
        let index = random.below(names.len());
        let id = PodId::new(names[index].clone(), name);
        let node = NodeName(format!("n{}", random.below(self.profile.nodes) + 1));
        let pod = Pod {
            uid: format!("00000000-0000-4000-8000-{age:012x}"),
            created: format!("2026-01-01T00:{:02}:{:02}Z", age / 60 % 60, age % 60),
            labels: labels(random),
            node: Some(node),
            host_network: false,
            finished: false,
            addresses: self.addresses(random, index),
            reported: BTreeSet::new(),
            ports: ports(random),
        };
        (id, pod)
    }

    /// Addresses that no other pod has: of both families, or of one.
    fn addresses(&mut self, random: &mut Random, namespace: usize) -> BTreeSet<IpAddr> {
        let mut host = *random.pick(&HOSTS).unwrap_or(&1);
        while !self.taken.insert((namespace, host)) {
            host = host.wrapping_add(1);
            if self.taken.len() > 255 * NAMESPACES.len() {
                break;
            }
        }
        let (v4, v6) = (
            format!("10.0.{namespace}.{host}"),
            format!("fd00:10:0:{namespace}::{host:x}"),
        );
        let families = random.below(8);
        let wanted = [(families != 0, v4), (families != 1, v6)];
        wanted
            .iter()
            .filter(|(wanted, _)| *wanted)
            .filter_map(|(_, address)| address.parse().ok())
            .collect()
    }
}

fn labels(random: &mut Random) -> Labels {
    let mut labels = BTreeMap::new();
    for key in KEYS {
        if random.chance(1, 2)
            && let Some(value) = random.pick(&VALUES)
        {
            labels.insert(key.to_owned(), (*value).to_owned());
        }
    }
    labels
}

fn ports(random: &mut Random) -> Vec<ContainerPort> {
    let mut ports: Vec<ContainerPort> = Vec::new();
    for _ in 0..random.below(4) {
        let name = random.pick(&PORT_NAMES).filter(|_| random.chance(5, 6));
        ports.push(ContainerPort {
            name: name.map(|name| (*name).to_owned()),
            protocol: protocol(random),
            number: *random.pick(&PORTS).unwrap_or(&80),
        });
    }
    ports
}

fn protocol(random: &mut Random) -> Protocol {
    *random
        .pick(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
        .unwrap_or(&Protocol::Tcp)
}
