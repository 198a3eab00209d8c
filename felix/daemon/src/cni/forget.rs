//! A thread that has the kernel forget connections.
//!
//! To find those of an address one walks the kernel's whole table, however little is in it: milliseconds of work. So what is
//! asked for meanwhile is found by one walk.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc;

use margay_nftnl::Error;
use margay_nftnl::conntrack::Conntrack;

/// The handle. The thread ends when the last clone is gone.
#[derive(Clone, Debug)]
pub(crate) struct Forgetter {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Order {
    addresses: BTreeSet<IpAddr>,
    done: mpsc::Sender<Result<(), Error>>,
}

/// Says when connections are forgotten.
#[derive(Debug)]
pub(crate) struct Forgetting(mpsc::Receiver<Result<(), Error>>);

impl Forgetter {
    /// Starts the thread, in the network namespace of the caller.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        std::thread::Builder::new()
            .name("forget".to_owned())
            .spawn(move || run(&ordered))?;
        Ok(Self { orders })
    }

    /// Orders all connections that have one of these addresses at either end to be deleted.
    pub(crate) fn forget(&self, addresses: BTreeSet<IpAddr>) -> Forgetting {
        let (done, answer) = mpsc::channel();
        if addresses.is_empty() {
            let _ = done.send(Ok(()));
            return Forgetting(answer);
        }
        // If this fails the answer's sender is dropped, and waiting ends.
        let _ = self.orders.send(Order { addresses, done });
        Forgetting(answer)
    }
}

impl Forgetting {
    /// Waits for it.
    pub(crate) fn wait(self) -> Result<(), Error> {
        self.0.recv().unwrap_or(Err(Error::AnswersLost))
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

fn run(orders: &mpsc::Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let together: Vec<Order> = std::iter::once(first).chain(orders.try_iter()).collect();
        let addresses = together.iter().flat_map(|order| &order.addresses);
        let addresses: BTreeSet<IpAddr> = addresses.copied().collect();
        let deleted = forget(&addresses);
        for order in together {
            // Who does not wait does not mind.
            let _ = order.done.send(deleted.clone());
        }
    }
}
