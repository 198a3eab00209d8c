//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Margay's controller: turns a cluster's objects, from a folder or a Kubernetes API server, into what each node has
/// to do.
#[derive(Clone, Debug, Parser)]
#[command(name = "margay-controller", version)]
pub struct Args {
    /// Folder of YAML or JSON files with the cluster's objects; followed while running.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes"
    )]
    pub folder: Option<PathBuf>,
    /// Take the objects from a Kubernetes API server, as a pod finds it.
    #[arg(long)]
    pub kubernetes: bool,
    /// How to reach the API server from outside of a pod.
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the lease and of the certificate authority.
    #[arg(long, value_name = "NAME", default_value = "margay-system")]
    pub namespace: String,
    /// Name of this replica among all [default: the host's name].
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// Service account of the agents, in the same namespace: tokens of others are refused.
    #[arg(long, value_name = "NAME", default_value = "margay-felix")]
    pub agents: String,
    /// Folder for what has to survive: accepted objects, block claims, the certificate authority; with --kubernetes
    /// only what agents reported.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where agents connect (HTTPS).
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// File with lines `NODE TOKEN`: who may speak for which node.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes"
    )]
    pub tokens: Option<PathBuf>,
    /// Unix socket for margayctl; only root may use it.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Folder of the certificate authority, made on first start; agents need its ca.pem [default: STATE/tls].
    #[arg(long, value_name = "DIR", conflicts_with = "kubernetes")]
    pub tls: Option<PathBuf>,
    /// Where to serve /livez, /readyz and /metrics (HTTP) [default: nowhere].
    #[arg(long, value_name = "ADDR:PORT")]
    pub health: Option<SocketAddr>,
}
