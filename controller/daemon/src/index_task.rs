//! The thread that owns the cluster as the controller sees it, and every node's stream.
//!
//! Everything that happens comes through one bounded channel. Readers of streams are not pushed to: each
//! is woken by a counter and asks for what it missed when it can take more, so one that is slow costs
//! nothing and gets merged changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use ipnet::IpNet;
use margay_api::convert;
use margay_api::load::{Key, Object};
use margay_api::v1::NetworkConfigSpec;
use margay_policy::index::{Event, Index, Reported};
use margay_policy::model::{self, NodeName, PodId, PolicyId};
use margay_sync::message::{Change, Message, NodeNetwork, NodeState, PodReport, Report, Revision};
use margay_sync::sequencer::{Missed, Sequencer};
use margay_sync::status::{ControllerStatus, IpamPage, NodeStatus, NodesPage, PolicyPage};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, trace};

use crate::allocate::Claims;
use crate::clock;
use crate::network::{self, Facts, Inputs, Plan};
use crate::sources::ObjectEvent;

mod duties;
mod pages;
mod reports;
mod tenants;

pub use duties::{Duties, Finding, NodeDuty};
use reports::Pods;
pub use reports::Reports;
use tenants::Touched;

/// How much of each node's past is remembered: changes, and members in them.
const LOG_LIMIT: usize = 2_000;
/// Inputs that may wait before their senders do.
pub const QUEUE: usize = 1_024;

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Objects came, changed or went.
    Objects(Vec<ObjectEvent>),
    /// Blocks were claimed: all there are.
    Claims(Claims),
    /// These blocks have an owner, or none any more.
    Blocks(Vec<(IpNet, Option<NodeName>)>),
    /// A node reported.
    Report(NodeName, Box<Report>),
    /// Somebody reads a node's stream as long as the answer lives; it changes when the stream does.
    Subscribe(NodeName, oneshot::Sender<watch::Receiver<u64>>),
    /// What a reader of a node's stream at this place, with a state of this digest, missed; ends in an in-sync marker.
    Missed(
        NodeName,
        Option<Revision>,
        Option<String>,
        oneshot::Sender<Vec<Message>>,
    ),
    /// A page for people.
    Page(PageRequest),
}

/// Pages for people, each with where it goes.
#[derive(Debug)]
pub enum PageRequest {
    /// The controller.
    Status(oneshot::Sender<ControllerStatus>),
    /// The nodes.
    Nodes(oneshot::Sender<NodesPage>),
    /// Pools and blocks.
    Ipam(oneshot::Sender<IpamPage>),
    /// How far policies are realised.
    Policy(oneshot::Sender<PolicyPage>),
    /// What is held, by what it is; also a sign of life.
    Held(oneshot::Sender<BTreeMap<String, u64>>),
    /// The pods of a controller's replicas in a namespace, by name.
    Replicas(String, oneshot::Sender<BTreeMap<String, IpAddr>>),
    /// What a leader has to write.
    Duties(oneshot::Sender<Duties>),
    /// A node's uid, and its pods that have no address yet, and may have one of these pools if any are named, with theirs.
    Waiting(
        NodeName,
        BTreeSet<IpNet>,
        oneshot::Sender<(String, Vec<(PodId, String)>)>,
    ),
    /// What objects of the network contradict in each other.
    Contradictions(oneshot::Sender<Vec<Finding>>),
    /// What is odd about policies and pools, for their owners.
    Findings(oneshot::Sender<Vec<Finding>>),
    /// Everything that policy depends on, for `margayctl policy explain`.
    World(oneshot::Sender<model::Cluster>),
}

/// What the thread starts with.
#[derive(Debug)]
pub struct Start {
    /// The controller's run, for revisions.
    pub run: String,
    /// The folder, for people.
    pub folder: String,
    /// Our own namespace, where passwords are.
    pub namespace: String,
    /// Claims of earlier runs.
    pub claims: Claims,
    /// Reports of earlier runs.
    pub reports: Reports,
    /// Where to publish what networks depend on.
    pub inputs: watch::Sender<Arc<Inputs>>,
}

/// Starts the thread; it ends when all senders of `inbox` are gone.
///
/// # Errors
/// If there can be no more threads.
pub fn start(
    start: Start,
    mut inbox: mpsc::Receiver<Input>,
) -> anyhow::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name("index".to_owned())
        .spawn(move || {
            let mut task = Task::new(start);
            while let Some(input) = inbox.blocking_recv() {
                task.handle(input);
            }
        })
        .context("cannot start the index thread")
}

/// What changes for nodes.
type Changes = BTreeMap<NodeName, Vec<Change>>;

struct Task {
    run: String,
    folder: String,
    namespace: String,
    since: Instant,
    /// Counts changes of all nodes, so that no count ever stands for two states.
    count: u64,
    index: Index,
    inputs: Inputs,
    publish: watch::Sender<Arc<Inputs>>,
    nodes: BTreeMap<NodeName, Node>,
    reports: Reports,
    /// The count after each policy's last change.
    policy_counts: BTreeMap<PolicyId, u64>,
}

/// A node that has an object, or a reader.
struct Node {
    sequencer: Sequencer,
    network: Option<NodeNetwork>,
    wake: watch::Sender<u64>,
    /// What felix said last in this run, and when.
    report: Option<(NodeStatus, Instant)>,
    /// Whether a stream was ever read in this run.
    was_connected: bool,
}

impl Task {
    fn new(start: Start) -> Self {
        let Start {
            run,
            folder,
            namespace,
            claims,
            reports,
            inputs: publish,
        } = start;
        let inputs = Inputs {
            claims,
            ..Inputs::default()
        };
        let mut index = Index::new();
        index.update(reports.nodes().iter().map(|(node, pods)| event(node, pods)));
        Self {
            run,
            folder,
            namespace,
            since: clock::now(),
            count: 0,
            index,
            inputs,
            publish,
            nodes: BTreeMap::new(),
            reports,
            policy_counts: BTreeMap::new(),
        }
    }

    fn handle(&mut self, input: Input) {
        // Who asked may have gone: then nobody misses the answer.
        match input {
            Input::Objects(events) => self.objects(events),
            Input::Claims(claims) => {
                self.inputs.claims = claims;
                self.networks_changed(BTreeMap::new());
            }
            Input::Blocks(blocks) => self.blocks(blocks),
            Input::Report(node, report) => self.report(&node, *report),
            Input::Subscribe(node, answer) => {
                let entry = self.node(&node);
                entry.was_connected = true;
                let _ = answer.send(entry.wake.subscribe());
            }
            Input::Missed(node, place, digest, answer) => {
                let _ = answer.send(self.missed(&node, place.as_ref(), digest));
            }
            Input::Page(PageRequest::Status(answer)) => drop(answer.send(self.status())),
            Input::Page(PageRequest::Nodes(answer)) => drop(answer.send(self.nodes_page())),
            Input::Page(PageRequest::Ipam(answer)) => {
                let _ = answer.send(network::ipam_page(&self.inputs, &self.statuses()));
            }
            Input::Page(PageRequest::Policy(answer)) => drop(answer.send(self.policy_page())),
            Input::Page(PageRequest::Held(answer)) => drop(answer.send(self.held())),
            Input::Page(PageRequest::Replicas(namespace, answer)) => {
                drop(answer.send(self.replicas(&namespace)));
            }
            Input::Page(PageRequest::Waiting(node, pools, answer)) => {
                drop(answer.send(self.waiting(&node, &pools)));
            }
            Input::Page(PageRequest::Duties(answer)) => drop(answer.send(self.duties())),
            Input::Page(PageRequest::Findings(answer)) => drop(answer.send(self.findings())),
            Input::Page(PageRequest::Contradictions(answer)) => {
                drop(answer.send(self.contradictions()));
            }
            Input::Page(PageRequest::World(answer)) => {
                drop(answer.send(self.index.cluster().clone()));
            }
        }
    }

    fn objects(&mut self, events: Vec<ObjectEvent>) {
        let mut networks = false;
        let mut policies = BTreeSet::new();
        let mut batch = Vec::new();
        let mut touched = Touched::default();
        for event in events {
            let key = match &event {
                ObjectEvent::Apply(object) => object.key(),
                ObjectEvent::Delete(key) => key.clone(),
            };
            debug!(%key, "an object changed");
            networks |= self.network_object(&key, &event);
            self.touch(&key, &mut touched);
            match event {
                ObjectEvent::Apply(object) => {
                    let Some(object) = convert::object(&object) else {
                        continue;
                    };
                    if let model::ObjectKey::Policy(id) = object.key() {
                        policies.insert(id);
                    }
                    batch.push(Event::Put(object));
                }
                ObjectEvent::Delete(key) => {
                    let Some(key) = convert::model_key(&key) else {
                        continue;
                    };
                    match &key {
                        model::ObjectKey::Policy(id) => drop(self.policy_counts.remove(id)),
                        model::ObjectKey::Node(name) => {
                            self.reports.keep(name, Pods::new());
                            batch.push(Event::Report(name.clone(), BTreeMap::new()));
                        }
                        model::ObjectKey::Namespace(_) | model::ObjectKey::Pod(_) => {}
                    }
                    batch.push(Event::Delete(key));
                }
            }
        }
        let mut changes = self.update(batch);
        let concerned = self.tenants_changed(touched);
        if networks {
            self.networks_changed(changes);
        } else {
            self.renew_networks(&mut changes, &concerned);
            self.record(changes);
        }
        for id in policies {
            self.policy_counts.insert(id, self.count);
        }
    }

    fn blocks(&mut self, blocks: Vec<(IpNet, Option<NodeName>)>) {
        let claims = &mut self.inputs.claims;
        let mut changed = false;
        for (block, owner) in blocks {
            changed |= match owner {
                Some(owner) => claims.insert(block, owner.clone()) != Some(owner),
                None => claims.remove(&block).is_some(),
            };
        }
        if changed {
            self.networks_changed(BTreeMap::new());
        }
    }

    fn update(&mut self, events: Vec<Event>) -> Changes {
        let updates = self.index.update(events).into_iter();
        updates
            .map(|(node, changes)| (node, changes.into_iter().map(Change::Policy).collect()))
            .collect()
    }

    /// Takes over what networks depend on; whether it was that.
    fn network_object(&mut self, key: &Key, event: &ObjectEvent) -> bool {
        let name = key.name.clone();
        match event {
            ObjectEvent::Apply(object) => match object.as_ref() {
                Object::Node(node) => {
                    let facts = Facts::of(node);
                    if let Some(model::Object::Node(name, node)) = convert::object(object) {
                        self.inputs.facts.insert(name.clone(), facts);
                        self.inputs.nodes.insert(name.clone(), node);
                        self.node(&name);
                    }
                    true
                }
                Object::IpPool(pool) => {
                    self.inputs.pools.insert(name, pool.as_ref().clone());
                    true
                }
                Object::BgpPeer(peer) => {
                    self.inputs.peers.insert(name, peer.as_ref().clone());
                    true
                }
                Object::BgpFilter(filter) => {
                    self.inputs.filters.insert(name, filter.as_ref().clone());
                    true
                }
                Object::Secret(secret) if key.namespace == self.namespace => {
                    self.inputs.secrets.put(name, secret)
                }
                Object::NetworkConfig(config) => {
                    self.inputs.config = config.spec.clone();
                    true
                }
                Object::Namespace(_)
                | Object::Pod(_)
                | Object::NetworkPolicy(_)
                | Object::Secret(_)
                | Object::Other { .. } => false,
            },
            ObjectEvent::Delete(_) => match key.kind.as_str() {
                "Node" => {
                    let name = NodeName(name);
                    self.inputs.facts.remove(&name);
                    self.inputs.nodes.remove(&name).is_some()
                }
                "IPPool" => self.inputs.pools.remove(&name).is_some(),
                "BGPPeer" => self.inputs.peers.remove(&name).is_some(),
                "BGPFilter" => self.inputs.filters.remove(&name).is_some(),
                "Secret" if key.namespace == self.namespace => self.inputs.secrets.remove(&name),
                "NetworkConfig" => {
                    self.inputs.config = NetworkConfigSpec::default();
                    true
                }
                _ => false,
            },
        }
    }

    /// Works out every node's network anew, and records what changed beside `changes`.
    fn networks_changed(&mut self, mut changes: Changes) {
        let plan = Plan::of(&self.inputs);
        for (name, node) in &mut self.nodes {
            let network = network::network(&self.inputs, &plan, name);
            if network != node.network {
                changes
                    .entry(name.clone())
                    .or_default()
                    .push(Change::Network(network.clone()));
                node.network = network;
            }
        }
        self.record(changes);
        let inputs = &self.inputs;
        // Nodes that are gone are forgotten once nobody reads their stream.
        self.nodes
            .retain(|name, node| inputs.nodes.contains_key(name) || node.wake.receiver_count() > 0);
        self.publish.send_replace(Arc::new(self.inputs.clone()));
    }

    fn report(&mut self, name: &NodeName, report: Report) {
        let Report { pods, status } = report;
        self.node(name).report = Some((status, clock::now()));
        if self.reports.keep(name, pods.clone()) {
            let changes = self.update(vec![event(name, &pods)]);
            self.record(changes);
        }
    }

    /// Numbers what changed and wakes the readers.
    fn record(&mut self, changes: Changes) {
        self.count += 1;
        for (name, changes) in changes {
            // Other nodes have no reader; one that comes gets a snapshot.
            let Some(node) = self.nodes.get_mut(&name) else {
                continue;
            };
            if !changes.is_empty() {
                trace!(node = %name, rev = self.count, changes = changes.len(), "a node's state changed");
                if node.was_connected {
                    node.sequencer.record(self.count, changes);
                } else {
                    // Nobody stands anywhere on this stream yet, so nothing need be remembered.
                    let revision = Revision {
                        run: self.run.clone(),
                        count: self.count,
                    };
                    node.sequencer = Sequencer::new(revision, LOG_LIMIT);
                }
                node.wake.send_replace(self.count);
            }
        }
    }

    fn missed(
        &mut self,
        name: &NodeName,
        place: Option<&Revision>,
        digest: Option<String>,
    ) -> Vec<Message> {
        let sequencer = &self.node(name).sequencer;
        let revision = sequencer.revision().clone();
        let news = match sequencer.missed(place) {
            Missed::Nothing => None,
            Missed::Changes {
                since,
                revision,
                changes,
            } => Some(Message::Delta {
                since,
                revision,
                changes,
            }),
            Missed::Everything => {
                let policy = self.index.node_policy(name);
                let state = NodeState {
                    policy,
                    network: self.node(name).network.clone(),
                };
                let revision = revision.clone();
                let same = digest.is_some() && digest == state.digest();
                Some(if same {
                    Message::Same { revision }
                } else {
                    Message::Snapshot {
                        revision,
                        state: Box::new(state),
                    }
                })
            }
        };
        news.into_iter()
            .chain([Message::InSync { revision }])
            .collect()
    }

    /// The account of a node, made if there is none.
    fn node(&mut self, name: &NodeName) -> &mut Node {
        let Self {
            nodes,
            inputs,
            count,
            run,
            ..
        } = self;
        nodes.entry(name.clone()).or_insert_with(|| {
            // A count of its own: an account of the same node before this one may have ended at `count`.
            *count += 1;
            let revision = Revision {
                run: run.clone(),
                count: *count,
            };
            Node {
                sequencer: Sequencer::new(revision, LOG_LIMIT),
                network: network::network(inputs, &Plan::of(inputs), name),
                wake: watch::Sender::new(*count),
                report: None,
                was_connected: false,
            }
        })
    }
}

/// An agent's report, for the index.
fn event(node: &NodeName, pods: &Pods) -> Event {
    let pods = pods.iter().map(|(id, pod)| {
        let PodReport { uid, addresses } = pod.clone();
        (id.clone(), Reported { uid, addresses })
    });
    Event::Report(node.clone(), pods.collect())
}
