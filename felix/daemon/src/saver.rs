//! A thread that brings files to the disk, so that nobody waits for it who need not.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use crate::disk;

/// The handle.
#[derive(Clone, Debug)]
pub(crate) struct Saver {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Save(PathBuf, Vec<u8>),
    Sync(Arc<File>),
    Tell(mpsc::Sender<()>),
}

impl Saver {
    /// Starts the thread. It ends when the last clone of the handle is gone.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        std::thread::Builder::new()
            .name("saver".to_owned())
            .spawn(move || run(&ordered))?;
        Ok(Self { orders })
    }

    /// Orders a file to be replaced; of several orders for one file the last counts.
    pub(crate) fn save(&self, path: PathBuf, octets: Vec<u8>) {
        // The thread lives as long as we do.
        let _ = self.orders.send(Order::Save(path, octets));
    }

    /// Orders what was written to a file to be brought to the disk.
    pub(crate) fn sync(&self, file: Arc<File>) {
        let _ = self.orders.send(Order::Sync(file));
    }

    /// Waits until what was ordered is on the disk.
    pub(crate) fn flush(&self) {
        let (tell, told) = mpsc::channel();
        if self.orders.send(Order::Tell(tell)).is_ok() {
            let _ = told.recv();
        }
    }
}

fn run(orders: &mpsc::Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let mut newest: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        let mut written: Option<Arc<File>> = None;
        let mut waiting = Vec::new();
        for order in std::iter::once(first).chain(orders.try_iter()) {
            match order {
                Order::Save(path, octets) => drop(newest.insert(path, octets)),
                Order::Sync(file) => {
                    let other = written.replace(Arc::clone(&file));
                    // Many lines of one file are one order.
                    if let Some(other) = other.filter(|other| !Arc::ptr_eq(other, &file)) {
                        sync(&other);
                    }
                }
                Order::Tell(tell) => waiting.push(tell),
            }
        }
        for (path, octets) in newest {
            if let Err(error) = disk::put(&path, &octets) {
                tracing::error!(%error, "what should outlive a restart is not on the disk");
            }
        }
        if let Some(file) = written {
            sync(&file);
        }
        for tell in waiting {
            let _ = tell.send(());
        }
    }
}

fn sync(file: &File) {
    if let Err(error) = file.sync_data() {
        tracing::error!(%error, "what should outlive the machine is not on the disk");
    }
}
