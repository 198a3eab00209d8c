//! Where the sockets are: a lab's folder, a real machine's `/run/margay`, or the pods of a cluster.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::client::Socket;
use crate::output::{Misuse, list};
use crate::remote::{Remote, Which};
use crate::similar::did_you_mean;

const LABS: &str = "/run/margay-lab";
/// The lab that `margay-lab up` makes when it is given no name.
const USUAL: &str = "lab";
const MACHINE: &str = "/run/margay";

/// How we were started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugin {
    /// As `kubectl margay`: about kubectl's cluster.
    OfKubectl,
    /// By our own name.
    No,
}

impl Plugin {
    /// By the name that the program was called by.
    pub(crate) fn of(program: Option<&OsStr>) -> Self {
        let name = program.and_then(|program| Path::new(program).file_name());
        if name == Some(OsStr::new("kubectl-margay")) {
            Self::OfKubectl
        } else {
            Self::No
        }
    }
}

/// The sockets that margayctl can ask.
pub(crate) struct Places {
    /// The controller's; it may not exist on a node of a real cluster.
    pub(crate) controller: Socket,
    /// Those of the controller's other replicas that are ready: an agent speaks with one of them alone.
    pub(crate) replicas: Vec<Socket>,
    /// Those of felix by node: all nodes of a lab or cluster, or the one of this machine.
    pub(crate) nodes: BTreeMap<String, Socket>,
    /// The cluster that they are in, if it was reached by its API.
    pub(crate) cluster: Option<Remote>,
}

impl Places {
    /// The cluster that the command line names; else the sockets in `run`, of the lab `lab` or the only one, or of
    /// this machine; else the cluster that kubectl would ask.
    ///
    /// # Errors
    /// `run` cannot be read, there are several labs to choose from, or the cluster does not answer.
    pub(crate) async fn find(
        run: Option<&Path>,
        which: &Which,
        plugin: Plugin,
    ) -> anyhow::Result<Self> {
        let nothing_here = || !Path::new(MACHINE).exists() && labs().is_empty();
        if is_of_cluster(run, which, plugin) || (run.is_none() && nothing_here()) {
            Remote::find(which).await?.places().await
        } else {
            Self::here(run)
        }
    }

    /// The same for what can be done without any socket: where there are none, this machine is meant.
    ///
    /// # Errors
    /// As [`Self::find`]; for this machine inside.
    pub(crate) async fn find_or_here(
        run: Option<&Path>,
        which: &Which,
        plugin: Plugin,
    ) -> anyhow::Result<anyhow::Result<Self>> {
        if is_of_cluster(run, which, plugin) {
            Remote::find(which).await?.places().await.map(Ok)
        } else {
            Ok(Self::here(run))
        }
    }

    /// The sockets of this machine.
    fn here(run: Option<&Path>) -> anyhow::Result<Self> {
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
            replicas: Vec::new(),
            nodes,
            cluster: None,
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
                return Err(Misuse(match self.controller.path().and_then(Path::parent) {
                    Some(dir) => format!(
                        "no felix has its socket in {}: run this on a node, or say --run DIR",
                        dir.display()
                    ),
                    None => "no felix runs in this cluster".to_owned(),
                })
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

/// Whether the command line says that a cluster is meant, and not this machine.
fn is_of_cluster(run: Option<&Path>, which: &Which, plugin: Plugin) -> bool {
    which.is_named() || (run.is_none() && plugin == Plugin::OfKubectl)
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

/// Folders of the labs that stand.
fn labs() -> Vec<PathBuf> {
    subfolders(Path::new(LABS))
        .into_iter()
        .map(|name| Path::new(LABS).join(name))
        .filter(|dir| dir.join("controller.sock").exists())
        .collect()
}

fn default_dir() -> anyhow::Result<PathBuf> {
    match labs().as_slice() {
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
