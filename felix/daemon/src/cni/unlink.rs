//! Deletes pods' links.
//!
//! The kernel waits for whoever may still use a link that goes, tens of milliseconds, one deletion after the other. So what is asked
//! for meanwhile goes together: a node that is drained has its pods' links gone in the time of a few.

use std::time::Duration;

use margay_netlink::{Batch, Connection, LinkRef};

use crate::gather::{Gatherer, Outcome};

/// The group of links that are about to go (`mgy` and 1, in octets). Nobody else has a reason to use it.
const GOING: u32 = u32::from_be_bytes(*b"mgy\x01");

/// How long the first of many waits for the others: else they would go one deletion later.
const PAUSE: Duration = Duration::from_millis(5);

/// The handle of the thread that does it.
#[derive(Clone, Debug)]
pub(crate) struct Unlinker(Gatherer<String, ()>);

impl Unlinker {
    /// Starts the thread, in the network namespace of the caller.
    pub(crate) fn start() -> std::io::Result<Self> {
        Gatherer::start("unlink", PAUSE, |names| unlink(&names)).map(Self)
    }

    /// Orders a link to be deleted, and says when it is gone or cannot be.
    pub(crate) fn unlink(&self, name: String) -> Outcome<()> {
        self.0.order(name)
    }
}

fn unlink(names: &[String]) {
    let links: Vec<LinkRef> = names.iter().cloned().map(LinkRef::Name).collect();
    let failures = Connection::open().and_then(|mut connection| {
        let mut batch = Batch::new();
        batch.delete_links(&links, GOING);
        connection.run_each(batch)
    });
    match failures {
        Ok(failures) => {
            for (_, error) in failures {
                tracing::error!(%error, "a pod's link stays");
            }
        }
        Err(error) => tracing::error!(%error, ?names, "pods' links stay"),
    }
}
