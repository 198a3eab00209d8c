//! Which pods are attached or about to be, and their addresses. Decides; does nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use margay_cni::request::{Attachment, Pod};
use margay_ipam::Source;
use margay_ipam::allocator::{Allocator, AssignError, Handle};
use margay_policy::model::PodId;
use margay_policy::node_policy::Endpoint;
use margay_sync::message::{NoSource, NodeNetwork};

use crate::journal::Record;
use crate::names;

/// How long a released address rests before it is given out again, in seconds: longer than a SYN is repeated by most.
pub(crate) const COOL_DOWN: u64 = 60;
/// How many free addresses of a source to keep; below, one more block is asked for.
const SPARE: u64 = 16;

/// All attachments of the node.
#[derive(Debug)]
pub(crate) struct Pods {
    allocator: Allocator,
    entries: BTreeMap<Attachment, Entry>,
    /// Records of complete attachments, as long as they are the same.
    attached: Option<Arc<[Arc<Record>]>>,
}

/// An attachment and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) record: Arc<Record>,
    pub(crate) stage: Stage,
}

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has addresses and rights; its link is being made.
    Making,
    /// It is complete.
    Attached,
    /// It has lost its rights; its link is being deleted, its addresses are not free yet.
    Leaving,
}

/// What can be done for a pod that wants to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It has addresses now.
    Admitted(Record),
    /// Another attachment must go first.
    Replace(Attachment),
    /// Something is missing that may come.
    Wait(Wait),
}

/// What an admission waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wait {
    /// Nobody has told of the pod.
    #[error("the controller has not told of the pod {0}, so its policy is unknown")]
    Policy(PodId),
    /// What is known is of another pod of that name.
    #[error("what the controller has told of {pod} is of uid {known}, not {asked}")]
    OtherUid {
        /// The pod.
        pod: PodId,
        /// The uid in the policy.
        known: String,
        /// The uid in the request.
        asked: String,
    },
    /// Nobody has told of the node.
    #[error("the controller has not told of this node, so it has no addresses to give")]
    Network,
    /// No pool is meant for it.
    #[error(transparent)]
    Source(#[from] NoSource),
    /// No address.
    #[error(transparent)]
    Address(#[from] AssignError),
}

impl Pods {
    pub(crate) fn new(allocator: Allocator) -> Self {
        Self {
            allocator,
            entries: BTreeMap::new(),
            attached: None,
        }
    }

    /// The allocator, to be written down.
    pub(crate) fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// Takes over what was attached before a restart; addresses of anything else are free from `now` on.
    pub(crate) fn restore(&mut self, records: Vec<Record>, now: u64) {
        let kept: BTreeSet<Handle> = records.iter().map(|r| handle(&r.attachment)).collect();
        let lost: BTreeSet<Handle> = self
            .allocator
            .holders()
            .values()
            .filter(|holder| !kept.contains(*holder))
            .cloned()
            .collect();
        for holder in lost {
            self.allocator.release(&holder, now);
        }
        self.attached = None;
        for record in records {
            for address in &record.addresses {
                if let Err(error) = self
                    .allocator
                    .assign_specific(&handle(&record.attachment), *address)
                {
                    tracing::warn!(pod = %record.pod, %error, "an attachment lost an address");
                }
            }
            let attachment = record.attachment.clone();
            let entry = Entry {
                record: Arc::new(record),
                stage: Stage::Attached,
            };
            self.entries.insert(attachment, entry);
        }
    }

    /// Says which blocks addresses may be taken from, and of which not the ends.
    pub(crate) fn set_blocks(&mut self, blocks: &BTreeSet<IpNet>, subnets: &BTreeSet<IpNet>) {
        self.allocator.set_blocks(blocks);
        self.allocator.set_subnets(subnets);
    }

    /// All attachments.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Records of complete attachments.
    pub(crate) fn attached(&mut self) -> Arc<[Arc<Record>]> {
        let attached = self.attached.get_or_insert_with(|| {
            let entries = self.entries.values();
            let attached = entries.filter(|entry| entry.stage == Stage::Attached);
            attached.map(|entry| Arc::clone(&entry.record)).collect()
        });
        Arc::clone(attached)
    }

    /// An attachment.
    pub(crate) fn get(&self, attachment: &Attachment) -> Option<&Entry> {
        self.entries.get(attachment)
    }

    /// The attachment of a pod that has rights.
    fn of_pod(&self, pod: &PodId) -> Option<&Entry> {
        self.entries
            .values()
            .find(|entry| entry.record.pod == *pod && entry.stage != Stage::Leaving)
    }

    /// Gives a pod its addresses: exactly those of its object, or some of the node's blocks.
    pub(crate) fn admit(
        &mut self,
        attachment: &Attachment,
        pod: &Pod,
        endpoints: &BTreeMap<PodId, Endpoint>,
        network: Option<&NodeNetwork>,
        now: u64,
    ) -> Admission {
        let id = PodId::new(&pod.namespace, &pod.name);
        if let Some(old) = self.entries.get(attachment).or_else(|| self.of_pod(&id)) {
            return Admission::Replace(old.record.attachment.clone());
        }
        let Some(endpoint) = endpoints.get(&id) else {
            return Admission::Wait(Wait::Policy(id));
        };
        if !pod.uid.is_empty() && !endpoint.uid.is_empty() && pod.uid != endpoint.uid {
            return Admission::Wait(Wait::OtherUid {
                pod: id,
                known: endpoint.uid.clone(),
                asked: pod.uid.clone(),
            });
        }
        let addresses = if endpoint.addresses.is_empty() {
            self.some_addresses(attachment, &pod.namespace, network, now)
        } else {
            self.exactly(attachment, &endpoint.addresses, now)
        };
        match addresses {
            Err(wait) => Admission::Wait(wait),
            Ok(addresses) => {
                let record = Record {
                    attachment: attachment.clone(),
                    pod: id,
                    uid: pod.uid.clone(),
                    link: names::link(attachment),
                    addresses,
                };
                let entry = Entry {
                    record: Arc::new(record.clone()),
                    stage: Stage::Making,
                };
                self.entries.insert(attachment.clone(), entry);
                Admission::Admitted(record)
            }
        }
    }

    fn exactly(
        &mut self,
        attachment: &Attachment,
        addresses: &BTreeSet<IpAddr>,
        now: u64,
    ) -> Result<BTreeSet<IpAddr>, Wait> {
        let handle = handle(attachment);
        for address in addresses {
            if let Err(error) = self.allocator.assign_specific(&handle, *address) {
                // All or none: a pod that waits holds nothing back.
                self.allocator.release(&handle, now);
                return Err(error.into());
            }
        }
        Ok(addresses.clone())
    }

    /// One address of each source that the namespace has.
    fn some_addresses(
        &mut self,
        attachment: &Attachment,
        namespace: &str,
        network: Option<&NodeNetwork>,
        now: u64,
    ) -> Result<BTreeSet<IpAddr>, Wait> {
        let sources = network.ok_or(Wait::Network)?.sources(namespace)?;
        let handle = handle(attachment);
        Ok(self.allocator.assign_each(&handle, &sources, now)?)
    }

    /// An attachment is complete.
    pub(crate) fn complete(&mut self, attachment: &Attachment) {
        if let Some(entry) = self.entries.get_mut(attachment)
            && entry.stage == Stage::Making
        {
            entry.stage = Stage::Attached;
            self.attached = None;
        }
    }

    /// An attachment is to go: it has no rights from now on. Its record; `None` if it is unknown.
    pub(crate) fn leave(&mut self, attachment: &Attachment) -> Option<Record> {
        let entry = self.entries.get_mut(attachment)?;
        entry.stage = Stage::Leaving;
        self.attached = None;
        Some(Record::clone(&entry.record))
    }

    /// An attachment is gone: its addresses rest.
    pub(crate) fn release(&mut self, attachment: &Attachment, now: u64) {
        if self.entries.remove(attachment).is_some() {
            self.attached = None;
            self.allocator.release(&handle(attachment), now);
        }
    }

    /// Sources of which one more block is needed.
    pub(crate) fn wants(&self, network: Option<&NodeNetwork>, now: u64) -> BTreeSet<Source> {
        let sources = network.map(NodeNetwork::all_sources).unwrap_or_default();
        sources
            .into_iter()
            .filter(|source| self.allocator.wants_block(source, SPARE, now))
            .collect()
    }

    /// Prefixes of attached pods that lie in none of `blocks`.
    pub(crate) fn outside(&self, blocks: &BTreeSet<IpNet>) -> BTreeSet<IpNet> {
        let attached = self
            .entries
            .values()
            .filter(|entry| entry.stage == Stage::Attached);
        attached
            .flat_map(|entry| &entry.record.addresses)
            .filter(|address| !blocks.iter().any(|block| block.contains(*address)))
            .map(|address| IpNet::from(*address))
            .collect()
    }
}

fn handle(attachment: &Attachment) -> Handle {
    Handle::new(&attachment.container, &attachment.interface)
}

#[cfg(test)]
mod tests;
