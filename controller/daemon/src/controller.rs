//! The whole controller: starts the tasks, in order, and stops them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::durable::{Keeper, private_folder};
use crate::index_task::{self, Input, Reports};
use crate::network::Inputs;
use crate::sources::folder;
use crate::{allocate, serve, status, tls, tokens};

/// What the controller is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of objects.
    pub folder: PathBuf,
    /// Folder for what has to survive.
    pub state: PathBuf,
    /// Where agents connect; port 0 takes any.
    pub listen: SocketAddr,
    /// File of tokens.
    pub tokens: PathBuf,
    /// Unix socket for people.
    pub socket: PathBuf,
    /// Folder of the certificate authority.
    pub tls: PathBuf,
    /// How often streams give a sign of life.
    pub heartbeat: Duration,
}

impl From<crate::args::Args> for Settings {
    fn from(args: crate::args::Args) -> Self {
        let crate::args::Args {
            folder,
            state,
            listen,
            tokens,
            socket,
            tls,
        } = args;
        let tls = tls.unwrap_or_else(|| state.join("tls"));
        Self {
            folder,
            state,
            listen,
            tokens,
            socket,
            tls,
            heartbeat: Duration::from_secs(10),
        }
    }
}

/// A running controller. Dropping it without [`Controller::stop`] leaves its servers to the runtime.
#[derive(Debug)]
pub struct Controller {
    address: SocketAddr,
    stop: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    source: folder::Handle,
    threads: Vec<thread::JoinHandle<()>>,
    keeper: Keeper,
    socket: PathBuf,
    /// Held while we run: two controllers must not hand out blocks from one state folder.
    _lock: fs::File,
}

impl Controller {
    /// Reads the folder, then serves.
    ///
    /// # Errors
    /// If a folder, a file or a port cannot be used; the message says which and why.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let Settings {
            folder,
            state,
            listen,
            tokens,
            socket,
            tls,
            heartbeat,
        } = settings;
        private_folder(&state)?;
        let lock = lock(&state)?;
        let tokens = tokens::Tokens::open(&tokens)?;
        let tls = tls::config(&tls)?;
        let claims = allocate::load(&state)?;
        let keeper = Keeper::start()?;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener
            .local_addr()
            .context("the listening socket has no address")?;
        let status_listener = status::bind(&socket)?;

        let (inputs, inputs_seen) = watch::channel(Arc::new(Inputs::default()));
        let (index, index_inbox) = mpsc::channel(index_task::QUEUE);
        let start = index_task::Start {
            run: run()?,
            folder: folder.display().to_string(),
            claims: claims.clone(),
            reports: Reports::load(&state, keeper.clone())?,
            inputs,
        };
        let index_thread = index_task::start(start, index_inbox)?;
        // The source hands on the whole folder before this returns: nobody is served half of it.
        let updates = index.clone();
        let folder_for_source = folder.clone();
        let state_for_source = state.clone();
        let source = tokio::task::spawn_blocking(move || {
            folder::start(&folder_for_source, &state_for_source, move |events| {
                updates.blocking_send(Input::Objects(events)).is_ok()
            })
        })
        .await
        .context("reading the folder was broken off")??;
        let pages = status::Sources {
            index: index.clone(),
            objects: source.pages(),
        };
        // Claims are decided by what the index publishes: it must have taken the objects in.
        pages
            .ready()
            .await
            .context("the index ended while it took in the objects")?;
        let (claim, requests) = mpsc::channel(64);
        let claimed = index.clone();
        let allocate_thread =
            allocate::start(&state, claims, inputs_seen, requests, move |claims| {
                // An error means that we are stopping.
                let _ = claimed.blocking_send(Input::Claims(claims));
            })?;
        let stop = CancellationToken::new();
        let shared = serve::Shared {
            tokens,
            index: index.clone(),
            claim,
            stop: stop.clone(),
            heartbeat,
        };
        let servers = vec![
            tokio::spawn(serve::run(listener, tls, Arc::new(shared))),
            tokio::spawn(status::run(status_listener, pages, stop.clone())),
        ];
        info!(%address, folder = %folder.display(), "serving");
        let threads = vec![index_thread, allocate_thread];
        Ok(Self {
            address,
            stop,
            servers,
            source,
            threads,
            keeper,
            socket,
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
            _lock,
        } = self;
        stop.cancel();
        for server in servers {
            if let Err(error) = server.await {
                error!(%error, "a server ended badly");
            }
        }
        let ended = tokio::task::spawn_blocking(move || {
            drop(source);
            for thread in threads {
                if thread.join().is_err() {
                    error!("a thread had panicked");
                }
            }
            keeper.flush();
        });
        if let Err(error) = ended.await {
            error!(%error, "stopping was broken off");
        }
        if let Err(error) = fs::remove_file(&socket) {
            error!(socket = %socket.display(), %error, "cannot remove the socket");
        }
        info!("stopped");
    }
}

/// A name for this run that no other run has.
fn run() -> anyhow::Result<String> {
    use io::Read;
    let mut octets = [0; 8];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut octets))
        .context("cannot read /dev/urandom")?;
    Ok(format!("{:016x}", u64::from_ne_bytes(octets)))
}

/// Takes the state folder for us alone.
fn lock(state: &std::path::Path) -> anyhow::Result<fs::File> {
    let path = state.join("lock");
    let file =
        fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            anyhow::bail!(
                "another controller uses the state folder {}: stop it first",
                state.display()
            )
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
