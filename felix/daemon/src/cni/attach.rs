//! Attaching and detaching pods, step by step; what a step cannot finish is undone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use margay_cni::error::Code;
use margay_cni::request::{Attachment, Pod};
use margay_cni::wire::Tombstone;
use margay_cni::{Attached, Refusal};
use margay_netlink::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::forget::{Forgetter, Forgetting};
use super::pace::Pace;
use super::receive::Descriptors;
use super::sandbox;
use super::unlink::Unlinker;
use crate::core::{Admitted, Input, Realised};
use crate::disk::DiskError;
use crate::host::{Host, Order};
use crate::journal::{Journal, Record};
use crate::locks::Locks;
use crate::names;
use crate::view::View;

/// Addresses in the largest block that there can be.
const LARGEST_BLOCK: usize = 4096;

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Attacher {
    pub(crate) core: mpsc::Sender<Input>,
    pub(crate) host: Host,
    pub(crate) journal: Journal,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) locks: Locks,
    /// For addresses of pods that come.
    pub(crate) forgetter: Forgetter,
    /// For those of pods that go.
    pub(crate) farewells: Forgetter,
    pub(crate) unlinker: Unlinker,
    /// Own blocks of which the kernel remembers no connections but those of attached pods.
    pub(crate) clean: Mutex<BTreeSet<IpNet>>,
}

impl Attacher {
    /// Attaches a pod: policy, address, rules, link, routes, up, journal, and gives the answer; if nobody takes it,
    /// detaches the pod again.
    pub(crate) fn add(
        &self,
        attachment: &Attachment,
        pod: &Pod,
        sandbox: &str,
        descriptors: Descriptors,
        answer: impl FnOnce(Attached) -> std::io::Result<()>,
    ) -> Result<(), Refusal> {
        let mut pace = Pace::begin();
        let pod_name = format!("pod {}/{}", pod.namespace, pod.name);
        let _held = self.locks.hold([pod_name, name(attachment)]);
        // Only what is older than this ADD may be detached by a note of the plugin.
        self.forget_tombstone(attachment);
        pace.done("alone");
        let (record, realised) = self.admit(attachment, pod)?;
        pace.done("admitted");
        match self.make(&record, realised, descriptors, &mut pace) {
            Ok(mtu) => {
                self.tell(Input::Complete(attachment.clone()));
                if answer(sandbox::result(&record, mtu, sandbox)).is_err() {
                    // For the runtime this ADD has failed.
                    tracing::warn!("nobody waits for the answer; the pod is detached again");
                    self.remove(attachment);
                    return Ok(());
                }
                pace.done("answered");
                pace.tell();
                // The runtime need not wait for this.
                if let Some(note) = record.note() {
                    self.host.order(Order::Note(record.link.clone(), note));
                }
                tracing::info!(link = record.link, addresses = ?record.addresses, "a pod is attached");
                Ok(())
            }
            Err(refusal) => {
                self.remove(attachment);
                Err(refusal)
            }
        }
    }

    /// Waits for policy and addresses; what stands in the way is detached.
    fn admit(&self, attachment: &Attachment, pod: &Pod) -> Result<(Record, Realised), Refusal> {
        loop {
            let admitted = self.ask(|reply| Input::Admit {
                attachment: attachment.clone(),
                pod: pod.clone(),
                reply,
            });
            match admitted.ok_or_else(ending)?? {
                Admitted::Yes(record, realised) => return Ok((record, realised)),
                Admitted::AfterLeaving(old) if old == *attachment => self.remove(&old),
                Admitted::AfterLeaving(old) => {
                    let _held = self.locks.hold([name(&old)]);
                    self.remove(&old);
                }
            }
        }
    }

    /// Everything after the pod has its addresses.
    fn make(
        &self,
        record: &Record,
        realised: Realised,
        descriptors: Descriptors,
        pace: &mut Pace,
    ) -> Result<u32, Refusal> {
        // While the kernel takes the rules: a record beside its place does not count, and links that are down pass nothing.
        let mtu = self.host.mtu();
        let begun = self.journal.write(record).map_err(unrecorded);
        let begun =
            begun.and_then(|()| sandbox::create(record, mtu, &descriptors).map_err(network));
        pace.done("linked");
        in_force(realised)?;
        pace.done("in force");
        let (link, pod_mac) = begun?;

        let forgetting = self.forget_strangers(record).map_err(remembered)?;
        let mut inside = Connection::adopt(descriptors.netlink).map_err(network)?;
        sandbox::furnish(record, &link, &mut inside).map_err(network)?;
        // No packet passes before those connections are gone.
        forgetting.wait().map_err(remembered)?;
        pace.done("furnished");
        let end = sandbox::host_end(record, &link, pod_mac);
        self.host
            .ask(|answer| Order::Attach(end, answer))
            .ok_or_else(ending)?
            .map_err(network)?;
        pace.done("routed");
        sandbox::settle(&link, &mut inside).map_err(network)?;
        self.journal.keep(record).map_err(unrecorded)?;
        pace.done("settled");
        Ok(mtu)
    }

    /// Deletes connections that the kernel remembers of a pod's addresses from before they were its own.
    ///
    /// Looking through the kernel's table takes milliseconds however little is in it. Addresses of our blocks are clean once
    /// looked at: while nobody has them packets to them end in the block's blackhole, so nothing of them is remembered, and who
    /// had them is forgotten when they are released. So that is once for each block, and else for each address.
    fn forget_strangers(&self, record: &Record) -> Result<Forgetting, margay_nftnl::Error> {
        let mut clean = self.clean.lock().unwrap_or_else(PoisonError::into_inner);
        let view = Arc::clone(&self.view.borrow());
        let (mut outside, mut inside, mut blocks) =
            <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
        for address in &record.addresses {
            match view.blocks.keys().find(|block| block.contains(address)) {
                Some(block) if clean.contains(block) => {}
                Some(block) => {
                    let pods = view.pods.iter();
                    let in_use: BTreeSet<&IpAddr> = pods.flat_map(|pod| &pod.addresses).collect();
                    let free = all_addresses(*block).filter(|other| !in_use.contains(other));
                    inside.extend(free);
                    blocks.insert(*block);
                }
                None => {
                    outside.insert(*address);
                }
            }
        }
        clean.retain(|block| view.blocks.contains_key(block));
        if !inside.is_empty() {
            // Others who need the same block wait for the lock.
            self.forgetter.forget(inside).wait()?;
            clean.extend(blocks);
        }
        Ok(self.forgetter.forget(outside))
    }

    /// Detaches. Whatever is unknown or gone counts as detached.
    pub(crate) fn delete(&self, attachment: &Attachment) {
        let _held = self.locks.hold([name(attachment)]);
        self.remove(attachment);
    }

    /// Detaches; the attachment's lock is held.
    fn remove(&self, attachment: &Attachment) {
        let left = self
            .ask(|reply| Input::Leave(attachment.clone(), reply))
            .flatten();
        let record = left.map(|(record, realised)| {
            // Without rights nothing of the pod passes any more. If the kernel refuses that now, the writer goes on trying.
            if let Ok(Err(error)) = realised.blocking_recv() {
                tracing::warn!(%error, "a pod's rules are still there");
            }
            record
        });
        let link = names::link(attachment);
        self.host.ask(|answer| Order::Detach(link.clone(), answer));
        // Without rights the pod makes no new ones.
        let forgetting = record
            .as_ref()
            .map(|record| self.farewells.forget(record.addresses.clone()));
        // It tells itself what went wrong.
        let _ = self.unlinker.unlink(link).wait();
        if let Some(Err(error)) = forgetting.map(Forgetting::wait) {
            tracing::warn!(%error, "connections of a pod that is gone stay");
        }
        if let Err(error) = self.journal.remove(attachment) {
            tracing::error!(%error, "the record of a detached pod stays");
        }
        self.forget_tombstone(attachment);
        if let Some(record) = record {
            tracing::info!(pod = %record.pod, container = attachment.container, "a pod is detached");
            self.ask(|reply| Input::Release(attachment.clone(), reply));
        }
    }

    /// Detaches what the plugin noted while nobody answered it.
    pub(crate) fn bury(&self) {
        match self.journal.tombstones() {
            Ok(tombstones) => {
                for (path, attachment) in tombstones {
                    let _held = self.locks.hold([name(&attachment)]);
                    // An ADD may have come in between and taken the note away.
                    if path.exists() {
                        self.remove(&attachment);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "tombstones cannot be read"),
        }
    }

    fn forget_tombstone(&self, attachment: &Attachment) {
        let tombstone = Tombstone {
            attachment: attachment.clone(),
        };
        if let Err(error) = self.journal.remove_tombstone(&tombstone) {
            tracing::warn!(%error, "a tombstone stays");
        }
    }

    /// Detaches all but these.
    pub(crate) fn collect(&self, keep: &[Attachment]) {
        let keep: BTreeSet<&Attachment> = keep.iter().collect();
        for attachment in self.ask(Input::List).unwrap_or_default() {
            if !keep.contains(&attachment) {
                tracing::info!(
                    container = attachment.container,
                    "the runtime does not know an attachment any more"
                );
                self.delete(&attachment);
            }
        }
    }

    /// Records of complete attachments whose pods have no object, as far as the controller told; none while it is unknown.
    pub(crate) fn podless(&self) -> Vec<Record> {
        if self.view.borrow().received.is_none() {
            return Vec::new();
        }
        self.ask(Input::Podless).unwrap_or_default()
    }

    /// Whether ADD can be served.
    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        match self.view.borrow().unable() {
            None => Ok(()),
            Some(why) => {
                Err(Refusal::new(Code::NotAvailable, "no pod can be attached now").with(why))
            }
        }
    }

    /// The record of a complete attachment.
    pub(crate) fn find(&self, attachment: &Attachment) -> Option<Record> {
        self.ask(|reply| Input::Find(attachment.clone(), reply))
            .flatten()
    }

    fn tell(&self, input: Input) {
        // Without a core the process is ending.
        let _ = self.core.blocking_send(input);
    }

    fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(input(reply));
        answer.blocking_recv().ok()
    }
}

/// Waits until the kernel has a pod's rules.
fn in_force(realised: Realised) -> Result<(), Refusal> {
    match realised.blocking_recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Refusal::new(
            Code::TryAgainLater,
            "the kernel does not take the pod's rules, so it is not connected; try again later",
        )
        .with(error.to_string())),
        Err(_) => Err(ending()),
    }
}

fn name(attachment: &Attachment) -> String {
    format!("{}/{}", attachment.container, attachment.interface)
}

fn ending() -> Refusal {
    Refusal::new(Code::TryAgainLater, "felix is ending; try again later")
}

/// Every address of a block, also its first and last.
fn all_addresses(block: IpNet) -> impl Iterator<Item = IpAddr> {
    let addresses: Box<dyn Iterator<Item = IpAddr>> = match block {
        IpNet::V4(block) => {
            let (first, last) = (block.network().to_bits(), block.broadcast().to_bits());
            Box::new((first..=last).map(|bits| Ipv4Addr::from_bits(bits).into()))
        }
        IpNet::V6(block) => {
            let (first, last) = (block.network().to_bits(), block.broadcast().to_bits());
            Box::new((first..=last).map(|bits| Ipv6Addr::from_bits(bits).into()))
        }
    };
    addresses.take(LARGEST_BLOCK)
}

fn remembered(error: margay_nftnl::Error) -> Refusal {
    let what = "connections of an earlier owner of the address cannot be deleted";
    Refusal::new(Code::Io, what).with(error.to_string())
}

fn unrecorded(error: DiskError) -> Refusal {
    Refusal::new(Code::Io, "the attachment cannot be recorded").with(error.to_string())
}

fn network(error: margay_netlink::Error) -> Refusal {
    Refusal::new(Code::Io, "the pod's link cannot be set up").with(error.to_string())
}
