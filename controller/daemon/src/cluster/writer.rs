//! What whoever leads writes: `NodeStatus` objects, the nodes' `NetworkUnavailable` condition, the release of
//! blocks of nodes that are gone, and events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use margay_api::v1::ipblock::name_of;
use margay_api::v1::{API_VERSION, IpBlock, NodeStatus, NodeStatusSpec, NodeStatusStatus};
use margay_policy::model::NodeName;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::events::Events;
use super::{FIELD_MANAGER, answer};
use crate::clock;
use crate::index_task::{Duties, Input, NodeDuty, PageRequest};
use crate::sources::kubernetes::Pages;

/// How often to look what there is to write.
const LOOK: Duration = Duration::from_secs(1);
/// How long a node's status rests before it is written again.
const REST: Duration = Duration::from_secs(10);
/// Statuses to write at a time.
const AT_ONCE: usize = 50;
/// How long a node must be gone until its blocks are released: seen gone twice, so far apart.
const GONE: Duration = Duration::from_secs(30);
/// How often to look for what owners of objects should know.
const FINDINGS: Duration = Duration::from_secs(10);

/// The writer.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) identity: String,
    pub(crate) index: mpsc::Sender<Input>,
    pub(crate) pages: Pages,
    pub(crate) stop: CancellationToken,
}

/// What is remembered while we lead.
#[derive(Default)]
struct Memory {
    statuses: BTreeMap<NodeName, (NodeStatusStatus, Instant)>,
    cleared: BTreeMap<NodeName, Instant>,
    orphans: BTreeMap<IpNet, Instant>,
    looked: Option<Instant>,
    /// When a status could not be written.
    failed: Option<Instant>,
}

impl Writer {
    /// Writes whenever `leads` says so, until told to stop.
    pub(crate) async fn run(self, mut leads: watch::Receiver<bool>) {
        let events = Events::new(&self.client, &self.identity);
        let mut memory = Memory::default();
        let mut leading = false;
        loop {
            let leads_now = *leads.borrow_and_update();
            if leads_now != leading {
                info!(leads = leads_now, "the lease changed hands");
                (leading, memory) = (leads_now, Memory::default());
            }
            if leading {
                self.duties(&mut memory).await;
                self.findings(&mut memory, &events).await;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = leads.changed(), if !leading => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn duties(&self, memory: &mut Memory) {
        let Some(Duties { nodes, orphans }) = self.ask(PageRequest::Duties).await else {
            return;
        };
        let now = clock::now();
        memory.statuses.retain(|name, _| nodes.contains_key(name));
        memory.cleared.retain(|name, _| nodes.contains_key(name));
        let mut written = 0;
        for (name, duty) in nodes {
            let NodeDuty {
                uid,
                clear_unavailable,
                status,
            } = duty;
            let rested = |at: &Instant| has_rested(*at, now);
            if clear_unavailable && memory.cleared.get(&name).is_none_or(rested) {
                memory.cleared.insert(name.clone(), now);
                if let Err(error) = self.clear(&name).await {
                    warn!(node = %name, %error, "cannot clear NetworkUnavailable");
                }
            }
            let Some(status) = status else {
                continue;
            };
            let due = memory.failed.as_ref().is_none_or(rested)
                && is_due(memory.statuses.get(&name), &status, now);
            if !due || written >= AT_ONCE {
                continue;
            }
            written += 1;
            match self.status(&name, &uid, &status).await {
                Ok(()) => drop(memory.statuses.insert(name, (status, now))),
                Err(error) => {
                    warn!(node = %name, %error, "cannot write a node's status");
                    // Whatever it is, it will not be better for the next node, nor in a second.
                    memory.failed = Some(now);
                    break;
                }
            }
        }
        self.release(memory, &orphans, now).await;
    }

    /// Writes a node's status, into an object that goes with the node.
    async fn status(
        &self,
        name: &NodeName,
        uid: &str,
        status: &NodeStatusStatus,
    ) -> kube::Result<()> {
        let api: Api<NodeStatus> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": API_VERSION, "kind": "NodeStatus", "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(patch);
        let patched = answer(api.patch_status(&name.0, &parameters, &patch)).await;
        match patched {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(error)) if error.code == 404 => {
                let mut object = NodeStatus::new(&name.0, NodeStatusSpec {});
                object.metadata.owner_references = Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: name.0.clone(),
                    uid: uid.to_owned(),
                    ..OwnerReference::default()
                }]);
                answer(api.create(&post(), &object)).await?;
                answer(api.patch_status(&name.0, &parameters, &patch)).await?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Says that a node has a network.
    async fn clear(&self, name: &NodeName) -> kube::Result<()> {
        let api: Api<Node> = Api::all(self.client.clone());
        let now = Timestamp::now().to_string();
        let patch = json!({"status": {"conditions": [{
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "MargayIsUp",
            "message": "margay-felix serves pods on this node",
            "lastTransitionTime": now,
            "lastHeartbeatTime": now,
        }]}});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        answer(api.patch_status(&name.0, &parameters, &Patch::Strategic(patch))).await?;
        info!(node = %name, "NetworkUnavailable is cleared");
        Ok(())
    }

    /// Releases blocks of nodes that were gone at two looks some time apart.
    async fn release(
        &self,
        memory: &mut Memory,
        orphans: &BTreeMap<IpNet, NodeName>,
        now: Instant,
    ) {
        memory
            .orphans
            .retain(|block, _| orphans.contains_key(block));
        let api: Api<IpBlock> = Api::all(self.client.clone());
        for (block, node) in orphans {
            let seen = *memory.orphans.entry(*block).or_insert(now);
            if now.saturating_duration_since(seen) < GONE {
                continue;
            }
            memory.orphans.remove(block);
            match release(&api, *block, node).await {
                Ok(true) => info!(%block, %node, "the block of a node that is gone is released"),
                Ok(false) => {}
                Err(error) => warn!(%block, %node, %error, "cannot release a block"),
            }
        }
    }

    async fn findings(&self, memory: &mut Memory, events: &Events) {
        let now = clock::now();
        let due = |at: Instant| now.saturating_duration_since(at) >= FINDINGS;
        if !memory.looked.is_none_or(due) {
            return;
        }
        memory.looked = Some(now);
        let (Some(findings), Some(troubled)) = (
            self.ask(PageRequest::Findings).await,
            self.pages.troubled().await,
        ) else {
            return;
        };
        // What the index finds needs the objects' uids, which only the source knows.
        let wanted: BTreeSet<_> = findings
            .iter()
            .map(|finding| {
                (
                    finding.kind,
                    finding.namespace.clone(),
                    finding.name.clone(),
                )
            })
            .collect();
        let Some(uids) = self.pages.uids(wanted).await else {
            return;
        };
        events.publish(findings, troubled, &uids).await;
    }

    async fn ask<T>(&self, request: fn(oneshot::Sender<T>) -> PageRequest) -> Option<T> {
        let (answer, page) = oneshot::channel();
        self.index.send(Input::Page(request(answer))).await.ok()?;
        page.await.ok()
    }
}

/// Whether a node's status differs from the one written last, and that is long enough ago.
fn is_due(
    last: Option<&(NodeStatusStatus, Instant)>,
    status: &NodeStatusStatus,
    now: Instant,
) -> bool {
    last.is_none_or(|(last, at)| last != status && has_rested(*at, now))
}

fn has_rested(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= REST
}

/// Deletes the object if it is still what it was; whether there was one.
async fn release(api: &Api<IpBlock>, block: IpNet, node: &NodeName) -> kube::Result<bool> {
    let name = name_of(block);
    let Some(object) = answer(api.get_opt(&name)).await? else {
        return Ok(false);
    };
    if object.spec.node != node.0 {
        return Ok(false);
    }
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.metadata.uid,
            resource_version: object.metadata.resource_version,
        }),
        ..DeleteParams::default()
    };
    answer(api.delete(&name, &parameters)).await?;
    Ok(true)
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

#[cfg(test)]
mod tests;
