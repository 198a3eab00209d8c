//! `serve`: the process that listens on the ports of a standing lab's pods.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use anyhow::Result;
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::guard;
use margay_tests::lab::prober::{ListenerId, Prober};
use tokio::signal::unix::{SignalKind, signal};

use crate::words::remark;

/// Listens for ever; SIGHUP says that pods came or went.
pub(crate) fn run(name: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _context = runtime.enter();
    let mut hangups = signal(SignalKind::hangup())?;
    let prober = Prober::start()?;
    // From here on a SIGHUP does not end the process.
    std::fs::write(Path::new(guard::RUN).join(name).join("serve.ready"), "")?;
    let mut open: BTreeMap<String, ListenerId> = BTreeMap::new();
    loop {
        let listeners = Lab::open(name)?.listeners_of_pods()?;
        let gone: Vec<String> = open
            .keys()
            .filter(|key| !listeners.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(id) = open.remove(&key) {
                prober.close(id)?;
            }
        }
        for (key, listener) in listeners {
            let Entry::Vacant(place) = open.entry(key) else {
                continue;
            };
            match prober.listen(listener) {
                Ok(id) => drop(place.insert(id)),
                Err(error) => remark(format_args!("{}: {error:#}", place.key())),
            }
        }
        runtime.block_on(hangups.recv());
    }
}
