//! What was accepted of each file, in the state folder: one file per file of the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::durable::{Keeper, private_folder};
use crate::sources::ledger::Accepted;

/// The longest escaped name to use as it is.
const LONGEST_NAME: usize = 200;

/// The folder of what was accepted.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    keeper: Keeper,
    /// What was last written, by file of the source.
    written: BTreeMap<String, Vec<Accepted>>,
}

#[derive(Deserialize, Serialize)]
struct Page {
    /// Path of the source's file, relative to its folder.
    file: String,
    documents: Vec<Accepted>,
}

impl Store {
    pub(super) fn open(folder: &Path, keeper: Keeper) -> anyhow::Result<Self> {
        private_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            keeper,
            written: BTreeMap::new(),
        })
    }

    /// Everything that was accepted in earlier runs. A damaged file is reported and left out: its
    /// source is still there.
    pub(super) fn load(&mut self) -> anyhow::Result<BTreeMap<String, Vec<Accepted>>> {
        let context = || format!("cannot read {}", self.folder.display());
        for entry in fs::read_dir(&self.folder).with_context(context)? {
            let path = entry.with_context(context)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let octets =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            match serde_json::from_slice::<Page>(&octets) {
                Ok(Page { file, documents }) => drop(self.written.insert(file, documents)),
                Err(error) => {
                    warn!(path = %path.display(), %error, "what was accepted before is damaged and left out");
                }
            }
        }
        Ok(self.written.clone())
    }

    /// Notes what is accepted of a file now; `None` if the file is gone.
    pub(super) fn keep(&mut self, file: &str, documents: Option<Vec<Accepted>>) {
        if self.written.get(file) == documents.as_ref() {
            return;
        }
        let path = self.folder.join(escape(file)).with_added_extension("json");
        let Some(documents) = documents else {
            self.written.remove(file);
            self.keeper.remove(path);
            return;
        };
        let page = Page {
            file: file.to_owned(),
            documents,
        };
        match serde_json::to_vec(&page) {
            Ok(content) => self.keeper.put(path, content),
            Err(error) => warn!(file, %error, "what was accepted cannot be written down"),
        }
        self.written.insert(page.file, page.documents);
    }
}

/// A path as one file name: reversible as long as it is short, else ended by a hash.
fn escape(path: &str) -> String {
    let mut name = String::new();
    for octet in path.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_') {
            name.push(char::from(octet));
        } else {
            name.extend(['%', digit(octet >> 4), digit(octet)]);
        }
    }
    if name.len() > LONGEST_NAME {
        let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        name.truncate(LONGEST_NAME);
        name = format!("{name}~{hash:016x}");
    }
    name
}

/// The low half of an octet as a digit.
fn digit(octet: u8) -> char {
    char::from_digit(u32::from(octet & 0xf), 16).unwrap_or('0')
}
