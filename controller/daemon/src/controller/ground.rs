//! What both sources stand on: the state folder, the index, and the tasks that they bring along.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, thread};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::durable::Keeper;
use crate::identity::Identity;
use crate::index_task::{self, Input, Reports};
use crate::network::Inputs;
use crate::replicas::Replicas;
use crate::sources::{Pages, folder, kubernetes};
use crate::tls::Credentials;
use crate::{allocate, health, status};

/// The source, while it runs.
#[derive(Debug)]
pub(super) enum Running {
    Folder(folder::Handle),
    Kubernetes(kubernetes::Handle),
}

/// What the source brings along.
pub(super) struct Parts {
    pub(super) source: Running,
    pub(super) pages: status::Sources,
    pub(super) identity: Identity,
    pub(super) credentials: watch::Receiver<Arc<Credentials>>,
    pub(super) replicas: Option<Replicas>,
    pub(super) claim: mpsc::Sender<allocate::Request>,
    pub(super) threads: Vec<thread::JoinHandle<()>>,
    pub(super) servers: Vec<JoinHandle<()>>,
}

/// What it gets.
pub(super) struct Ground {
    pub(super) state: PathBuf,
    pub(super) keeper: Keeper,
    pub(super) run: String,
    pub(super) stop: CancellationToken,
    pub(super) health: health::Health,
}

/// A running index.
pub(super) struct IndexThread {
    pub(super) index: mpsc::Sender<Input>,
    pub(super) inputs: watch::Receiver<Arc<Inputs>>,
    pub(super) thread: thread::JoinHandle<()>,
}

/// Claims that may wait before who asks does.
const CLAIMS: usize = 64;

/// Waits until the index has taken in what the source gave it: claims are decided by what it publishes, and nobody
/// is served before. What pages are made of, and the way for claims.
pub(super) async fn taken_in(
    index: &mpsc::Sender<Input>,
    objects: Pages,
) -> anyhow::Result<(status::Sources, Claims)> {
    let pages = status::Sources {
        index: index.clone(),
        objects,
    };
    pages
        .ready()
        .await
        .context("the index ended while it took in the objects")?;
    Ok((pages, mpsc::channel(CLAIMS)))
}

/// Both ends of the way for claims.
type Claims = (
    mpsc::Sender<allocate::Request>,
    mpsc::Receiver<allocate::Request>,
);

/// Starts the index thread.
pub(super) fn index(
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

/// A name for this run that no other run has.
pub(super) fn run() -> anyhow::Result<String> {
    use io::Read;
    let mut octets = [0; 8];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut octets))
        .context("cannot read /dev/urandom")?;
    Ok(format!("{:016x}", u64::from_ne_bytes(octets)))
}

/// Takes the state folder for us alone.
pub(super) fn lock(state: &Path) -> anyhow::Result<fs::File> {
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
