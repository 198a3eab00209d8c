//! The file of tokens: who may speak for which node.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::Context;
use margay_policy::model::NodeName;
use tracing::{error, info, warn};

use crate::identity::Denied;

/// Lines `NODE TOKEN`; several for a node are all good, `#` begins a comment. The file is read again when
/// it changes, so a new node needs no restart.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    stamp: Stamp,
    nodes: BTreeMap<NodeName, Vec<String>>,
}

/// Enough of a file's metadata to see that it changed.
type Stamp = (Option<SystemTime>, u64, u64);

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let read = Read::new(path)
            .with_context(|| format!("cannot read the tokens in {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            read: Mutex::new(read),
        })
    }

    /// Whether the bearer of `token` may speak for `node`.
    ///
    /// Takes as long for a token that is almost right as for any other.
    ///
    /// # Errors
    /// [`Denied`], with a sentence.
    pub(crate) fn check(&self, node: &NodeName, token: &str) -> Result<(), Denied> {
        let mut read = self
            .read
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        read.refresh(&self.path);
        let mut owner = None;
        for (name, tokens) in &read.nodes {
            for good in tokens {
                if equal(good.as_bytes(), token.as_bytes()) && owner != Some(node) {
                    owner = Some(name);
                }
            }
        }
        match owner {
            Some(owner) if owner == node => Ok(()),
            Some(owner) => Err(Denied::OtherNode {
                owner: owner.clone(),
                node: node.clone(),
            }),
            None => Err(Denied::Wrong(node.clone())),
        }
    }
}

impl Read {
    fn new(path: &Path) -> std::io::Result<Self> {
        let stamp = stamp(path)?;
        let nodes = parse(path, &fs::read_to_string(path)?);
        Ok(Self { stamp, nodes })
    }

    /// Reads the file again if it changed; while it cannot be read, what was there holds.
    fn refresh(&mut self, path: &Path) {
        if stamp(path).is_ok_and(|stamp| stamp == self.stamp) {
            return;
        }
        match Self::new(path) {
            Ok(read) => {
                info!(nodes = read.nodes.len(), "the tokens changed");
                *self = read;
            }
            Err(error) => {
                error!(path = %path.display(), %error, "cannot read the tokens; the ones known so far hold");
            }
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path)?;
    Ok((metadata.modified().ok(), metadata.len(), metadata.ino()))
}

fn parse(path: &Path, text: &str) -> BTreeMap<NodeName, Vec<String>> {
    let mut nodes: BTreeMap<NodeName, Vec<String>> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => {}
            [node, token] => nodes
                .entry(NodeName((*node).to_owned()))
                .or_default()
                .push((*token).to_owned()),
            // The line itself may hold a secret.
            _ => {
                warn!(path = %path.display(), line = index + 1, "not `NODE TOKEN`; the line is left out");
            }
        }
    }
    nodes
}

/// Compares in a time that depends on the lengths alone.
fn equal(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |all, (l, r)| black_box(all | (l ^ r)));
    left.len() == right.len() && black_box(difference) == 0
}

#[cfg(test)]
mod tests;
