//! A thread that brings files to the disk, so that nobody waits for it who need not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;

use crate::disk;

/// The handle. The thread ends when the last clone is gone, and what was ordered is on the disk then.
#[derive(Clone, Debug)]
pub(crate) struct Saver {
    files: mpsc::Sender<(PathBuf, Vec<u8>)>,
}

impl Saver {
    /// Starts the thread.
    pub(crate) fn start() -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (files, orders) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("saver".to_owned())
            .spawn(move || run(&orders))?;
        Ok((Self { files }, thread))
    }

    /// Orders a file to be replaced; of several orders for one file the last counts.
    pub(crate) fn save(&self, path: PathBuf, octets: Vec<u8>) {
        // The thread lives as long as we do.
        let _ = self.files.send((path, octets));
    }
}

fn run(orders: &mpsc::Receiver<(PathBuf, Vec<u8>)>) {
    while let Ok(first) = orders.recv() {
        let newest: BTreeMap<PathBuf, Vec<u8>> =
            std::iter::once(first).chain(orders.try_iter()).collect();
        for (path, octets) in newest {
            if let Err(error) = disk::put(&path, &octets) {
                tracing::error!(%error, "what should outlive a restart is not on the disk");
            }
        }
    }
}
