//! The owner of what is attached and of what the controller said of pods and node.
//!
//! A task on a thread of its own. Others send [`Input`]s; it decides, has the kernel's rules changed, and publishes a
//! [`View`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use margay_cni::Refusal;
use margay_cni::error::Code;
use margay_cni::request::{Attachment, Pod};
use margay_dataplane::local;
use margay_ipam::Source;
use margay_policy::node_policy::PolicyChange;
use margay_sync::message::{Change, Revision};
use margay_sync::status::Drift;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock;
use crate::host::{Host, Order};
use crate::journal::Record;
use crate::nft::{self, Nft, NftError};
use crate::pods::{Admission, Pods, Stage};
use crate::saver::Saver;
use crate::view::View;

/// How many repairs to remember.
const DRIFT_KEPT: usize = 64;
/// How often to ask whether the kernel takes our rules again.
const RECOVERY: Duration = Duration::from_millis(200);
/// How long changes of addresses are gathered before they are written down; the journal is what counts.
const GATHER: Duration = Duration::from_millis(250);
/// How long a pod waits for its policy, addresses, and a kernel that takes its rules.
pub(crate) const ADMISSION: Duration = Duration::from_secs(10);

/// The outcome of a change of the kernel's rules, when it is there.
pub(crate) type Realised = oneshot::Receiver<Result<(), NftError>>;

mod known;

pub(crate) use known::{Known, nat};

/// What the core is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// The controller told of changes.
    Changes(Vec<Change>, Revision),
    /// The kernel has all that the controller told up to this time, counted from 1, and so this revision.
    Realised(u64, Revision),
    /// The node has one more block.
    Claimed(IpNet),
    /// A block could not be claimed, and why.
    ClaimFailed(Source, String),
    /// A pod wants to be attached.
    Admit {
        /// Its interface.
        attachment: Attachment,
        /// The pod.
        pod: Pod,
        /// What came of it.
        reply: oneshot::Sender<Result<Admitted, Refusal>>,
    },
    /// An attachment is complete.
    Complete(Attachment),
    /// An attachment is to go; its record, if it is known, and when its rights are gone.
    Leave(Attachment, oneshot::Sender<Option<(Record, Realised)>>),
    /// An attachment is gone.
    Release(Attachment, oneshot::Sender<()>),
    /// A complete attachment's record.
    Find(Attachment, oneshot::Sender<Option<Record>>),
    /// All attachments.
    List(oneshot::Sender<Vec<Attachment>>),
    /// Records of complete attachments whose pods the controller does not know.
    Podless(oneshot::Sender<Vec<Record>>),
    /// Something was repaired.
    Repaired(Vec<Drift>),
    /// The kernel has all rules for the first time: those of the snapshot on disk.
    Started,
    /// Trouble is over: the kernel has all that was told up to this time, counted from 1, and so this revision.
    Recovered(u64, Option<Revision>),
    /// Write down what must outlive the process, which is about to end.
    Save(oneshot::Sender<()>),
    /// The kernel has not the rules that it should have, and why.
    Trouble(String),
}

/// A pod that may be attached.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It has addresses; its link may come once the rules are there.
    Yes(Record, Realised),
    /// Another attachment has to go first.
    AfterLeaving(Attachment),
}

/// A pod whose admission lacks something.
struct Waiting {
    attachment: Attachment,
    pod: Pod,
    reply: oneshot::Sender<Result<Admitted, Refusal>>,
    until: Instant,
    why: String,
}

/// What the core works with.
pub(crate) struct Core {
    pub(crate) pods: Pods,
    pub(crate) nft: Nft,
    pub(crate) host: Host,
    pub(crate) saver: Saver,
    /// Where the allocator is written down.
    pub(crate) addresses_file: PathBuf,
    /// When to do that.
    pub(crate) save_at: Option<Instant>,
    /// Back to ourselves. Weak, so that the core ends with its last client.
    pub(crate) own: mpsc::WeakSender<Input>,
    /// How long changes of policy take until the kernel has them.
    pub(crate) latency: Histogram,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) state: Known,
}

impl Core {
    /// Publishes what is known from the disk. Before anybody looks: a report without the pods that are attached would
    /// take their rights away elsewhere.
    pub(crate) fn begin(&mut self) {
        self.pods
            .set_blocks(&self.state.usable_blocks(), &self.state.subnets());
        self.publish();
    }

    /// Works until nobody can send anything any more.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        let mut waiting: Vec<Waiting> = Vec::new();
        loop {
            let next = waiting.iter().map(|waiting| waiting.until);
            let next = next.chain(self.save_at).min();
            let mut input = tokio::select! {
                input = inputs.recv() => {
                    if input.is_none() {
                        self.save_addresses();
                        return;
                    }
                    input
                }
                () = sleep_until(next) => None,
            };
            // What has come meanwhile is done before anybody is told.
            while let Some(this) = input.take() {
                self.handle(this, &mut waiting);
                input = inputs.try_recv().ok();
            }
            self.try_waiting(&mut waiting);
            self.publish();
            if self.save_at.is_some_and(|at| at <= now()) {
                self.save_addresses();
            }
        }
    }

    fn handle(&mut self, input: Input, waiting: &mut Vec<Waiting>) {
        match input {
            Input::Changes(changes, revision) => self.change(changes, revision),
            Input::Realised(number, revision) => self.state.realise(number, Some(revision)),
            Input::Claimed(block) => {
                self.state.claim_failures.clear();
                self.state.claimed.insert(block);
                self.blocks_changed();
            }
            Input::ClaimFailed(source, why) => {
                self.state.claim_failures.insert(source, why);
            }
            Input::Admit {
                attachment,
                pod,
                reply,
            } => waiting.push(Waiting {
                attachment,
                pod,
                reply,
                until: now() + ADMISSION,
                why: String::new(),
            }),
            Input::Complete(attachment) => self.pods.complete(&attachment),
            Input::Leave(attachment, reply) => {
                let left = self.leave(&attachment);
                // Whoever asked may have gone; then the runtime asks again.
                let _ = reply.send(left);
            }
            Input::Release(attachment, reply) => {
                self.pods.release(&attachment, clock::wall().as_secs());
                self.save_soon();
                let _ = reply.send(());
            }
            Input::Find(attachment, reply) => {
                let entry = self.pods.get(&attachment);
                let complete = entry.filter(|entry| entry.stage == Stage::Attached);
                let _ = reply.send(complete.map(|entry| Record::clone(&entry.record)));
            }
            Input::List(reply) => {
                let all = self
                    .pods
                    .entries()
                    .map(|entry| entry.record.attachment.clone());
                let _ = reply.send(all.collect());
            }
            Input::Podless(reply) => {
                let known = &self.state.endpoints;
                let podless = self.pods.entries().filter(|entry| {
                    entry.stage == Stage::Attached && !known.contains_key(&entry.record.pod)
                });
                let _ = reply.send(podless.map(|entry| Record::clone(&entry.record)).collect());
            }
            Input::Repaired(drift) => {
                self.state.drift.extend(drift);
                let surplus = self.state.drift.len().saturating_sub(DRIFT_KEPT);
                self.state.drift.drain(..surplus);
            }
            Input::Started => {
                self.state.trouble = None;
                if self.state.realised.is_none() {
                    self.state.realised.clone_from(&self.state.snapshot);
                }
            }
            Input::Trouble(why) => {
                if self.state.trouble.replace(why).is_none() {
                    self.await_recovery();
                }
            }
            Input::Recovered(number, revision) => {
                self.state.trouble = None;
                self.state.realise(number, revision);
            }
            Input::Save(reply) => {
                self.save_addresses();
                let _ = reply.send(());
            }
        }
    }

    /// Takes over what the controller told.
    fn change(&mut self, changes: Vec<Change>, revision: Revision) {
        let mut policy: Vec<PolicyChange> = Vec::new();
        let mut orders = Vec::new();
        let mut network_changed = false;
        for change in changes {
            match change {
                Change::Policy(change) => {
                    match &change {
                        PolicyChange::PutEndpoint { pod, endpoint } => {
                            self.state.endpoints.insert(pod.clone(), endpoint.clone());
                        }
                        PolicyChange::DeleteEndpoint { pod } => {
                            self.state.endpoints.remove(pod);
                        }
                        PolicyChange::PatchAddressSet { .. }
                        | PolicyChange::DeleteAddressSet { .. }
                        | PolicyChange::PatchServiceSet { .. }
                        | PolicyChange::DeleteServiceSet { .. }
                        | PolicyChange::PutRuleList { .. }
                        | PolicyChange::DeleteRuleList { .. } => {}
                    }
                    policy.push(change);
                }
                Change::Network(network) => {
                    let before = nat(self.state.network.as_deref());
                    let after = nat(network.as_ref());
                    self.state.network = network.map(Arc::new);
                    network_changed = true;
                    if before != after {
                        orders.push(self.nft.submit(nft::Change::Nat(after)));
                    }
                }
            }
        }
        if network_changed {
            if let Some(network) = &self.state.network {
                self.state
                    .claimed
                    .retain(|block| !network.blocks.contains(block));
            }
            self.state.claim_failures.clear();
            self.blocks_changed();
        }
        // Also when it is empty: the writer works in order, so no revision is realised before an older one.
        orders.push(self.nft.submit(nft::Change::Policy(policy)));
        self.state.received = Some(revision.clone());
        self.state.told += 1;
        if let Some(own) = self.own.upgrade() {
            let latency = self.latency.clone();
            tokio::spawn(realise(orders, self.state.told, revision, own, latency));
        }
    }

    /// Asks the writer, which goes on trying by itself, until the kernel has what is known now.
    fn await_recovery(&self) {
        let (nft, own) = (self.nft.clone(), self.own.clone());
        let (told, received) = (self.state.told, self.state.received.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RECOVERY).await;
                // What changes nothing is done when everything before it is.
                let done = nft.apply(nft::Change::Policy(Vec::new())).await;
                let Some(own) = own.upgrade() else { return };
                if done.is_ok() {
                    let _ = own.send(Input::Recovered(told, received)).await;
                    return;
                }
            }
        });
    }

    fn blocks_changed(&mut self) {
        self.pods
            .set_blocks(&self.state.usable_blocks(), &self.state.subnets());
        let (blocks, aggregates) = (self.state.blocks(), self.state.aggregates());
        self.host.order(Order::Blocks(blocks, aggregates));
        let addresses = self
            .state
            .network
            .iter()
            .flat_map(|network| &network.addresses);
        self.host.order(Order::Node(addresses.copied().collect()));
        self.save_soon();
    }

    /// Takes an attachment's rights away. Once is enough: later the pod may have another attachment.
    fn leave(&mut self, attachment: &Attachment) -> Option<(Record, Realised)> {
        let had_rights = self.pods.get(attachment)?.stage != Stage::Leaving;
        let record = self.pods.leave(attachment)?;
        let done = if had_rights {
            self.nft.submit(nft::Change::Detach(record.pod.clone()))
        } else {
            let (done, realised) = oneshot::channel();
            let _ = done.send(Ok(()));
            realised
        };
        Some((record, done))
    }

    /// Admits who can be admitted, and gives up on who waited long enough.
    fn try_waiting(&mut self, waiting: &mut Vec<Waiting>) {
        let now = now();
        for mut one in std::mem::take(waiting) {
            if one.reply.is_closed() {
                continue;
            }
            let admission = self.pods.admit(
                &one.attachment,
                &one.pod,
                &self.state.endpoints,
                self.state.network.as_deref(),
                clock::wall().as_secs(),
            );
            match admission {
                Admission::Admitted(record) => {
                    let attachment = local::Attachment {
                        link: record.link.clone(),
                        addresses: record.addresses.clone(),
                    };
                    let change = nft::Change::Attach(record.pod.clone(), attachment);
                    let done = self.nft.submit(change);
                    self.save_soon();
                    let _ = one.reply.send(Ok(Admitted::Yes(record, done)));
                }
                Admission::Replace(old) => {
                    let _ = one.reply.send(Ok(Admitted::AfterLeaving(old)));
                }
                Admission::Wait(why) => {
                    one.why = why.to_string();
                    if one.until <= now {
                        let refusal = self.give_up(&one);
                        let _ = one.reply.send(Err(refusal));
                    } else {
                        waiting.push(one);
                    }
                }
            }
        }
    }

    fn give_up(&self, waiting: &Waiting) -> Refusal {
        let seconds = ADMISSION.as_secs();
        let mut details = waiting.why.clone();
        let network = self.state.network.as_ref();
        let sources = network.and_then(|network| network.sources(&waiting.pod.namespace).ok());
        for why in sources
            .iter()
            .flatten()
            .filter_map(|source| self.state.claim_failures.get(source))
        {
            details = format!("{details}; {why}");
        }
        Refusal::new(
            Code::TryAgainLater,
            format!(
                "the pod {}/{} cannot be attached after {seconds} s; it stays cut off, try again later",
                waiting.pod.namespace, waiting.pod.name
            ),
        )
        .with(details)
    }

    fn save_soon(&mut self) {
        self.save_at.get_or_insert(now() + GATHER);
    }

    fn save_addresses(&mut self) {
        self.save_at = None;
        if let Ok(octets) = serde_json::to_vec(self.pods.allocator()) {
            self.saver.save(self.addresses_file.clone(), octets);
        }
    }

    fn publish(&mut self) {
        let view = self.see();
        self.view.send_if_modified(|old| {
            let changed = **old != view;
            if changed {
                *old = Arc::new(view);
            }
            changed
        });
    }

    /// Made for each change of anything, so what is large is shared with the view before.
    fn see(&mut self) -> View {
        let blocks = self.state.blocks();
        let usage = self.pods.allocator().usage();
        View {
            received: self.state.received.clone(),
            realised: self.state.realised.clone(),
            network: self.state.network.clone(),
            wants: self
                .pods
                .wants(self.state.network.as_deref(), clock::wall().as_secs()),
            pods: self.pods.attached(),
            outside: self.pods.outside(&blocks),
            blocks: blocks
                .into_iter()
                .map(|block| (block, usage.get(&block).copied().unwrap_or(0)))
                .collect(),
            drift: self.state.drift.clone(),
            trouble: self.state.trouble.clone(),
        }
    }
}

fn now() -> Instant {
    Instant::from_std(clock::now())
}

/// Tells when the kernel has all that was ordered.
async fn realise(
    orders: Vec<Realised>,
    number: u64,
    revision: Revision,
    core: mpsc::Sender<Input>,
    latency: Histogram,
) {
    let begun = clock::now();
    for order in orders {
        match order.await {
            Ok(Ok(())) => {}
            // The writer goes on trying, and tells when it is through.
            Ok(Err(error)) => {
                let _ = core.send(Input::Trouble(error.to_string())).await;
                return;
            }
            Err(_) => return,
        }
    }
    latency.observe(clock::now().saturating_duration_since(begun).as_secs_f64());
    let _ = core.send(Input::Realised(number, revision)).await;
}

/// Sleeps until then, or for ever.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
