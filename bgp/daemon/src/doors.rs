//! Where the daemon answers questions and serves metrics: places that may change while it runs.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use margay_bgpd::{Questions, Status, control, metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Both of them.
pub(crate) struct Doors {
    status: watch::Receiver<Status>,
    questions: Questions,
    control: Option<Door>,
    metrics: Option<Door>,
}

/// A place that is open, and who answers there.
struct Door {
    place: Place,
    task: JoinHandle<()>,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Control(PathBuf),
    Metrics(SocketAddr),
}

impl Doors {
    pub(crate) fn new(status: watch::Receiver<Status>, questions: Questions) -> Self {
        Self {
            status,
            questions,
            control: None,
            metrics: None,
        }
    }

    /// Answers questions at `path`, or nowhere.
    ///
    /// # Errors
    /// The field, the place and why not; who answered before goes on.
    pub(crate) async fn control(&mut self, path: Option<PathBuf>) -> anyhow::Result<()> {
        let before = self.control.take();
        let (door, outcome) = self.moved(before, path.map(Place::Control)).await;
        self.control = door;
        outcome
    }

    /// Serves metrics at `address`, or nowhere.
    ///
    /// # Errors
    /// The field, the place and why not; who served before goes on.
    pub(crate) async fn metrics(&mut self, address: Option<SocketAddr>) -> anyhow::Result<()> {
        let before = self.metrics.take();
        let (door, outcome) = self.moved(before, address.map(Place::Metrics)).await;
        self.metrics = door;
        outcome
    }

    async fn moved(
        &self,
        before: Option<Door>,
        wanted: Option<Place>,
    ) -> (Option<Door>, anyhow::Result<()>) {
        if before.as_ref().map(|door| &door.place) == wanted.as_ref() {
            return (before, Ok(()));
        }
        // First, since the new place may be a part of the old one (`0.0.0.0` and `127.0.0.1`).
        let before = match before {
            Some(door) => Some(door.close().await),
            None => None,
        };
        let Some(wanted) = wanted else {
            return (None, Ok(()));
        };
        let (error, before) = match (self.open(wanted).await, before) {
            (Ok(door), _) => return (Some(door), Ok(())),
            (Err(error), None) => return (None, Err(error)),
            (Err(error), Some(before)) => (error, before),
        };
        let still = format!("still at {before}");
        match self.open(before).await {
            Ok(door) => (Some(door), Err(error.context(still))),
            // Somebody else was quicker.
            Err(again) => (None, Err(error.context(again))),
        }
    }

    async fn open(&self, place: Place) -> anyhow::Result<Door> {
        let status = self.status.clone();
        let task = match &place {
            Place::Control(path) => {
                let listener = control::bind(path);
                let listener = listener.with_context(|| format!("cannot answer at {place}"))?;
                tokio::spawn(control::serve(listener, status, self.questions.clone()))
            }
            Place::Metrics(address) => {
                let listener = TcpListener::bind(address).await;
                let listener = listener.with_context(|| format!("cannot answer at {place}"))?;
                tokio::spawn(metrics::serve(listener, status))
            }
        };
        Ok(Door { place, task })
    }
}

impl Door {
    /// Answers nobody any more; whoever has asked already gets an answer.
    async fn close(self) -> Place {
        self.task.abort();
        // An error here says that it was aborted.
        let _ = self.task.await;
        if let Place::Control(path) = &self.place {
            // Whoever looks for it finds nothing rather than nobody.
            let _ = std::fs::remove_file(path);
        }
        self.place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(path) => write!(formatter, "`control` = {}", path.display()),
            Self::Metrics(address) => write!(formatter, "`metrics` = {address}"),
        }
    }
}
