//! Addresses that agents reported for their pods, kept over a restart: else peers' sets would lack
//! them until every agent has reported again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use margay_policy::model::{NodeName, PodId};
use margay_sync::message::PodReport;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::durable::{Keeper, private_folder};

/// The attached pods of a node, by its agent.
pub(super) type Pods = BTreeMap<PodId, PodReport>;

/// The folder of reports: a file per node.
#[derive(Debug)]
pub struct Reports {
    folder: PathBuf,
    keeper: Keeper,
    /// What was last written.
    nodes: BTreeMap<NodeName, Pods>,
}

/// A file of the folder.
#[derive(Serialize, Deserialize)]
struct Page {
    node: NodeName,
    pods: Pods,
}

impl Reports {
    /// Reads the reports of earlier runs. A damaged one is left out: its agent will report again.
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub(crate) fn load(state: &Path, keeper: Keeper) -> anyhow::Result<Self> {
        let folder = state.join("reports");
        private_folder(&folder)?;
        let context = || format!("cannot read {}", folder.display());
        let mut nodes = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(context)? {
            let path = entry.with_context(context)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let octets =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            match serde_json::from_slice::<Page>(&octets) {
                Ok(Page { node, pods }) => drop(nodes.insert(node, pods)),
                Err(error) => {
                    warn!(path = %path.display(), %error, "an old report is damaged and left out");
                }
            }
        }
        Ok(Self {
            folder,
            keeper,
            nodes,
        })
    }

    /// What is kept.
    pub(super) fn nodes(&self) -> &BTreeMap<NodeName, Pods> {
        &self.nodes
    }

    /// Keeps a node's new report; `false` if it says what the last one said. An empty one is as good as
    /// none.
    pub(super) fn keep(&mut self, node: &NodeName, pods: Pods) -> bool {
        let old = self.nodes.get(node);
        if old.map_or(pods.is_empty(), |old| *old == pods) {
            return false;
        }
        if pods.is_empty() {
            self.nodes.remove(node);
            self.keeper.remove(self.path(node));
            return true;
        }
        let page = Page {
            node: node.clone(),
            pods,
        };
        match serde_json::to_vec(&page) {
            Ok(content) => self.keeper.put(self.path(node), content),
            Err(error) => warn!(%node, %error, "a report cannot be written down"),
        }
        self.nodes.insert(page.node, page.pods);
        true
    }

    /// Tokens may name nodes by anything but white space: one file each, whatever it is.
    fn path(&self, node: &NodeName) -> PathBuf {
        self.folder.join(format!(
            "{}.json",
            node.0.replace('%', "%25").replace('/', "%2f")
        ))
    }
}
