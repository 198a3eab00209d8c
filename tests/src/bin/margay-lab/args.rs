//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use margay_policy::model::PodId;

/// A cluster of network namespaces on this machine. Needs root; touches nothing outside its namespaces.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Which lab; `lab` unless said, and a fresh name for `demo` and `probe`.
    #[arg(long, global = true)]
    pub(crate) name: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Raise a lab that stays up: nodes, a router with BIRD, a host beyond it, the world's pods.
    Up {
        /// Folder of Kubernetes YAML; without it a small shop on three nodes.
        #[arg(long)]
        world: Option<PathBuf>,
        /// An address of the host beyond the router (may be repeated).
        #[arg(long)]
        external: Vec<IpAddr>,
    },
    /// Remove the lab and everything that belongs to it.
    Down,
    /// Show nodes, BGP sessions and pods.
    Status,
    /// Run a command inside a node, a pod, `router` or `host`.
    Exec {
        /// A node's name, `namespace/pod`, `router` or `host`.
        target: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Create or change objects; pods among them are started.
    Apply {
        /// A file or folder of YAML.
        #[arg(short, long = "file")]
        file: PathBuf,
    },
    /// Delete objects; pods among them are ended.
    Delete {
        /// A file or folder of YAML.
        #[arg(short, long = "file")]
        file: PathBuf,
    },
    /// Start or end one pod.
    Pod {
        #[command(subcommand)]
        command: PodCommand,
    },
    /// Try every probe with real packets in a lab of its own, and print each with its verdict.
    Probe {
        /// Folder of Kubernetes YAML.
        #[arg(long)]
        world: PathBuf,
        /// File of JSON lines.
        #[arg(long)]
        probes: PathBuf,
    },
    /// Show everything in one minute: a lab of its own, probes, a policy change, a crash.
    Demo,
    /// Listen on the ports of a standing lab's pods (started by `up`).
    #[command(hide = true)]
    Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PodCommand {
    /// Make a pod object and start it.
    Add {
        /// `namespace/name`.
        #[arg(value_parser = pod_id)]
        pod: PodId,
        /// The node to run on.
        #[arg(long)]
        node: String,
        /// A label, `key=value` (may be repeated).
        #[arg(long, value_parser = label)]
        label: Vec<(String, String)>,
        /// A port to listen on, `80`, `53/UDP` or `http:80/TCP` (may be repeated).
        #[arg(long)]
        port: Vec<String>,
        /// An address to have, instead of one from a block (may be repeated).
        #[arg(long)]
        address: Vec<IpAddr>,
        /// Use the node's own network.
        #[arg(long)]
        host_network: bool,
    },
    /// End a pod and delete its object.
    Rm {
        /// `namespace/name`.
        #[arg(value_parser = pod_id)]
        pod: PodId,
    },
}

fn pod_id(text: &str) -> Result<PodId, String> {
    PodId::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or(format!("`{text}` is no label: write key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}
