//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// Margay's controller: turns a folder of Kubernetes objects into what each node has to do.
#[derive(Clone, Debug, Parser)]
#[command(name = "margay-controller", version)]
pub struct Args {
    /// Folder of YAML or JSON files with the cluster's objects; followed while running.
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Folder for what has to survive: accepted objects, block claims, the certificate authority.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where agents connect (HTTPS).
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// File with lines `NODE TOKEN`: who may speak for which node.
    #[arg(long, value_name = "FILE")]
    pub tokens: PathBuf,
    /// Unix socket for margayctl; only root may use it.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Folder of the certificate authority, made on first start; agents need its ca.pem [default: STATE/tls].
    #[arg(long, value_name = "DIR")]
    pub tls: Option<PathBuf>,
}
