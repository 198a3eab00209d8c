//! The whole controller: starts the tasks, in order, and stops them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, thread};

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::durable::{Keeper, private_folder};
use crate::{health, serve, status};

mod from_cluster;
mod from_folder;
mod ground;
mod listen;
mod settings;

use ground::{Ground, Parts, Running};
pub use settings::{Cluster, Settings, Source};

/// A running controller. Dropping it without [`Controller::stop`] leaves its servers to the runtime.
#[derive(Debug)]
pub struct Controller {
    address: SocketAddr,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    source: Running,
    threads: Vec<thread::JoinHandle<()>>,
    keeper: Keeper,
    socket: PathBuf,
    health: Option<health::Handle>,
    /// Held while we run: two controllers must not hand out blocks from one state folder.
    _lock: fs::File,
}

impl Controller {
    /// Takes in all objects, then serves.
    ///
    /// With an API server that does not answer yet this waits for it.
    ///
    /// # Errors
    /// If a folder, a file or a port cannot be used; the message says which and why.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let Settings {
            source,
            state,
            listen,
            socket,
            health: health_address,
            heartbeat,
        } = settings;
        private_folder(&state)?;
        let lock = ground::lock(&state)?;
        let health = health::Health::default();
        let health_server = health_address
            .map(|address| health::start(address, health.clone()))
            .transpose()?;
        let listener = listen::listener(listen).await?;
        let address = listener
            .local_addr()
            .context("the listening socket has no address")?;
        let status_listener = status::bind(&socket)?;
        let ground = Ground {
            state,
            keeper: Keeper::start()?,
            run: ground::run()?,
            stop: CancellationToken::new(),
            health: health.clone(),
        };
        let Parts {
            source,
            pages,
            identity,
            credentials,
            replicas,
            claim,
            threads,
            mut servers,
        } = match source {
            Source::Folder {
                folder,
                tokens,
                tls,
            } => from_folder::parts(&ground, folder, &tokens, &tls).await?,
            Source::Kubernetes(cluster) => {
                from_cluster::parts(&ground, cluster, address.port()).await?
            }
        };
        let Ground {
            keeper,
            stop,
            state: _,
            run: _,
            health: _,
        } = ground;
        let shared = serve::Shared {
            identity,
            index: pages.index.clone(),
            claim,
            replicas,
            stop: stop.clone(),
            heartbeat,
        };
        servers.push(tokio::spawn(serve::run(
            listener,
            credentials,
            Arc::new(shared),
        )));
        servers.push(tokio::spawn(status::run(
            status_listener,
            pages,
            stop.clone(),
        )));
        health.set_ready();
        info!(%address, "serving");
        Ok(Self {
            address,
            stop,
            servers,
            source,
            threads,
            keeper,
            socket,
            health: health_server,
            _lock: lock,
        })
    }

    /// Where agents connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all streams, and returns when everything that was accepted is on disk.
    pub async fn stop(self) {
        let Self {
            address: _,
            stop,
            servers,
            source,
            threads,
            keeper,
            socket,
            health,
            _lock,
        } = self;
        stop.cancel();
        // Its thread holds a way into the index, which ends with the last of them.
        drop(health);
        for server in servers {
            if let Err(error) = server.await {
                error!(%error, "a server ended badly");
            }
        }
        match source {
            Running::Folder(source) => {
                in_background(move || drop(source)).await;
            }
            Running::Kubernetes(source) => source.stop().await,
        }
        in_background(move || {
            for thread in threads {
                if thread.join().is_err() {
                    error!("a thread had panicked");
                }
            }
            keeper.flush();
        })
        .await;
        if let Err(error) = fs::remove_file(&socket) {
            error!(socket = %socket.display(), %error, "cannot remove the socket");
        }
        info!("stopped");
    }
}

/// Does what blocks.
async fn in_background(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        error!(%error, "stopping was broken off");
    }
}
