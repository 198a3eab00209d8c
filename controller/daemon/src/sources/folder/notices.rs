//! What inotify's notices mean: which files are to be read, and when.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context;
use margay_api::world::is_document_file;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher};
use tracing::{debug, warn};

use super::Source;
use crate::clock;

impl Source {
    /// Notes what an event means.
    pub(super) fn note(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            self.scan(&self.folder.clone());
        }
        for path in &event.paths {
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => self.written(path),
                EventKind::Create(CreateKind::File) if is_being_made(path) => {
                    self.writing.insert(path.clone(), clock::now());
                }
                EventKind::Modify(ModifyKind::Data(_)) => {
                    if let Some(since) = self.writing.get_mut(path) {
                        *since = clock::now();
                    }
                }
                EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To))
                    if path.is_dir() =>
                {
                    self.follow(path);
                    self.scan(path);
                }
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => self.gone(path),
                EventKind::Create(_) => self.written(path),
                // Rights may have changed for the better.
                EventKind::Modify(ModifyKind::Metadata(_)) if self.unreadable.contains(path) => {
                    self.written(path);
                }
                EventKind::Modify(_) | EventKind::Access(_) | EventKind::Any | EventKind::Other => {
                }
            }
        }
    }

    /// A path has new content.
    fn written(&mut self, path: &Path) {
        self.writing.remove(path);
        if is_document_file(path) {
            self.dirty.insert(path.to_owned());
        }
        // The way a mounted ConfigMap changes: a hidden link beside the files' links moves.
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b"..") {
            self.scan(&self.folder.clone());
        }
    }

    /// A path is gone, or another one came in its place. It may have been a folder.
    fn gone(&mut self, path: &Path) {
        if path == self.folder {
            // Also if it is back by now: the new one is not watched.
            self.lose();
        }
        self.written(path);
        self.mark_known(path);
    }

    /// Marks all files in a folder, those that are there and those that were.
    pub(super) fn scan(&mut self, folder: &Path) {
        self.mark_known(folder);
        if let Err(error) = list(folder, &mut self.dirty) {
            warn!(folder = %folder.display(), %error, "cannot look into a folder");
        }
    }

    /// Marks all files that we know of in a folder.
    fn mark_known(&mut self, folder: &Path) {
        if let Ok(relative) = folder.strip_prefix(&self.folder) {
            let known = self.ledger.files_in(&relative.to_string_lossy());
            let known: Vec<PathBuf> = known.map(|file| self.folder.join(file)).collect();
            self.dirty.extend(known);
        }
    }

    /// Makes sure that a new folder is watched before it is read.
    fn follow(&mut self, folder: &Path) {
        if let Err(error) = self.watcher.watch(folder, RecursiveMode::Recursive) {
            debug!(folder = %folder.display(), %error, "cannot watch a new folder");
        }
    }

    pub(super) fn watch(&mut self) -> anyhow::Result<()> {
        self.watcher
            .watch(&self.folder, RecursiveMode::Recursive)
            .with_context(|| format!("cannot watch the folder {}", self.folder.display()))
    }
}

/// All files of documents in a folder and the folders in it, hidden ones left out.
fn list(folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    list_inside(folder, &mut Vec::new(), files)
}

/// The same, inside of `around` (device and inode of each): a link back to one of them is not followed.
fn list_inside(
    folder: &Path,
    around: &mut Vec<(u64, u64)>,
    files: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    let metadata = fs::metadata(folder)?;
    let identity = (metadata.dev(), metadata.ino());
    if around.contains(&identity) {
        return Ok(());
    }
    around.push(identity);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if path.is_dir() {
            if !hidden {
                list_inside(&path, around, files)?;
            }
        } else if is_document_file(&path) {
            files.insert(path);
        }
    }
    around.pop();
    Ok(())
}

/// Whether somebody will write into a new file and close it. A link, symbolic or hard, is there with all
/// its content.
fn is_being_made(path: &Path) -> bool {
    let is_link = fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1);
    is_document_file(path) && !is_link
}
