//! A whole lab: fabric, controller, felix on every node, BIRD, the host beyond it, and pods.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use margay_api::load::Key;
use margay_policy::model::{Cluster, PodId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bird::Dialling;
use super::clock::wait;
use super::complete::{complete, speaker_settings};
use super::daemon::Daemon;
use super::guard::{self, Scratch};
use super::netns::Netns;
use super::objects::{self, Objects};
use super::pods::PodRecord;
use super::prober::{ListenerId, Prober};
use super::process::Privilege;
use super::topology::{CONTROLLER, Topology};
use super::{http, ip};

/// Port of the controller's sync server.
const SYNC_PORT: u16 = 7443;
/// Where felix finds the controller.
pub const SYNC_ADDRESS: SocketAddrV4 = SocketAddrV4::new(CONTROLLER, SYNC_PORT);

/// What a lab is raised from.
#[derive(Debug, Default)]
pub struct Options {
    /// Its name; `None`: a fresh one.
    pub name: Option<String>,
    /// The world.
    pub objects: Objects,
    /// Addresses of the host beyond the router.
    pub externals: BTreeSet<IpAddr>,
    /// Whether BIRD dials.
    pub dialling: Dialling,
    /// Whether others can change felix' nf_tables table.
    pub table: Table,
    /// Called with each step that is done.
    pub progress: Progress,
}

/// Whose the table `inet margay` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// felix' alone, where the kernel can do that.
    #[default]
    Exclusive,
    /// Others can change it, and felix repairs it.
    Shared,
}

/// Told what was just done.
pub struct Progress(pub Box<dyn FnMut(&str) + Send>);

impl Default for Progress {
    fn default() -> Self {
        Self(Box::new(|step| tracing::debug!(step, "done")))
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// What a later process must know of a standing lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) topology: Topology,
    pub(super) asn: u32,
    pub(super) bgp_port: u16,
    pub(super) pods: BTreeMap<PodId, PodRecord>,
    /// Counts pods that ever were, for names.
    pub(super) pod_count: u32,
}

/// A lab. Dropping it removes everything, unless it was kept or opened.
#[derive(Debug)]
pub struct Lab {
    // Fields drop in this order: sockets and daemons before the namespaces.
    pub(super) prober: Option<Prober>,
    pub(super) listeners: BTreeMap<PodId, ListenerId>,
    pub(super) felixes: BTreeMap<String, Daemon>,
    pub(super) controller: Option<Daemon>,
    pub(super) bird: Option<Daemon>,
    pub(super) nodes: BTreeMap<String, Arc<Netns>>,
    pub(super) router: Arc<Netns>,
    pub(super) host: Arc<Netns>,
    pub(super) controller_netns: Netns,
    pub(super) objects: Objects,
    pub(super) record: Record,
    pub(super) marks: u32,
    pub(super) table: Table,
    /// The process that listens for the pods of a lab that stands.
    server: Option<Daemon>,
    pub(super) scratch: Scratch,
}

impl Lab {
    /// Raises a lab without its pods and waits until its daemons are in sync and every BGP session is up.
    ///
    /// # Errors
    /// What could not be done; everything is removed again.
    pub fn up(options: Options) -> Result<Self> {
        let Options {
            name,
            mut objects,
            externals,
            dialling,
            table,
            mut progress,
        } = options;
        let name = name.unwrap_or_else(|| format!("t-{}", guard::random()));
        let cluster = objects.cluster();
        let taken: BTreeSet<IpAddr> = cluster
            .pods
            .values()
            .flat_map(|pod| pod.addresses.iter().copied())
            .collect();
        let topology = Topology::new(&objects.nodes(), &externals, &taken)?;
        let (asn, bgp_port) = speaker_settings(&objects);
        complete(&mut objects, &topology)?;
        let scratch = Scratch::create(&name)?;
        for folder in ["world", "controller", "nodes"] {
            fs::create_dir(scratch.folder().join(folder))?;
        }
        for (key, document) in &objects.documents {
            objects::write(&scratch.folder().join("world"), key, document)?;
        }
        let record = Record {
            topology,
            asn,
            bgp_port,
            pods: BTreeMap::new(),
            pod_count: 0,
        };
        let mut lab = Self::fabric(scratch, record, objects)?;
        lab.table = table;
        (progress.0)("switch, nodes, router and host");
        lab.start_daemons(dialling)?;
        (progress.0)("controller, felix on every node, BIRD");
        lab.wait_ready()?;
        (progress.0)("policy in sync, BGP sessions up");
        Ok(lab)
    }

    /// Opens a lab that stands.
    ///
    /// # Errors
    /// If there is none of that name, or it is broken.
    pub fn open(name: &str) -> Result<Self> {
        let scratch = Scratch::open(name)?;
        let folder = scratch.folder();
        let text = fs::read_to_string(folder.join("lab.json"))
            .with_context(|| format!("lab `{name}` is not whole"))?;
        let record: Record = serde_json::from_str(&text)?;
        let netns = |suffix: &str| Netns::open(&scratch.netns_name(suffix));
        let nodes = node_suffixes(&record.topology)
            .map(|(node, suffix)| Ok((node, Arc::new(netns(&suffix)?))))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let felixes = nodes
            .keys()
            .filter_map(|node| {
                Some((
                    node.clone(),
                    Daemon::open(&folder.join("nodes").join(node), "felix").ok()?,
                ))
            })
            .collect();
        Ok(Self {
            prober: None,
            listeners: BTreeMap::new(),
            felixes,
            controller: Daemon::open(&folder, "controller").ok(),
            bird: Daemon::open(&folder, "bird").ok(),
            nodes,
            router: Arc::new(netns("r")?),
            host: Arc::new(netns("h")?),
            controller_netns: netns("c")?,
            objects: Objects::read(&folder.join("world"))?,
            record,
            marks: 0,
            table: Table::default(),
            server: Some(Daemon::open(&folder, "serve")?),
            scratch,
        })
    }

    /// From now on a process of its own listens for the pods (`margay-lab serve`), not this one.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn serve_apart(&mut self, program: &Path) -> Result<()> {
        self.save()?;
        let mut command = Command::new(program);
        command.args(["--name", self.scratch.name(), "serve"]);
        let folder = self.folder();
        let ready = folder.join("serve.ready");
        self.server = Some(Daemon::start(
            &self.controller_netns,
            Privilege::Full,
            &mut command,
            &folder,
            "serve",
        )?);
        wait(
            "the process that listens for pods",
            Duration::from_secs(10),
            || {
                if ready.exists() {
                    Ok(())
                } else {
                    Err(self.log_tail("serve.log"))
                }
            },
        )
    }

    /// The process that listens for the pods, if it is not this one.
    pub(super) fn server(&self) -> Option<&Daemon> {
        self.server.as_ref()
    }

    /// Lets it stand after this process.
    ///
    /// # Errors
    /// If its state cannot be written.
    pub fn keep(mut self) -> Result<()> {
        self.save()?;
        self.scratch.keep()
    }

    /// Writes down what a later process must know.
    pub(super) fn save(&self) -> Result<()> {
        Ok(fs::write(
            self.folder().join("lab.json"),
            serde_json::to_string_pretty(&self.record)?,
        )?)
    }

    /// Makes all namespaces and cables.
    fn fabric(scratch: Scratch, record: Record, objects: Objects) -> Result<Self> {
        let forwarding = [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ];
        let switch = scratch.netns("s")?;
        let (controller_netns, router, host) = (
            scratch.netns("c")?,
            scratch.netns("r")?,
            scratch.netns("h")?,
        );
        router.set(&forwarding)?;
        let mut nodes = BTreeMap::new();
        let mut cables = vec![
            "link add br0 type bridge mcast_snooping 0".to_owned(),
            "link set br0 up".to_owned(),
        ];
        let mut cable = |name: &str, far: &Netns| {
            cables.push(format!(
                "link add {name} type veth peer name eth0 netns {}",
                far.name()
            ));
            cables.push(format!("link set {name} master br0 up"));
        };
        cable("c", &controller_netns);
        cable("r", &router);
        for (node, suffix) in node_suffixes(&record.topology) {
            let netns = scratch.netns(&suffix)?;
            netns.set(&forwarding)?;
            cable(&suffix, &netns);
            nodes.insert(node, Arc::new(netns));
        }
        ip::batch(switch.name(), &cables)?;
        let beyond = format!(
            "link add eth1 type veth peer name eth0 netns {}",
            host.name()
        );
        ip::batch(router.name(), &[beyond])?;
        ip::batch(router.name(), &record.topology.router_commands())?;
        ip::batch(host.name(), &record.topology.host_commands())?;
        ip::batch(
            controller_netns.name(),
            &record.topology.controller_commands(),
        )?;
        for node in &record.topology.nodes {
            let netns = nodes
                .get(&node.name)
                .context("every node has a namespace")?;
            ip::batch(netns.name(), &record.topology.node_commands(node))?;
        }
        Ok(Self {
            prober: None,
            listeners: BTreeMap::new(),
            felixes: BTreeMap::new(),
            controller: None,
            bird: None,
            nodes,
            router: Arc::new(router),
            host: Arc::new(host),
            controller_netns,
            objects,
            record,
            marks: 0,
            table: Table::default(),
            server: None,
            scratch,
        })
    }

    /// The lab's folder.
    pub fn folder(&self) -> PathBuf {
        self.scratch.folder()
    }

    /// The full name of a namespace that is removed with the lab.
    pub fn netns_name(&self, suffix: &str) -> String {
        self.scratch.netns_name(suffix)
    }

    /// The folder that the controller watches.
    pub fn world_folder(&self) -> PathBuf {
        self.folder().join("world")
    }

    /// A node's folder: sockets, log, token and felix' state.
    pub fn node_folder(&self, node: &str) -> PathBuf {
        self.folder().join("nodes").join(node)
    }

    /// The controller's unix socket.
    pub fn controller_socket(&self) -> PathBuf {
        self.folder().join("controller.sock")
    }

    /// felix' unix socket.
    pub fn felix_socket(&self, node: &str) -> PathBuf {
        self.node_folder(node).join("felix.sock")
    }

    /// Names of the nodes.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// The namespace of a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node(&self, name: &str) -> Result<Arc<Netns>> {
        self.record.topology.node(name)?;
        self.nodes
            .get(name)
            .cloned()
            .with_context(|| format!("no node `{name}`"))
    }

    /// The router's namespace.
    pub fn router(&self) -> Arc<Netns> {
        Arc::clone(&self.router)
    }

    /// The controller's namespace.
    pub fn controller_netns(&self) -> &Netns {
        &self.controller_netns
    }

    /// The namespace of the host beyond the router.
    pub fn host(&self) -> Arc<Netns> {
        Arc::clone(&self.host)
    }

    /// Addresses on the fabric.
    pub fn topology(&self) -> &Topology {
        &self.record.topology
    }

    /// The cluster as it stands: the objects, with the addresses that pods were given.
    pub fn cluster(&self) -> Cluster {
        let mut cluster = self.objects.cluster();
        for (id, record) in &self.record.pods {
            if let Some(pod) = cluster
                .pods
                .get_mut(id)
                .filter(|pod| pod.addresses.is_empty())
            {
                pod.addresses.clone_from(&record.addresses);
            }
        }
        cluster
    }

    /// An object as it was written.
    pub fn object(&self, key: &Key) -> Option<&Value> {
        self.objects.documents.get(key)
    }

    /// Adds or replaces an object.
    ///
    /// # Errors
    /// If it is none, or cannot be written.
    pub fn apply(&mut self, document: Value) -> Result<Key> {
        let key = self.objects.add(document.clone())?;
        objects::write(&self.world_folder(), &key, &document)?;
        Ok(key)
    }

    /// Removes an object.
    ///
    /// # Errors
    /// If its file cannot be removed.
    pub fn delete(&mut self, key: &Key) -> Result<()> {
        self.objects.documents.remove(key);
        objects::delete(&self.world_folder(), key)
    }

    /// The last lines of a log in the lab's folder, for messages.
    pub fn log_tail(&self, file: &str) -> String {
        let text = fs::read_to_string(self.folder().join(file)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "{file}: {}",
            lines[lines.len().saturating_sub(5)..].join("\n")
        )
    }

    /// The JSON at a page of the controller.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask_controller<T: serde::de::DeserializeOwned>(&self, page: &str) -> Result<T> {
        http::get(&self.controller_socket(), page)
    }

    /// The JSON at a page of felix.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask_felix<T: serde::de::DeserializeOwned>(&self, node: &str, page: &str) -> Result<T> {
        http::get(&self.felix_socket(node), page)
    }
}

/// Nodes with the suffixes of their namespaces.
fn node_suffixes(topology: &Topology) -> impl Iterator<Item = (String, String)> {
    topology
        .nodes
        .iter()
        .zip(1..)
        .map(|(node, number)| (node.name.clone(), format!("n{number}")))
}

#[cfg(test)]
mod tests;
