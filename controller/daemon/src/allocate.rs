//! Block claims: owned by a thread of its own, on disk before they are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, thread};

use anyhow::Context;
use ipnet::IpNet;
use margay_ipam::Family;
use margay_ipam::pool::{ClaimError, claim};
use margay_policy::model::{Node, NodeName};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::durable;
use crate::network::{self, Inputs};

/// Claimed blocks and whose they are.
pub type Claims = BTreeMap<IpNet, NodeName>;

/// One more block for a node.
#[derive(Debug)]
pub struct Request {
    /// The node.
    pub node: NodeName,
    /// Of this family.
    pub family: Family,
    /// Of one of these pools; if there are none, of one that is for any namespace.
    pub pools: BTreeSet<IpNet>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<IpNet, Refused>>,
}

/// No block, and why.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such node.
    #[error("there is no Node object named {0}: a node gets blocks once it has one")]
    UnknownNode(NodeName),
    /// It takes its addresses elsewhere.
    #[error(
        "node {0} takes its addresses from its podCIDRs: give it larger ones, or make an IPPool and set `ipam: Blocks` in the NetworkConfig"
    )]
    PodCidrs(NodeName),
    /// It is to take its addresses elsewhere, and cannot yet.
    #[error(
        "node {0} has no spec.podCIDRs, which addresses are to come from: kube-controller-manager gives them (--allocate-node-cidrs) as long as its --cluster-cidr has room; or make an IPPool and set `ipam: Blocks` in the NetworkConfig"
    )]
    NoPodCidrs(NodeName),
    /// All that would be left overlap older ones.
    #[error(
        "no {family} pool is left for node {node}: {pools}; look at the events of these IPPools"
    )]
    Overlaps {
        /// The node.
        node: NodeName,
        /// The family.
        family: Family,
        /// The pools and what they overlap, for people.
        pools: String,
    },
    /// There is no block.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The claim could not be kept; so it was not made.
    #[error("the claim cannot be written to {path}: {error}")]
    Disk {
        /// The file.
        path: String,
        /// What the file system said.
        error: io::Error,
    },
    /// The API server did not take the claim.
    #[error("the API server does not take the claim, try again: {0}")]
    Api(String),
    /// Others were faster, over and over.
    #[error("other nodes were faster with every block that was tried: try again")]
    Race,
}

/// The file of claims.
#[derive(Default, Serialize, Deserialize)]
struct Page {
    blocks: Claims,
}

/// Reads the claims of earlier runs.
///
/// # Errors
/// If they cannot be read: to go on without them would give blocks away twice.
pub fn load(state: &Path) -> anyhow::Result<Claims> {
    let path = path(state);
    let octets = match fs::read(&path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Claims::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let page: Page = serde_json::from_slice(&octets).with_context(|| {
        format!(
            "{} is damaged: it says which node has which block; restore it, or, if no pod is running on any node, remove it",
            path.display()
        )
    })?;
    Ok(page.blocks)
}

/// Serves requests from a thread of its own until `requests` is closed.
///
/// `inputs` are the objects to decide by; `publish` is told the claims after each that was made, before
/// it is answered.
///
/// # Errors
/// If there can be no more threads.
pub fn start(
    state: &Path,
    mut claims: Claims,
    inputs: watch::Receiver<Arc<Inputs>>,
    mut requests: mpsc::Receiver<Request>,
    publish: impl Fn(Claims) + Send + 'static,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let path = path(state);
    thread::Builder::new()
        .name("allocate".to_owned())
        .spawn(move || {
            while let Some(Request {
                node,
                family,
                pools,
                answer,
            }) = requests.blocking_recv()
            {
                let inputs = Arc::clone(&inputs.borrow());
                let result = choose(&inputs, &claims, &node, family, &pools).and_then(|block| {
                    let mut with = claims.clone();
                    with.insert(block, node.clone());
                    keep(&path, &with)?;
                    claims = with;
                    Ok(block)
                });
                match &result {
                    Ok(block) => {
                        info!(%node, %block, "a block is claimed");
                        publish(claims.clone());
                    }
                    Err(error @ Refused::Disk { .. }) => {
                        error!(%node, %error, "a claim cannot be kept");
                    }
                    Err(error) => warn!(%node, %error, "no block for a node"),
                }
                // Who does not wait any more finds the block in its network.
                let _ = answer.send(result);
            }
        })
        .context("cannot start the thread that claims blocks")
}

/// The block that a node gets next.
pub(crate) fn choose(
    inputs: &Inputs,
    claims: &Claims,
    node: &NodeName,
    family: Family,
    of: &BTreeSet<IpNet>,
) -> Result<IpNet, Refused> {
    let object = inputs
        .nodes
        .get(node)
        .ok_or_else(|| Refused::UnknownNode(node.clone()))?;
    if !network::pod_cidrs(inputs, node).is_empty() {
        return Err(Refused::PodCidrs(node.clone()));
    }
    if network::lacks_pod_cidrs(inputs, node) {
        return Err(Refused::NoPodCidrs(node.clone()));
    }
    let usable: Vec<_> = network::pools(inputs)
        .into_iter()
        .filter(|pool| pool.is_usable_by(&object.labels))
        .filter(|pool| {
            let any = of.is_empty() && pool.is_for_any_namespace();
            any || of.contains(&pool.pool.cidr())
        })
        .map(|pool| pool.pool)
        .collect();
    // Ranges that nodes use as their podCIDRs are as taken as claimed ones.
    let mut owners: BTreeMap<IpNet, String> = network::blocks(inputs)
        .into_iter()
        .map(|(block, owner)| (block, owner.0))
        .collect();
    owners.extend(
        claims
            .iter()
            .map(|(block, owner)| (*block, owner.0.clone())),
    );
    claim(&usable, &owners, &node.0, family).map_err(|error| match error {
        ClaimError::NoPool(_) => no_pool(inputs, node, object, family).unwrap_or(error.into()),
        ClaimError::Exhausted { .. } | ClaimError::TooMany { .. } => error.into(),
    })
}

/// Why there is none, if it is that those meant for the node overlap older ones.
fn no_pool(inputs: &Inputs, node: &NodeName, object: &Node, family: Family) -> Option<Refused> {
    let overlapping = network::overlapping(inputs, object, family);
    let words = overlapping.iter();
    let words: Vec<String> = words
        .map(|(cidr, older)| format!("{cidr} overlaps the older IPPool {older}"))
        .collect();
    (!words.is_empty()).then(|| Refused::Overlaps {
        node: node.clone(),
        family,
        pools: words.join(", "),
    })
}

fn keep(path: &Path, claims: &Claims) -> Result<(), Refused> {
    let page = Page {
        blocks: claims.clone(),
    };
    let content = serde_json::to_vec_pretty(&page).map_err(io::Error::other);
    content
        .and_then(|content| durable::replace(path, &content))
        .map_err(|error| Refused::Disk {
            path: path.display().to_string(),
            error,
        })
}

fn path(state: &Path) -> PathBuf {
    state.join("claims.json")
}

#[cfg(test)]
mod tests;
