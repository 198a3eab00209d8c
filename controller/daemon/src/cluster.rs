//! What the controller does at the API server besides watching it: it checks agents' tokens, keeps its
//! certificate authority there, and claims blocks.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::time::timeout;

pub(crate) mod authority;
pub(crate) mod claims;
pub(crate) mod events;
pub(crate) mod leader;
pub(crate) mod review;
pub(crate) mod writer;

/// Whose name stands beside the fields that we write.
pub(crate) const FIELD_MANAGER: &str = "margay-controller";
/// How long to wait for an answer to a request that is no watch.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A client of the API server, by a kubeconfig file or as a pod finds it.
///
/// # Errors
/// If neither says where the API server is.
pub(crate) async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?
        }
        None => Config::infer()
            .await
            .context("cannot find the API server: run as a pod, or give --kubeconfig FILE")?,
    };
    // Else an API server that comes back is found up to half a minute late.
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).context("cannot make a client of the API server")
}

/// An answer of the API server, in time.
pub(crate) async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    timeout(ANSWER, request).await.unwrap_or_else(|_| {
        let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        Err(kube::Error::Service(late.into()))
    })
}
