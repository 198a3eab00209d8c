//! What is known, on disk: lines of the stream, a snapshot and the messages since.
//!
//! A message is in the file before the core hears of it. So a felix that was killed at any moment and starts without its
//! controller knows at least what the kernel has, and never takes it back to what was before.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use margay_sync::frame::{Decoder, MAX_LINE};
use margay_sync::message::Message;
use margay_sync::replica::Replica;
use tokio::time::Instant;

use crate::disk::{self, DiskError};
use crate::saver::Saver;

/// The file is written anew once the messages after the snapshot have more octets than the snapshot, and than this.
const LEAST_ROOM: usize = 64 * 1024;
/// How soon a file that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The file.
pub(crate) struct Kept {
    path: PathBuf,
    saver: Saver,
    /// Where messages are added; `None` if the file does not say all that is known.
    end: Option<Arc<File>>,
    /// How many octets of messages the file still takes.
    room: usize,
    retry_at: Option<Instant>,
}

/// Reads the file; `None` if there is none that can be used.
pub(crate) fn load(path: &Path) -> Option<Replica> {
    match read(path) {
        Ok(replica) => replica,
        Err(error) => {
            tracing::error!(%error, "what was known cannot be used; waiting for the controller");
            None
        }
    }
}

fn read(path: &Path) -> Result<Option<Replica>, DiskError> {
    let Some(octets) = disk::get(path)? else {
        return Ok(None);
    };
    let damaged = |reason: String| DiskError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let mut decoder: Decoder<Message> = Decoder::new(MAX_LINE);
    decoder.push(&octets);
    drop(octets);
    let mut replica = Replica::default();
    // A last line without end was never told to the core. Elsewhere a line that makes no sense may hide what the kernel has.
    while let Some(message) = decoder
        .next_value()
        .map_err(|error| damaged(error.to_string()))?
    {
        replica
            .handle(message)
            .map_err(|error| damaged(error.to_string()))?;
    }
    if replica.revision().is_none() {
        return Err(damaged("it has no whole line".to_owned()));
    }
    replica.disconnected();
    Ok(Some(replica))
}

impl Kept {
    /// A file that will be written when something is to be kept.
    pub(crate) fn new(path: PathBuf, saver: Saver) -> Self {
        Self {
            path,
            saver,
            end: None,
            room: 0,
            retry_at: None,
        }
    }

    /// Adds a message; `false` if the file must be replaced for that. It outlives us at once, and the machine soon.
    pub(crate) fn add(&mut self, line: &[u8]) -> bool {
        let Some(end) = &self.end else { return false };
        let mut writer: &File = end;
        if writer.write_all(line).is_err() {
            self.end = None;
            return false;
        }
        self.saver.sync(Arc::clone(end));
        self.room = self.room.saturating_sub(line.len());
        true
    }

    /// Whether so much was added that the file should be replaced.
    pub(crate) fn is_full(&self) -> bool {
        self.end.is_some() && self.room == 0
    }

    /// When to try again to replace the file.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Has a snapshot, as a line, be what is kept. It outlives us at once, and the machine soon.
    pub(crate) fn replace(&mut self, line: &[u8]) {
        self.end = None;
        match self.written(line) {
            Ok(end) => {
                let end = Arc::new(end);
                self.saver.sync(Arc::clone(&end));
                self.end = Some(end);
                self.room = line.len().max(LEAST_ROOM);
                self.retry_at = None;
            }
            Err(error) => {
                tracing::error!(%error, "what should outlive a restart is not on the disk");
                // Better to know nothing, and leave the kernel alone, than to take it back.
                let _ = disk::remove(&self.path);
                self.retry_at = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// Nobody waits for the disk here, since that may take seconds: a machine that loses power before it has the file has no pods either.
    fn written(&self, line: &[u8]) -> Result<File, DiskError> {
        let file = disk::write_beside(&self.path, line)?;
        disk::rename_into_place(&self.path)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
