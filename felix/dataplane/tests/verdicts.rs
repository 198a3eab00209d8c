//! Simulated packets through lowered rulesets fare as the naive evaluator says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_dataplane::local::{Attachment, Local};
use margay_dataplane::lower::lower;
use margay_dataplane::ruleset::{CtDirection, CtState, HookPoint, Ruleset};
use margay_dataplane::sim::{Connection, Packet, run};
use margay_policy::compile::compile;
use margay_policy::flow::{End, Family, Flow, Transport};
use margay_policy::generate::{Profile, cluster, probes};
use margay_policy::model::{Cluster, NodeName, Pod, PodId};
use margay_policy::node_policy::NodePolicy;
use margay_policy::verdict::Evaluator;

const WORLDS: u64 = 60;
const FLOWS: usize = 400;

#[test]
fn packets_agree_with_the_evaluator_in_kubernetes_worlds() {
    agree(&Profile::kubernetes());
}

#[test]
fn packets_agree_with_the_evaluator_in_worlds_with_tiers_denies_and_passes() {
    agree(&Profile::wild());
}

#[test]
fn a_pod_whose_policy_is_unknown_is_cut_off() {
    let cluster = cluster(1, &Profile::kubernetes());
    let mut wires = Wires::new(&cluster);
    for node in wires.nodes.values_mut() {
        *node = lower(&NodePolicy::default(), &Local::default());
    }
    let mut denied = 0;
    for flow in probes(1, &cluster, 200) {
        let Some(path) = wires.path(&flow) else {
            continue;
        };
        let concerns_a_pod = path.client.link.is_some() || path.server.link.is_some();
        let own_node = path.client.node.is_some() && path.client.node == path.server.node;
        if concerns_a_pod && !(own_node && path.client.link.is_none()) {
            assert!(!wires.passes(&flow, &path), "{flow}");
            denied += 1;
        }
    }
    assert!(denied > 20, "{denied}");
}

fn agree(profile: &Profile) {
    let (mut allowed, mut denied) = (0, 0);
    for seed in 0..WORLDS {
        let cluster = cluster(seed, profile);
        let evaluator = Evaluator::new(&cluster);
        let wires = Wires::new(&cluster);
        for flow in probes(seed, &cluster, FLOWS) {
            let Ok(verdict) = evaluator.verdict(&flow) else {
                continue;
            };
            let Some(path) = wires.path(&flow) else {
                continue;
            };
            let passes = wires.passes(&flow, &path);
            assert_eq!(passes, verdict.allow, "seed {seed}: {flow}: {verdict}");
            if passes {
                allowed += 1;
            } else {
                denied += 1;
            }
        }
    }
    assert!(
        allowed > 1000 && denied > 1000,
        "{allowed} allowed, {denied} denied"
    );
}

/// The cluster's nodes, each with the ruleset it would have.
struct Wires<'a> {
    cluster: &'a Cluster,
    owners: BTreeMap<IpAddr, &'a PodId>,
    nodes: BTreeMap<&'a NodeName, Ruleset>,
}

/// Both ends of a flow.
struct Path<'a> {
    client: Place<'a>,
    server: Place<'a>,
}

/// Where an end of a flow is.
#[derive(Clone)]
struct Place<'a> {
    address: IpAddr,
    /// The node that it is on; `None` outside.
    node: Option<&'a NodeName>,
    /// The pod's link; `None` for a node's own process and outside.
    link: Option<String>,
}

impl<'a> Wires<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let evaluator = Evaluator::new(cluster);
        let claims = cluster.pods.values().flat_map(Pod::claims);
        let owners: BTreeMap<IpAddr, &PodId> = claims
            .filter_map(|address| Some((*address, evaluator.owner(*address)?)))
            .collect();
        let nodes = cluster.nodes.keys().map(|node| {
            let mut local = Local::default();
            for (id, pod) in &cluster.pods {
                let owned = owners.iter().filter(|(_, owner)| **owner == id);
                let addresses: BTreeSet<IpAddr> = owned.map(|(address, _)| *address).collect();
                if pod.node.as_ref() == Some(node) && !addresses.is_empty() {
                    let link = link(id);
                    local
                        .attachments
                        .insert(id.clone(), Attachment { link, addresses });
                }
            }
            (node, lower(&compile(cluster, node), &local))
        });
        Self {
            cluster,
            nodes: nodes.collect(),
            owners,
        }
    }

    /// `None` if a pod of the flow is on no known node: then nobody enforces anything.
    fn path(&self, flow: &Flow) -> Option<Path<'a>> {
        let client = self.place(&flow.from, flow.family)?;
        let server = self.place(&flow.to, flow.family)?;
        Some(Path { client, server })
    }

    fn place(&self, end: &End, family: Family) -> Option<Place<'a>> {
        let pod = |id: &PodId, address| {
            let node = self.cluster.pods[id].node.as_ref()?;
            let (node, _) = self.nodes.get_key_value(node)?;
            Some(Place {
                address,
                node: Some(*node),
                link: Some(link(id)),
            })
        };
        let of_node = |name: &NodeName| {
            let (node, _) = self.nodes.get_key_value(name)?;
            let addresses = &self.cluster.nodes[name].addresses;
            let address = *addresses
                .iter()
                .find(|address| Family::of(**address) == family)?;
            Some(Place {
                address,
                node: Some(*node),
                link: None,
            })
        };
        match end {
            End::Address(address) => match self.owners.get(address) {
                Some(id) => pod(id, *address),
                None => Some(Place {
                    address: *address,
                    node: None,
                    link: None,
                }),
            },
            End::Node(name) => of_node(name),
            End::Pod(id) if self.cluster.pods[id].host_network => {
                of_node(self.cluster.pods[id].node.as_ref()?)
            }
            End::Pod(id) => {
                let mut owned = self.owners.iter().filter(|(_, owner)| *owner == &id);
                let (address, _) = owned.find(|(address, _)| Family::of(**address) == family)?;
                pod(id, *address)
            }
        }
    }

    /// Sends the first packet, a reply, and another packet. What lets the first one pass must let
    /// the others pass, too.
    fn passes(&self, flow: &Flow, path: &Path<'a>) -> bool {
        let mut marks = BTreeMap::new();
        let first = self.travels(flow, path, CtDirection::Original, CtState::New, &mut marks);
        if first {
            for direction in [CtDirection::Reply, CtDirection::Original] {
                let travels = self.travels(flow, path, direction, CtState::Established, &mut marks);
                assert!(
                    travels,
                    "{flow}: the first packet passed, one {direction:?} did not"
                );
            }
        }
        first
    }

    /// One packet through the nodes of both ends.
    fn travels(
        &self,
        flow: &Flow,
        path: &Path<'a>,
        direction: CtDirection,
        state: CtState,
        marks: &mut BTreeMap<&'a NodeName, u32>,
    ) -> bool {
        let (from, to) = match direction {
            CtDirection::Original => (&path.client, &path.server),
            CtDirection::Reply => (&path.server, &path.client),
        };
        let mut nodes: Vec<&NodeName> = from.node.into_iter().chain(to.node).collect();
        nodes.dedup();
        nodes.into_iter().all(|node| {
            let here = |place: &Place<'a>| place.node == Some(node);
            let uplink = || Some("eth0".to_owned());
            let in_link = if here(from) {
                from.link.clone()
            } else {
                uplink()
            };
            let out_link = if here(to) { to.link.clone() } else { uplink() };
            let hook = match (&in_link, &out_link) {
                (Some(_), Some(_)) => HookPoint::Forward,
                (Some(_), None) => HookPoint::Input,
                (None, _) => HookPoint::Output,
            };
            let (protocol, icmp_type) = match (flow.protocol, flow.family, direction) {
                (Transport::Port(protocol), ..) => (protocol.number(), None),
                (Transport::Other(number), ..) => (number, None),
                (Transport::Icmp, Family::V4, CtDirection::Original) => (1, Some(8)),
                (Transport::Icmp, Family::V4, CtDirection::Reply) => (1, Some(0)),
                (Transport::Icmp, Family::V6, CtDirection::Original) => (58, Some(128)),
                (Transport::Icmp, Family::V6, CtDirection::Reply) => (58, Some(129)),
            };
            let mut packet = Packet {
                hook: HookPoint::Prerouting,
                in_link,
                out_link: None,
                source: from.address,
                destination: to.address,
                protocol,
                icmp_type,
                connection: None,
            };
            if packet.in_link.is_some() && !run(&self.nodes[node], &packet).accepted {
                return false;
            }
            packet.hook = hook;
            packet.out_link = out_link;
            packet.connection = Some(Connection {
                state,
                direction,
                client: path.client.address,
                server: path.server.address,
                server_port: flow.port,
                mark: marks.get(node).copied().unwrap_or_default(),
            });
            let outcome = run(&self.nodes[node], &packet);
            marks.insert(node, outcome.mark);
            outcome.accepted
        })
    }
}

fn link(pod: &PodId) -> String {
    format!("mgy-{pod}")
}
