//! Where the sockets are: a lab's folder, or a real machine's `/run/margay`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::client::Socket;
use crate::output::{Misuse, list};
use crate::similar::did_you_mean;

const LABS: &str = "/run/margay-lab";
/// The lab that `margay-lab up` makes when it is given no name.
const USUAL: &str = "lab";
const MACHINE: &str = "/run/margay";

/// The sockets that margayctl can ask.
#[derive(Debug)]
pub(crate) struct Places {
    /// The controller's; it may not exist on a node of a real cluster.
    pub(crate) controller: Socket,
    /// Those of felix by node: all nodes of a lab, or the one of this machine.
    pub(crate) nodes: BTreeMap<String, Socket>,
}

impl Places {
    /// The sockets in `run`, else of the lab `lab` or the only one, else of this machine.
    ///
    /// # Errors
    /// `run` cannot be read, or there are several labs to choose from.
    pub(crate) fn find(run: Option<&Path>) -> anyhow::Result<Self> {
        let dir = match run {
            Some(dir) => dir.to_owned(),
            None => default_dir()?,
        };
        fs::read_dir(&dir).with_context(|| {
            format!(
                "cannot read {}: does Margay run here? Say --run DIR if its sockets are elsewhere",
                dir.display()
            )
        })?;
        let mut nodes = BTreeMap::new();
        for name in subfolders(&dir.join("nodes")) {
            let socket = dir.join("nodes").join(&name).join("felix.sock");
            nodes.insert(name, Socket::new(socket, "margay-felix"));
        }
        let own = dir.join("felix.sock");
        if own.exists() {
            nodes.insert(own_name(&dir), Socket::new(own, "margay-felix"));
        }
        Ok(Self {
            controller: Socket::new(dir.join("controller.sock"), "margay-controller"),
            nodes,
        })
    }

    /// felix' socket of `node`, or all of them.
    ///
    /// # Errors
    /// [`Misuse`] if there is no such node here, or none at all.
    pub(crate) fn felix(&self, node: Option<&str>) -> anyhow::Result<Vec<(&str, &Socket)>> {
        let all = self
            .nodes
            .iter()
            .map(|(name, socket)| (name.as_str(), socket));
        let Some(wanted) = node else {
            let all: Vec<_> = all.collect();
            if all.is_empty() {
                let dir = self.controller.path().parent().unwrap_or(Path::new("/"));
                return Err(Misuse(format!(
                    "no felix has its socket in {}: run this on a node, or say --run DIR",
                    dir.display()
                ))
                .into());
            }
            return Ok(all);
        };
        let found: Vec<_> = all.filter(|(name, _)| *name == wanted).collect();
        if found.is_empty() {
            return Err(unknown_node(wanted, self.nodes.keys().map(String::as_str)).into());
        }
        Ok(found)
    }
}

/// The refusal to look at a node that is not there.
pub(crate) fn unknown_node<'a>(
    wanted: &str,
    nodes: impl Iterator<Item = &'a str> + Clone,
) -> Misuse {
    let guess = did_you_mean(wanted, nodes.clone());
    Misuse(format!(
        "there is no node `{wanted}` here{guess}; nodes: {}",
        list(nodes, ", ")
    ))
}

fn default_dir() -> anyhow::Result<PathBuf> {
    let labs: Vec<PathBuf> = subfolders(Path::new(LABS))
        .into_iter()
        .map(|name| Path::new(LABS).join(name))
        .filter(|dir| dir.join("controller.sock").exists())
        .collect();
    match labs.as_slice() {
        [] => Ok(PathBuf::from(MACHINE)),
        [lab] => Ok(lab.clone()),
        // Labs of tests come and go beside it.
        labs if labs.contains(&Path::new(LABS).join(USUAL)) => Ok(Path::new(LABS).join(USUAL)),
        _ if Path::new(MACHINE).exists() => Ok(PathBuf::from(MACHINE)),
        several => Err(Misuse(format!(
            "there are several labs: choose one by --run {}",
            list(several.iter().map(|dir| dir.display()), " or --run ")
        ))
        .into()),
    }
}

/// A folder that holds one felix' sockets is a lab's `nodes/NAME`, or this machine's.
fn own_name(dir: &Path) -> String {
    let in_lab = dir
        .parent()
        .filter(|parent| parent.ends_with("nodes"))
        .and(dir.file_name());
    if let Some(name) = in_lab {
        return name.to_string_lossy().into_owned();
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "this machine".to_owned()
    } else {
        name.to_owned()
    }
}

/// Names of the folders in `dir`, sorted; none if it cannot be read.
fn subfolders(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}
