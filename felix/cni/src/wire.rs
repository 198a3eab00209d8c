//! What plugin and felix say to each other over felix' socket.
//!
//! One connection per call. The plugin sends a [`Call`] as JSON and closes its direction; with the first octets go,
//! for ADD and CHECK, two descriptors: the sandbox's network namespace, and a route-netlink socket opened inside it. felix
//! sends an [`Answer`] as JSON and closes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Refusal;
use crate::request::{Attachment, Pod};
use crate::result::Attached;

/// The longest call that felix reads, in octets: GC names every attachment of the node.
pub const LONGEST_CALL: usize = 4 << 20;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "UPPERCASE")]
pub enum Call {
    /// Attach a pod. With descriptors.
    Add {
        /// The sandbox's interface.
        attachment: Attachment,
        /// Path of the sandbox's namespace, for the result.
        sandbox: String,
        /// The pod.
        pod: Pod,
        /// To be passed through.
        dns: Option<Value>,
    },
    /// Detach.
    Del {
        /// The sandbox's interface.
        attachment: Attachment,
    },
    /// See whether all is as it was made. With descriptors.
    Check {
        /// The sandbox's interface.
        attachment: Attachment,
        /// What ADD said.
        previous: Attached,
    },
    /// Say whether ADD can be served.
    Status,
    /// Detach all but these.
    Gc {
        /// The attachments to keep.
        keep: Vec<Attachment>,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Attached (to ADD).
    Attached(Attached),
    /// Done (to everything else).
    Done,
    /// Not done.
    Refused(Refusal),
}

/// A note that an attachment is to be detached, left in `STATE/tombstones` while felix was away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// What to detach.
    pub attachment: Attachment,
}

impl Tombstone {
    /// Name of the folder in felix' state folder.
    pub const FOLDER: &'static str = "tombstones";

    /// Name of its file.
    pub fn file_name(&self) -> String {
        let Attachment {
            container,
            interface,
        } = &self.attachment;
        // A container id has no `@`, so names of different attachments differ.
        format!("{container}@{interface}.json")
    }
}
