//! What the controller is told.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What the controller is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where objects come from.
    pub source: Source,
    /// Folder for what has to survive.
    pub state: PathBuf,
    /// Where agents connect; port 0 takes any.
    pub listen: SocketAddr,
    /// Unix socket for people.
    pub socket: PathBuf,
    /// Where to serve health and metrics.
    pub health: Option<SocketAddr>,
    /// How often streams give a sign of life.
    pub heartbeat: Duration,
}

/// Where objects come from, and what goes with it.
#[derive(Clone, Debug)]
pub enum Source {
    /// Files.
    Folder {
        /// Folder of objects.
        folder: PathBuf,
        /// File of tokens.
        tokens: PathBuf,
        /// Folder of the certificate authority.
        tls: PathBuf,
    },
    /// A Kubernetes API server.
    Kubernetes(Cluster),
}

/// A Kubernetes cluster and our place in it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How to reach it; `None`: as a pod finds it.
    pub kubeconfig: Option<PathBuf>,
    /// Our namespace.
    pub namespace: String,
    /// This replica's name.
    pub identity: String,
    /// The agents' service account.
    pub agents: String,
}

impl From<crate::args::Args> for Settings {
    fn from(args: crate::args::Args) -> Self {
        let crate::args::Args {
            folder,
            kubernetes: _,
            kubeconfig,
            namespace,
            identity,
            agents,
            state,
            listen,
            tokens,
            socket,
            tls,
            health,
        } = args;
        let source = match (folder, tokens) {
            (Some(folder), Some(tokens)) => Source::Folder {
                folder,
                tokens,
                tls: tls.unwrap_or_else(|| state.join("tls")),
            },
            // Without --kubernetes clap wants both.
            (Some(_) | None, Some(_) | None) => Source::Kubernetes(Cluster {
                kubeconfig,
                namespace,
                identity: identity.unwrap_or_else(host_name),
                agents,
            }),
        };
        Self {
            source,
            state,
            listen,
            socket,
            health,
            heartbeat: Duration::from_secs(10),
        }
    }
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
