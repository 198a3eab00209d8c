//! A folder of YAML files as the source: any mix of documents in `*.yaml`, `*.yml` and `*.json`, also in
//! folders inside, followed by inotify.
//!
//! A file is read when its writer closes it or it is renamed into place, never while it is being
//! written. What was accepted is kept in the state folder. An object that vanishes is given a few
//! milliseconds to turn up in another file before it counts as deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::Context;
use margay_api::load::Key;
use margay_sync::status::{ObjectsPage, RefusedDocument};
use notify::RecommendedWatcher;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::ObjectEvent;
use super::ledger::{Ledger, Reading};
use crate::clock;
use crate::durable::Keeper;

mod accepted;
mod notices;

/// How long a vanished object may take to turn up elsewhere.
const MOVE: Duration = Duration::from_millis(5);
/// How long a new file may stay silent, neither written nor closed, before it is read as it is.
const WRITE: Duration = Duration::from_secs(1);
/// How often to look for a folder that is gone.
const GONE: Duration = Duration::from_millis(200);

/// Reads the folder, hands on what it holds as the first update, and follows it from a thread of its
/// own until `updates` refuses one.
///
/// # Errors
/// If the folder or what was kept of it cannot be read or watched.
pub fn start(
    folder: &Path,
    state: &Path,
    updates: impl FnMut(Vec<ObjectEvent>) -> bool + Send + 'static,
) -> anyhow::Result<Handle> {
    // Absolute, so that paths in events compare.
    let folder = folder
        .canonicalize()
        .with_context(|| format!("the folder {} cannot be read", folder.display()))?;
    let keeper = Keeper::start()?;
    let (wake, inbox) = mpsc::channel();
    let notices = wake.clone();
    let watcher = notify::recommended_watcher(move |event| {
        // An error means that the source has stopped.
        let _ = notices.send(Wake::Notice(event));
    })
    .context("inotify does not work")?;
    let mut source = Source {
        store: accepted::Store::open(&state.join("accepted"), keeper.clone())?,
        folder,
        watcher,
        ledger: Ledger::default(),
        lost: None,
        unreadable: BTreeSet::new(),
        dirty: BTreeSet::new(),
        writing: BTreeMap::new(),
        vanished: BTreeMap::new(),
        updates: Box::new(updates),
    };
    source.watch()?;
    source.begin()?;
    let thread = thread::Builder::new()
        .name("folder".to_owned())
        .spawn(move || source.run(&inbox))
        .context("cannot start the thread that follows the folder")?;
    Ok(Handle {
        wake,
        thread: Some(thread),
        keeper,
    })
}

/// The running source.
#[derive(Debug)]
pub struct Handle {
    wake: mpsc::Sender<Wake>,
    thread: Option<thread::JoinHandle<()>>,
    keeper: Keeper,
}

impl Drop for Handle {
    /// Stops, with everything accepted on disk.
    fn drop(&mut self) {
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread that follows the folder had panicked");
        }
        self.keeper.flush();
    }
}

impl Handle {
    /// A way to ask what there is.
    pub fn pages(&self) -> Pages {
        Pages {
            wake: self.wake.clone(),
        }
    }
}

/// Asks the source what there is.
#[derive(Clone, Debug)]
pub struct Pages {
    wake: mpsc::Sender<Wake>,
}

impl Pages {
    /// What the source holds, for people; `None` if it has stopped.
    pub async fn get(&self) -> Option<ObjectsPage> {
        let (answer, page) = oneshot::channel();
        self.wake.send(Wake::Page(answer)).ok()?;
        page.await.ok()
    }
}

#[derive(Debug)]
enum Wake {
    Notice(notify::Result<notify::Event>),
    Page(oneshot::Sender<ObjectsPage>),
    Stop,
}

struct Source {
    folder: PathBuf,
    watcher: RecommendedWatcher,
    ledger: Ledger,
    store: accepted::Store,
    /// Why the folder itself cannot be read, while it cannot.
    lost: Option<String>,
    /// Files that are there and cannot be read.
    unreadable: BTreeSet<PathBuf>,
    /// Files to read now.
    dirty: BTreeSet<PathBuf>,
    /// Files that were made and not closed yet, and when.
    writing: BTreeMap<PathBuf, Instant>,
    /// Objects to delete, and when, if they do not turn up.
    vanished: BTreeMap<Key, Instant>,
    updates: Box<dyn FnMut(Vec<ObjectEvent>) -> bool + Send>,
}

impl Source {
    fn run(mut self, inbox: &mpsc::Receiver<Wake>) {
        loop {
            let first = match self.wait(inbox) {
                Ok(wake) => Some(wake),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let mut pages = Vec::new();
            for wake in first.into_iter().chain(inbox.try_iter()) {
                match wake {
                    Wake::Notice(Ok(event)) => self.note(&event),
                    Wake::Notice(Err(error)) => {
                        warn!(%error, "inotify reports an error; the whole folder is read again");
                        self.scan(&self.folder.clone());
                    }
                    Wake::Page(answer) => pages.push(answer),
                    Wake::Stop => return,
                }
            }
            if !self.work() {
                return;
            }
            for answer in pages {
                // Who asked may have gone.
                let _ = answer.send(self.page());
            }
        }
    }

    /// Waits for the next notice, or until something is due.
    fn wait(&self, inbox: &mpsc::Receiver<Wake>) -> Result<Wake, mpsc::RecvTimeoutError> {
        let now = clock::now();
        let vanished = self.vanished.values().copied();
        let written = self.writing.values().map(|since| *since + WRITE);
        let lost = self.lost.iter().map(|_| now + GONE);
        let due = vanished.chain(written).chain(lost).min();
        match due {
            Some(due) => inbox.recv_timeout(due.saturating_duration_since(now)),
            None => inbox
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        }
    }

    /// Reads the folder for the first time.
    fn begin(&mut self) -> anyhow::Result<()> {
        let mut events = Vec::new();
        for (file, documents) in self.store.load()? {
            events.extend(self.ledger.restore(&file, documents));
            self.dirty.insert(self.folder.join(file));
        }
        self.scan(&self.folder.clone());
        let readings = self.readings();
        events.extend(self.read(readings));
        let files = self.ledger.files_in("").count();
        info!(folder = %self.folder.display(), files, "the folder is read");
        // What an earlier run accepted and is gone must not come up even for a moment.
        (self.updates)(events);
        Ok(())
    }

    /// Reads what is due and hands it on; `false` if nobody takes it any more.
    fn work(&mut self) -> bool {
        if !self.is_there() {
            return true;
        }
        let now = clock::now();
        self.writing.retain(|path, since| {
            let quiet = now >= *since + WRITE;
            if quiet {
                // A file can also be made without ever being closed under its name.
                self.dirty.insert(path.clone());
            }
            !quiet
        });
        let readings = self.readings();
        let mut events = Vec::new();
        for event in self.read(readings) {
            match event {
                ObjectEvent::Delete(key) => drop(self.vanished.insert(key, now + MOVE)),
                ObjectEvent::Apply(object) => {
                    self.vanished.remove(&object.key());
                    events.push(ObjectEvent::Apply(object));
                }
            }
        }
        for (key, at) in &mut self.vanished {
            if *at <= now && !self.writing.is_empty() {
                *at = now + MOVE;
            } else if *at <= now {
                events.push(ObjectEvent::Delete(key.clone()));
            }
        }
        self.vanished.retain(|_, at| *at > now);
        events.is_empty() || (self.updates)(events)
    }

    /// Whether the folder itself is there. While it is not, everything stays as it was: a folder that is
    /// not mounted is no order to delete all objects.
    fn is_there(&mut self) -> bool {
        if !self.folder.is_dir() {
            self.lose();
            return false;
        }
        if self.lost.take().is_some() {
            if let Err(error) = self.watch() {
                self.lost = Some(format!("{error:#}"));
                return false;
            }
            info!(folder = %self.folder.display(), "the folder is back");
            self.scan(&self.folder.clone());
        }
        true
    }

    /// Notes that the folder is gone, or another one than the one that is watched.
    fn lose(&mut self) {
        if self.lost.is_none() {
            let reason = "the folder is gone; its objects stay in force until it is back";
            warn!(folder = %self.folder.display(), reason);
            self.lost = Some(reason.to_owned());
        }
    }

    /// What the marked files hold now, by name.
    fn readings(&mut self) -> BTreeMap<String, Reading> {
        let mut readings = BTreeMap::new();
        for path in std::mem::take(&mut self.dirty) {
            let Ok(relative) = path.strip_prefix(&self.folder) else {
                continue;
            };
            let name = relative.to_string_lossy().into_owned();
            self.unreadable.remove(&path);
            let reading = match fs::read(&path) {
                Ok(octets) => match String::from_utf8(octets) {
                    Ok(text) => Reading::Text(text),
                    Err(error) => Reading::Unreadable(format!("not UTF-8: {}", error.utf8_error())),
                },
                Err(error) if is_gone(&error) => Reading::Gone,
                Err(error) => {
                    self.unreadable.insert(path.clone());
                    Reading::Unreadable(format!("cannot be read: {error}"))
                }
            };
            readings.insert(name, reading);
        }
        readings
    }

    /// Takes readings into the ledger, keeps what was accepted, and reports what was refused.
    fn read(&mut self, readings: BTreeMap<String, Reading>) -> Vec<ObjectEvent> {
        let names: Vec<String> = readings.keys().cloned().collect();
        let events = self.ledger.read(readings);
        for name in names {
            for refused in self.ledger.refused(&name) {
                let RefusedDocument {
                    file,
                    line,
                    reason,
                    in_force,
                } = refused;
                warn!(file, line, reason, ?in_force, "a document is refused");
            }
            self.store.keep(&name, self.ledger.accepted(&name));
        }
        events
    }

    fn page(&self) -> ObjectsPage {
        let mut page = self.ledger.page();
        if let Some(reason) = &self.lost {
            let objects = page.objects.iter();
            let in_force = objects
                .map(|object| format!("{} {}/{}", object.kind, object.namespace, object.name))
                .collect();
            page.refused.push(RefusedDocument {
                file: self.folder.display().to_string(),
                line: 0,
                reason: reason.clone(),
                in_force,
            });
        }
        page
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests;
