//! Files that survive a crash: whole in the old or in the new version, never in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use tracing::error;

/// Replaces a file: written beside it, synced, renamed over it, folder synced.
///
/// # Errors
/// Whatever the file system says; the old version is in place then.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content)?;
    sync_folder(folder_of(path))
}

/// Replaces a file; the rename survives once the folder is synced.
fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = folder.join(name);
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Removes a file; there may be none.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder that only we may look into.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn private_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Writes files from a thread of its own, so that nobody waits for the disk who need not.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    jobs: mpsc::Sender<Job>,
}

/// What a [`Keeper`] is to do; the last job for a path counts.
#[derive(Debug)]
enum Job {
    Put(PathBuf, Option<Vec<u8>>),
    Flush(mpsc::Sender<()>),
}

impl Keeper {
    /// Starts the thread; it ends when the last clone is dropped and all is written.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || keep(&inbox))
            .context("cannot start the thread that writes files")?;
        Ok(Self { jobs })
    }

    /// Writes a file, some time soon; the last content for a path counts.
    pub(crate) fn put(&self, path: PathBuf, content: Vec<u8>) {
        self.send(Job::Put(path, Some(content)));
    }

    /// Removes a file, some time soon.
    pub(crate) fn remove(&self, path: PathBuf) {
        self.send(Job::Put(path, None));
    }

    /// Waits until everything so far is on disk.
    pub(crate) fn flush(&self) {
        let (done, wait) = mpsc::channel();
        self.send(Job::Flush(done));
        // An error means that the thread is gone; then there is nothing to wait for.
        let _ = wait.recv();
    }

    fn send(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            error!(
                "the thread that writes files is gone; what is accepted now is lost by a restart"
            );
        }
    }
}

fn keep(inbox: &mpsc::Receiver<Job>) {
    while let Ok(first) = inbox.recv() {
        let mut pending = BTreeMap::new();
        let mut waiting = Vec::new();
        for job in std::iter::once(first).chain(inbox.try_iter()) {
            match job {
                Job::Put(path, content) => drop(pending.insert(path, content)),
                Job::Flush(done) => waiting.push(done),
            }
        }
        let mut folders = BTreeSet::new();
        for (path, content) in pending {
            let result = match content {
                Some(content) => put(&path, &content),
                None => remove(&path),
            };
            if let Err(error) = result {
                error!(path = %path.display(), %error, "cannot keep a file; a restart will not know of it");
            }
            folders.insert(folder_of(&path).to_owned());
        }
        for folder in folders {
            if let Err(error) = sync_folder(&folder) {
                error!(folder = %folder.display(), %error, "cannot sync a folder");
            }
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}
