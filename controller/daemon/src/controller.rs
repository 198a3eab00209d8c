//! The whole controller: starts the tasks, in order, and stops them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::cluster::leader;
use crate::cluster::review::Reviewer;
use crate::cluster::writer::Writer;
use crate::durable::{Keeper, private_folder};
use crate::identity::Identity;
use crate::index_task::{self, Input, Reports};
use crate::network::Inputs;
use crate::replicas::{Place, Replicas};
use crate::sources::{Pages, folder, kubernetes};
use crate::tls::Credentials;
use crate::{allocate, cluster, health, serve, status, tls, tokens};

/// The namespace that is ours where no cluster says another one.
const OWN_NAMESPACE: &str = "margay-system";

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

/// The source, while it runs.
#[derive(Debug)]
enum Running {
    Folder(folder::Handle),
    Kubernetes(kubernetes::Handle),
}

/// What the source brings along.
struct Parts {
    source: Running,
    pages: status::Sources,
    identity: Identity,
    credentials: watch::Receiver<Arc<Credentials>>,
    replicas: Option<Replicas>,
    claim: mpsc::Sender<allocate::Request>,
    threads: Vec<thread::JoinHandle<()>>,
    servers: Vec<JoinHandle<()>>,
}

/// What it gets.
struct Ground {
    state: PathBuf,
    keeper: Keeper,
    run: String,
    stop: CancellationToken,
    health: health::Health,
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
        let lock = lock(&state)?;
        let health = health::Health::default();
        let health_server = health_address
            .map(|address| health::start(address, health.clone()))
            .transpose()?;
        let listener = listener(listen).await?;
        let address = listener
            .local_addr()
            .context("the listening socket has no address")?;
        let status_listener = status::bind(&socket)?;
        let ground = Ground {
            state,
            keeper: Keeper::start()?,
            run: run()?,
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
            } => from_folder(&ground, folder, &tokens, &tls).await?,
            Source::Kubernetes(cluster) => from_cluster(&ground, cluster, address.port()).await?,
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
                let ended = tokio::task::spawn_blocking(move || drop(source));
                if let Err(error) = ended.await {
                    error!(%error, "stopping was broken off");
                }
            }
            Running::Kubernetes(source) => source.stop().await,
        }
        let ended = tokio::task::spawn_blocking(move || {
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

/// A running index.
struct IndexThread {
    index: mpsc::Sender<Input>,
    inputs: watch::Receiver<Arc<Inputs>>,
    thread: thread::JoinHandle<()>,
}

/// Starts the index thread.
fn index(
    ground: &Ground,
    source: String,
    namespace: String,
    claims: allocate::Claims,
) -> anyhow::Result<IndexThread> {
    let (inputs, inputs_seen) = watch::channel(Arc::new(Inputs::default()));
    let (index, inbox) = mpsc::channel(index_task::QUEUE);
    let start = index_task::Start {
        run: ground.run.clone(),
        folder: source,
        namespace,
        claims,
        reports: Reports::load(&ground.state, ground.keeper.clone())?,
        inputs,
    };
    let thread = index_task::start(start, inbox)?;
    ground.health.watch(index.clone());
    Ok(IndexThread {
        index,
        inputs: inputs_seen,
        thread,
    })
}

/// Everything from files.
async fn from_folder(
    ground: &Ground,
    folder: PathBuf,
    tokens: &Path,
    tls: &Path,
) -> anyhow::Result<Parts> {
    let tokens = tokens::Tokens::open(tokens)?;
    let (_, credentials) = watch::channel(Arc::new(Credentials::alone(tls::config(tls)?)));
    let claims = allocate::load(&ground.state)?;
    let IndexThread {
        index,
        inputs,
        thread: index_thread,
    } = index(
        ground,
        folder.display().to_string(),
        OWN_NAMESPACE.to_owned(),
        claims.clone(),
    )?;
    // The source hands on the whole folder before this returns: nobody is served half of it.
    let updates = index.clone();
    let state = ground.state.clone();
    let source = tokio::task::spawn_blocking(move || {
        folder::start(&folder, &state, move |events| {
            updates.blocking_send(Input::Objects(events)).is_ok()
        })
    })
    .await
    .context("reading the folder was broken off")??;
    let pages = status::Sources {
        index: index.clone(),
        objects: Pages::Folder(source.pages()),
    };
    // Claims are decided by what the index publishes: it must have taken the objects in.
    pages
        .ready()
        .await
        .context("the index ended while it took in the objects")?;
    let (claim, requests) = mpsc::channel(64);
    let allocate_thread =
        allocate::start(&ground.state, claims, inputs, requests, move |claims| {
            // An error means that we are stopping.
            let _ = index.blocking_send(Input::Claims(claims));
        })?;
    Ok(Parts {
        source: Running::Folder(source),
        pages,
        identity: Identity::File(tokens),
        credentials,
        replicas: None,
        claim,
        threads: vec![index_thread, allocate_thread],
        servers: Vec::new(),
    })
}

/// Everything from an API server.
async fn from_cluster(ground: &Ground, cluster: Cluster, port: u16) -> anyhow::Result<Parts> {
    let Cluster {
        kubeconfig,
        namespace,
        identity,
        agents,
    } = cluster;
    let client = cluster::client(kubeconfig.as_deref()).await?;
    let credentials = cluster::authority::open(&client, &namespace).await?;
    let IndexThread {
        index,
        inputs,
        thread: index_thread,
    } = index(
        ground,
        "the Kubernetes API".to_owned(),
        namespace.clone(),
        allocate::Claims::new(),
    )?;
    let (synced, all_listed) = oneshot::channel();
    let source = kubernetes::start(&client, &namespace, index.clone(), synced);
    all_listed.await.context("the watches ended")?;
    let pages = status::Sources {
        index: index.clone(),
        objects: Pages::Kubernetes(source.pages()),
    };
    pages
        .ready()
        .await
        .context("the index ended while it took in the objects")?;
    let (claim, requests) = mpsc::channel(64);
    let claims = {
        let (client, identity, index) = (client.clone(), identity.clone(), index.clone());
        async move { cluster::claims::run(client, &identity, inputs, requests, index).await }
    };
    let replicas = Replicas::new(credentials.clone());
    let place = Place {
        namespace: namespace.clone(),
        identity: identity.clone(),
        port,
        index: index.clone(),
    };
    let writer = Writer {
        client: client.clone(),
        identity: identity.clone(),
        index,
        pages: source.pages(),
        stop: ground.stop.clone(),
    };
    let reviewer = Reviewer::new(client.clone(), &namespace, &agents);
    let stop = ground.stop.clone();
    let lead = async move {
        tokio::select! {
            (leads, held) = leader::compete(&client, &namespace, &identity) => {
                writer.run(leads).await;
                held.released().await;
            }
            () = stop.cancelled() => {}
        }
    };
    Ok(Parts {
        source: Running::Kubernetes(source),
        pages,
        identity: Identity::Review(Box::new(reviewer)),
        credentials,
        replicas: Some(replicas.clone()),
        claim,
        threads: vec![index_thread],
        servers: vec![
            tokio::spawn(claims),
            tokio::spawn(until(ground.stop.clone(), replicas.run(place))),
            tokio::spawn(lead),
        ],
    })
}

/// Does something until told to stop.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
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

/// Listens; for every address of a kernel without IPv6, where `[::]` cannot be, on those of IPv4.
async fn listener(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = match TcpListener::bind(listen).await {
        Err(error)
            if listen.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        bound => bound,
    };
    bound.with_context(|| format!("cannot listen on {listen}"))
}

/// Takes the state folder for us alone.
fn lock(state: &Path) -> anyhow::Result<fs::File> {
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
