//! A folder of YAML files as the source: any mix of documents in `*.yaml`, `*.yml` and `*.json`, also in
//! folders inside, followed by inotify.
//!
//! A file is read when its writer closes it or it is renamed into place, never while it is being
//! written. What was accepted is kept in the state folder. An object that vanishes is given a few
//! milliseconds to turn up in another file before it counts as deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::Context;
use margay_api::load::Key;
use margay_api::world::is_document_file;
use margay_sync::status::{ObjectsPage, RefusedDocument};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, error, info, warn};

use super::ObjectEvent;
use super::ledger::{Ledger, Reading};
use crate::clock;
use crate::durable::Keeper;

mod accepted;

/// How long a vanished object may take to turn up elsewhere.
const MOVE: Duration = Duration::from_millis(5);
/// How long a new file may stay open before vanished objects are no longer expected in it.
const WRITE: Duration = Duration::from_secs(1);
/// How often to look for a folder that is gone.
const GONE: Duration = Duration::from_millis(200);

/// What the source tells the rest.
#[derive(Debug)]
pub struct Update {
    /// What changed.
    pub events: Vec<ObjectEvent>,
    /// What there is, for people.
    pub page: Arc<ObjectsPage>,
}

/// Reads the folder, hands on what it holds as the first update, and follows it from a thread of its
/// own until `updates` refuses one.
///
/// # Errors
/// If the folder or what was kept of it cannot be read or watched.
pub fn start(
    folder: &Path,
    state: &Path,
    updates: impl FnMut(Update) -> bool + Send + 'static,
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

#[derive(Debug)]
enum Wake {
    Notice(notify::Result<notify::Event>),
    Stop,
}

/// The folder itself is gone.
struct Lost {
    reason: String,
    /// Whether the page says so.
    told: bool,
}

struct Source {
    folder: PathBuf,
    watcher: RecommendedWatcher,
    ledger: Ledger,
    store: accepted::Store,
    /// Why the folder itself cannot be read, while it cannot.
    lost: Option<Lost>,
    /// Files that are there and cannot be read.
    unreadable: BTreeSet<PathBuf>,
    /// Files to read now.
    dirty: BTreeSet<PathBuf>,
    /// Files that were made and not closed yet, and when.
    writing: BTreeMap<PathBuf, Instant>,
    /// Objects to delete, and when, if they do not turn up.
    vanished: BTreeMap<Key, Instant>,
    updates: Box<dyn FnMut(Update) -> bool + Send>,
}

impl Source {
    fn run(mut self, inbox: &mpsc::Receiver<Wake>) {
        loop {
            let first = match self.wait(inbox) {
                Ok(wake) => Some(wake),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            for wake in first.into_iter().chain(inbox.try_iter()) {
                match wake {
                    Wake::Notice(Ok(event)) => self.note(&event),
                    Wake::Notice(Err(error)) => {
                        warn!(%error, "inotify reports an error; the whole folder is read again");
                        self.scan(&self.folder.clone());
                    }
                    Wake::Stop => return,
                }
            }
            if !self.work() {
                return;
            }
        }
    }

    /// Waits for the next notice, or until something is due.
    fn wait(&self, inbox: &mpsc::Receiver<Wake>) -> Result<Wake, mpsc::RecvTimeoutError> {
        let now = clock::now();
        let due = self
            .vanished
            .values()
            .min()
            .map(|at| at.saturating_duration_since(now));
        let due = if self.lost.is_some() {
            Some(due.unwrap_or(GONE).min(GONE))
        } else {
            due
        };
        match due {
            Some(due) => inbox.recv_timeout(due),
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
        let files = self.ledger.files().count();
        info!(folder = %self.folder.display(), files, "the folder is read");
        // What an earlier run accepted and is gone must not come up even for a moment.
        self.tell(events);
        Ok(())
    }

    /// Notes what an event means.
    fn note(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            self.scan(&self.folder.clone());
        }
        for path in &event.paths {
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => self.written(path),
                EventKind::Create(CreateKind::File) => {
                    if is_document_file(path) && !is_link(path) {
                        self.writing.insert(path.clone(), clock::now());
                    } else {
                        // A link is there with all its content.
                        self.written(path);
                    }
                }
                EventKind::Create(CreateKind::Folder)
                | EventKind::Modify(ModifyKind::Name(RenameMode::To))
                    if path.is_dir() =>
                {
                    self.follow(path);
                    self.scan(path);
                }
                EventKind::Remove(_)
                | EventKind::Modify(ModifyKind::Name(_))
                | EventKind::Create(_) => {
                    self.written(path);
                }
                // Rights may have changed for the better.
                EventKind::Modify(ModifyKind::Metadata(_)) if self.unreadable.contains(path) => {
                    self.written(path);
                }
                EventKind::Modify(_) | EventKind::Access(_) | EventKind::Any | EventKind::Other => {
                }
            }
        }
    }

    /// A path has new content, or is gone. It may have been a folder.
    fn written(&mut self, path: &Path) {
        self.writing.remove(path);
        if path == self.folder && self.lost.is_none() {
            // Also if it is back by now: the new one is not watched.
            self.lose();
        }
        if is_document_file(path) {
            self.dirty.insert(path.to_owned());
        }
        let inside: Vec<PathBuf> = self.known_inside(path).collect();
        self.dirty.extend(inside);
        // The way a mounted ConfigMap changes: a hidden link beside the files' links moves.
        if path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
        {
            self.scan(&self.folder.clone());
        }
    }

    /// Marks all files in a folder, those that are there and those that were.
    fn scan(&mut self, folder: &Path) {
        let known: Vec<PathBuf> = self.known_inside(folder).collect();
        self.dirty.extend(known);
        if let Err(error) = list(folder, &mut self.dirty) {
            warn!(folder = %folder.display(), %error, "cannot look into a folder");
        }
    }

    fn known_inside<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        self.ledger
            .files()
            .map(|file| self.folder.join(file))
            .filter(move |path| path.starts_with(folder))
    }

    /// Makes sure that a new folder is watched before it is read.
    fn follow(&mut self, folder: &Path) {
        if let Err(error) = self.watcher.watch(folder, RecursiveMode::Recursive) {
            debug!(folder = %folder.display(), %error, "cannot watch a new folder");
        }
    }

    fn watch(&mut self) -> anyhow::Result<()> {
        self.watcher
            .watch(&self.folder, RecursiveMode::Recursive)
            .with_context(|| format!("cannot watch the folder {}", self.folder.display()))
    }

    /// Reads what is due and hands it on; `false` if nobody takes it any more.
    fn work(&mut self) -> bool {
        if !self.is_there() {
            return true;
        }
        let readings = self.readings();
        let mut changed = !readings.is_empty();
        let now = clock::now();
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
        self.writing
            .retain(|path, since| now < *since + WRITE && path.exists());
        for (key, at) in &mut self.vanished {
            if *at <= now && !self.writing.is_empty() {
                *at = now + MOVE;
            } else if *at <= now {
                events.push(ObjectEvent::Delete(key.clone()));
            }
        }
        self.vanished.retain(|_, at| *at > now);
        changed |= !events.is_empty();
        !changed || self.tell(events)
    }

    /// Whether the folder itself is there. While it is not, everything stays as it was: a folder that is
    /// not mounted is no order to delete all objects.
    fn is_there(&mut self) -> bool {
        if self.folder.is_dir() {
            if self.lost.take().is_some() {
                info!(folder = %self.folder.display(), "the folder is back");
                if let Err(error) = self.watch() {
                    self.lost = Some(Lost {
                        reason: format!("{error:#}"),
                        told: false,
                    });
                    return false;
                }
                self.scan(&self.folder.clone());
            }
            return true;
        }
        if self.lost.is_none() {
            self.lose();
        }
        if let Some(Lost {
            told: told @ false, ..
        }) = &mut self.lost
        {
            *told = true;
            self.tell(Vec::new());
        }
        false
    }

    fn lose(&mut self) {
        let reason = "the folder is gone; its objects stay in force until it is back";
        warn!(folder = %self.folder.display(), reason);
        self.lost = Some(Lost {
            reason: reason.to_owned(),
            told: false,
        });
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

    /// Hands changes on; `false` if nobody takes them any more.
    fn tell(&mut self, events: Vec<ObjectEvent>) -> bool {
        let page = self.page();
        (self.updates)(Update { events, page })
    }

    fn page(&self) -> Arc<ObjectsPage> {
        let mut page = self.ledger.page();
        if let Some(Lost { reason, .. }) = &self.lost {
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
        Arc::new(page)
    }
}

/// All files of documents in a folder and the folders in it, hidden ones left out.
fn list(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() {
            if !hidden {
                list(&path, files)?;
            }
        } else if is_document_file(&path) {
            files.insert(path);
        }
    }
    Ok(())
}

/// Whether a path is a second name of something: a symbolic or hard link.
fn is_link(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests;
