//! What is attached, one small file each, so that a restart knows it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use margay_cni::request::Attachment;
use margay_cni::wire::Tombstone;
use margay_netlink::link::LONGEST_ALIAS;
use margay_policy::model::PodId;
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};
use crate::names;

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The sandbox's interface.
    pub(crate) attachment: Attachment,
    /// The pod.
    pub(crate) pod: PodId,
    /// The pod's uid as the runtime said; empty if it did not.
    pub(crate) uid: String,
    /// Name of the link's host end.
    pub(crate) link: String,
    /// The pod's addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// What a link's note says of its attachment, for when the journal is lost. The addresses are in its routes.
#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    attachment: Attachment,
    pod: PodId,
    uid: String,
}

impl Record {
    /// The note for the attachment's link; `None` if names are too long for one.
    pub(crate) fn note(&self) -> Option<String> {
        let note = Note {
            attachment: self.attachment.clone(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
        };
        let text = serde_json::to_string(&note).ok()?;
        (text.len() <= LONGEST_ALIAS).then_some(text)
    }

    /// The record of a link, as its note and routes tell; `None` if they do not.
    pub(crate) fn rebuild(link: &str, note: &str, addresses: BTreeSet<IpAddr>) -> Option<Self> {
        let Note {
            attachment,
            pod,
            uid,
        } = serde_json::from_str(note).ok()?;
        // A note that is on another attachment's link is not ours.
        let own = names::link(&attachment) == link && !addresses.is_empty();
        own.then(|| Self {
            attachment,
            pod,
            uid,
            link: link.to_owned(),
            addresses,
        })
    }
}

/// The folder of records.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    records: PathBuf,
    tombstones: PathBuf,
}

impl Journal {
    /// In felix' state folder, which is made if need be; what an earlier felix left half written goes.
    pub(crate) fn open(state: &Path) -> Result<Self, DiskError> {
        let journal = Self {
            records: state.join("attachments"),
            tombstones: state.join(Tombstone::FOLDER),
        };
        for path in [&journal.records, &journal.tombstones] {
            std::fs::create_dir_all(path).map_err(|source| DiskError::Write {
                path: path.clone(),
                source,
            })?;
        }
        disk::sweep(state)?;
        disk::sweep(&journal.records)?;
        Ok(journal)
    }

    /// All records. A damaged one is as good as none: nothing of it can be trusted, so it is removed and reported.
    pub(crate) fn records(&self) -> Result<Vec<Record>, DiskError> {
        let mut records = Vec::new();
        for path in disk::json_files(&self.records)? {
            match disk::get_json(&path) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a record of an attachment is dropped");
                    disk::remove(&path)?;
                }
            }
        }
        Ok(records)
    }

    /// Writes a record, which does not count yet. It outlives us, and need not outlive the machine: its namespace does not.
    pub(crate) fn write(&self, record: &Record) -> Result<(), DiskError> {
        let path = self.path(&record.attachment);
        let octets = serde_json::to_vec(record).map_err(|error| DiskError::Write {
            path: path.clone(),
            source: error.into(),
        })?;
        disk::write_beside(&path, &octets).map(drop)
    }

    /// Has a written record count from now on.
    pub(crate) fn keep(&self, record: &Record) -> Result<(), DiskError> {
        disk::rename_into_place(&self.path(&record.attachment))
    }

    /// Removes a record, also one that does not count yet.
    pub(crate) fn remove(&self, attachment: &Attachment) -> Result<(), DiskError> {
        let path = self.path(attachment);
        disk::discard_beside(&path);
        disk::remove(&path)
    }

    /// What the plugin noted while felix was away, with the file to remove when it is done.
    pub(crate) fn tombstones(&self) -> Result<Vec<(PathBuf, Attachment)>, DiskError> {
        let mut found = Vec::new();
        for path in disk::json_files(&self.tombstones)? {
            match disk::get_json::<Tombstone>(&path) {
                Ok(Some(tombstone)) => found.push((path, tombstone.attachment)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a tombstone is dropped");
                    disk::remove(&path)?;
                }
            }
        }
        Ok(found)
    }

    /// Removes a note of the plugin.
    pub(crate) fn remove_tombstone(&self, tombstone: &Tombstone) -> Result<(), DiskError> {
        disk::remove(&self.tombstones.join(tombstone.file_name()))
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        let Attachment {
            container,
            interface,
        } = attachment;
        self.records.join(format!("{container}@{interface}.json"))
    }
}

#[cfg(test)]
mod tests;
