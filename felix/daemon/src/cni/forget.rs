//! Has the kernel forget connections.
//!
//! To find those of an address one walks the kernel's whole table, however little is in it: milliseconds of work. So what is
//! asked for meanwhile is found by one walk.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use margay_nftnl::Error;
use margay_nftnl::conntrack::Conntrack;

use crate::gather::{Gatherer, Outcome};

/// The handle of the thread that does it.
#[derive(Clone, Debug)]
pub(crate) struct Forgetter(Gatherer<BTreeSet<IpAddr>, Result<(), Error>>);

/// Says when connections are forgotten.
#[derive(Debug)]
pub(crate) struct Forgetting(Outcome<Result<(), Error>>);

impl Forgetter {
    /// Starts the thread, in the network namespace of the caller. It waits for more orders for a `pause`.
    pub(crate) fn start(pause: Duration) -> std::io::Result<Self> {
        let work = |orders: Vec<BTreeSet<IpAddr>>| forget(&orders.into_iter().flatten().collect());
        Gatherer::start("forget", pause, work).map(Self)
    }

    /// Orders all connections that have one of these addresses at either end to be deleted.
    pub(crate) fn forget(&self, addresses: BTreeSet<IpAddr>) -> Forgetting {
        Forgetting(if addresses.is_empty() {
            Outcome::known(Ok(()))
        } else {
            self.0.order(addresses)
        })
    }
}

impl Forgetting {
    /// Waits for it.
    pub(crate) fn wait(self) -> Result<(), Error> {
        self.0.wait().unwrap_or(Err(Error::AnswersLost))
    }
}

/// Does it at once.
pub(crate) fn forget(addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
    if addresses.is_empty() {
        return Ok(());
    }
    let deleted = Conntrack::open()?.delete(addresses)?;
    tracing::debug!(deleted, "connections forgotten");
    Ok(())
}
