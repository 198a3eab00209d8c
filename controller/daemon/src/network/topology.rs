//! Which nodes speak with each other, and who reflects for whom (DESIGN §5).
//!
//! All of it follows from the objects that exist, so that every replica says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use margay_api::v1::Topology;
use margay_ipam::Family;
use margay_policy::model::{Labels, Node, NodeName};

use super::Inputs;

/// A node with this label is a route reflector; its value is the cluster id, or `true` for one of its own.
pub(super) const REFLECTOR: &str = "margay.io/route-reflector";
const ZONE: &str = "topology.kubernetes.io/zone";
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// `Auto` is a mesh up to so many nodes: above, sessions cost more than the detour of an UPDATE.
const LARGEST_MESH: usize = 100;
/// How many reflectors a zone has if no node is labelled.
const ELECTED: usize = 2;
/// How many reflectors serve a node at most.
const SERVING: usize = 3;

/// Who speaks with whom.
#[derive(Debug, Default)]
pub(super) struct Pairs<'a> {
    mesh: bool,
    /// Reflectors, with the nodes that they serve.
    reflectors: BTreeMap<&'a NodeName, BTreeSet<&'a NodeName>>,
}

/// What another node is to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// An ordinary peer.
    Ordinary,
    /// A reflector, as we are: what our clients tell us is passed on.
    Fellow,
    /// Our client.
    Client,
}

impl<'a> Pairs<'a> {
    pub(super) fn of(inputs: &'a Inputs) -> Self {
        let topology = match inputs.config.bgp.topology {
            Topology::Auto if inputs.nodes.len() > LARGEST_MESH => Topology::Reflectors,
            Topology::Auto | Topology::Mesh => Topology::Mesh,
            Topology::Reflectors => Topology::Reflectors,
            Topology::None => Topology::None,
        };
        let mut pairs = Self {
            mesh: topology == Topology::Mesh,
            reflectors: BTreeMap::new(),
        };
        if topology != Topology::Reflectors {
            return pairs;
        }
        for reflector in reflectors(&inputs.nodes) {
            pairs.reflectors.insert(reflector, BTreeSet::new());
        }
        for (name, node) in &inputs.nodes {
            if pairs.reflectors.contains_key(name) {
                continue;
            }
            for reflector in serving(inputs, &pairs.reflectors, name, node) {
                pairs.reflectors.entry(reflector).or_default().insert(name);
            }
        }
        pairs
    }

    /// The nodes that `name` speaks with.
    pub(super) fn others(
        &self,
        inputs: &'a Inputs,
        name: &NodeName,
    ) -> BTreeMap<&'a NodeName, Role> {
        if self.mesh {
            let others = inputs.nodes.keys().filter(|other| *other != name);
            return others.map(|other| (other, Role::Ordinary)).collect();
        }
        let Some(clients) = self.reflectors.get(name) else {
            let serving = self.reflectors.iter();
            return serving
                .filter(|(_, clients)| clients.contains(name))
                .map(|(reflector, _)| (*reflector, Role::Ordinary))
                .collect();
        };
        let fellows = self.reflectors.keys().filter(|other| **other != name);
        fellows
            .map(|fellow| (*fellow, Role::Fellow))
            .chain(clients.iter().map(|client| (*client, Role::Client)))
            .collect()
    }
}

impl fmt::Display for Pairs<'_> {
    /// In a word, and who reflects by a hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.reflectors.keys().map(|name| name.0.as_str()).collect();
        match (self.mesh, names.as_slice()) {
            (true, _) => f.write_str("mesh"),
            (false, []) => f.write_str("none"),
            (false, names) => write!(f, "reflectors-{:016x}", hash(names)),
        }
    }
}

/// The labelled nodes; without any, of each zone some that change little as nodes come and go.
fn reflectors(nodes: &BTreeMap<NodeName, Node>) -> Vec<&NodeName> {
    let labelled: Vec<_> = nodes
        .iter()
        .filter(|(_, node)| node.labels.contains_key(REFLECTOR))
        .map(|(name, _)| name)
        .collect();
    if !labelled.is_empty() {
        return labelled;
    }
    let mut zones: BTreeMap<&str, Vec<(bool, u64, &NodeName)>> = BTreeMap::new();
    for (name, node) in nodes {
        // Nodes of the control plane stay longest.
        let other = !node.labels.contains_key(CONTROL_PLANE);
        let rank = (other, hash(&[&name.0]), name);
        zones.entry(zone(node)).or_default().push(rank);
    }
    let mut elected = Vec::new();
    for mut candidates in zones.into_values() {
        candidates.sort();
        elected.extend(
            candidates
                .into_iter()
                .take(ELECTED)
                .map(|(_, _, name)| name),
        );
    }
    elected
}

/// The reflectors of a node: those of its zone, or any if that has none.
fn serving<'a>(
    inputs: &Inputs,
    reflectors: &BTreeMap<&'a NodeName, BTreeSet<&'a NodeName>>,
    name: &NodeName,
    node: &Node,
) -> Vec<&'a NodeName> {
    let near = |reflector: &NodeName| {
        let reflector = inputs.nodes.get(reflector);
        reflector.is_some_and(|reflector| zone(reflector) == zone(node))
    };
    let mut ranked: Vec<(bool, u64, &NodeName)> = reflectors
        .keys()
        .map(|reflector| (!near(reflector), hash(&[&name.0, &reflector.0]), *reflector))
        .collect();
    ranked.sort();
    let far = ranked.first().is_none_or(|(far, _, _)| *far);
    ranked.retain(|(is_far, _, _)| *is_far == far);
    let most = if far { ELECTED } else { SERVING };
    ranked
        .into_iter()
        .take(most)
        .map(|(_, _, name)| name)
        .collect()
}

fn zone(node: &Node) -> &str {
    node.labels.get(ZONE).map_or("", String::as_str)
}

/// The cluster id that a label names; `Err` with the value if it is none.
pub(super) fn cluster_id(labels: &Labels) -> Result<Option<Ipv4Addr>, String> {
    match labels.get(REFLECTOR).map(String::as_str) {
        None | Some("" | "true") => Ok(None),
        Some(text) => match text.parse::<Ipv4Addr>() {
            Ok(id) if !id.is_unspecified() => Ok(Some(id)),
            Ok(_) | Err(_) => Err(text.to_owned()),
        },
    }
}

/// What `there` is to `here` in a session that a `BGPPeer` makes between them: its client, if only `here` is a
/// reflector.
pub(super) fn role(here: &Labels, there: &Labels) -> Role {
    match (here.get(REFLECTOR), there.get(REFLECTOR)) {
        (Some(_), None) => Role::Client,
        (Some(_), Some(_)) => Role::Fellow,
        (None, _) => Role::Ordinary,
    }
}

/// The address of `there` at which `here` speaks with it: normally its first. One session carries both
/// families, so both sides must mean the same one: the family comes from the addresses of the node that is
/// first by name. `None` if they have no family in common.
pub(super) fn meet(here: (&NodeName, &Node), there: (&NodeName, &Node)) -> Option<IpAddr> {
    let (first, second) = if here.0 < there.0 {
        (here.1, there.1)
    } else {
        (there.1, here.1)
    };
    let has = |node: &Node, family| node.addresses.iter().any(|a| Family::of(*a) == family);
    let mut families = first.addresses.iter().map(|address| Family::of(*address));
    let family = families.find(|family| has(second, *family))?;
    let address = there
        .1
        .addresses
        .iter()
        .find(|address| Family::of(**address) == family)?;
    // Two nodes with one address: a mistake that must not make a node dial itself.
    (!here.1.addresses.contains(address)).then_some(*address)
}

/// FNV-1a over words: the same in every version, so that replicas agree during an upgrade.
fn hash(words: &[&str]) -> u64 {
    let octets = words.iter().flat_map(|word| word.bytes().chain([0]));
    let mixed = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // Names that differ in their last letter alone are not neighbours.
    (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;
