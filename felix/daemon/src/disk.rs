//! Small files that are either as before or complete.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// Writing failed; what was there before is still there.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Reading failed.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Replaces a file: written beside it, brought to the disk, renamed into place.
pub(crate) fn put(path: &Path, octets: &[u8]) -> Result<(), DiskError> {
    let synced = write_beside(path, octets)?.sync_all();
    synced.map_err(|source| {
        discard_beside(path);
        failed(path, source)
    })?;
    rename_into_place(path)?;
    let synced = path.parent().map_or(Ok(()), |folder| {
        File::open(folder).and_then(|folder| folder.sync_all())
    });
    synced.map_err(|source| failed(path, source))
}

/// Writes a file beside its place, where it does not count.
pub(crate) fn write_beside(path: &Path, octets: &[u8]) -> Result<File, DiskError> {
    let beside = beside(path);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(octets)?;
        Ok(file)
    };
    write().map_err(|source| {
        discard_beside(path);
        failed(path, source)
    })
}

/// Has what [`write_beside`] wrote count.
pub(crate) fn rename_into_place(path: &Path) -> Result<(), DiskError> {
    std::fs::rename(beside(path), path).map_err(|source| {
        discard_beside(path);
        failed(path, source)
    })
}

/// Gives up after [`write_beside`]: what is half written helps nobody, and the disk may be full.
pub(crate) fn discard_beside(path: &Path) {
    let _ = std::fs::remove_file(beside(path));
}

fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    beside.into()
}

fn failed(path: &Path, source: std::io::Error) -> DiskError {
    DiskError::Write {
        path: path.to_owned(),
        source,
    }
}

/// Reads a file; `None` if there is none.
pub(crate) fn get(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match std::fs::read(path) {
        Ok(octets) => Ok(Some(octets)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DiskError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a JSON file; `None` if there is none.
pub(crate) fn get_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    let Some(octets) = get(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&octets)
        .map(Some)
        .map_err(|error| DiskError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// Removes a file; one that is not there counts as removed.
pub(crate) fn remove(path: &Path) -> Result<(), DiskError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(DiskError::Write {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Removes what calls of [`put`] that were cut short left in a folder; for a time when nobody writes there.
pub(crate) fn sweep(folder: &Path) -> Result<(), DiskError> {
    for path in files(folder)? {
        if path.extension().is_some_and(|extension| extension == "new") {
            remove(&path)?;
        }
    }
    Ok(())
}

/// The files of a folder that end in `.json`, sorted; none if there is no folder.
pub(crate) fn json_files(folder: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let mut files = files(folder)?;
    files.retain(|path| {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "json")
    });
    files.sort();
    Ok(files)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let failed = |source| DiskError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    entries
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect()
}

#[cfg(test)]
mod tests;
