//! Who of the replicas writes: the holder of a Lease.
//!
//! Writes are safe under two holders, which a stopped clock can make: each creates what must not exist, names the version
//! it changes, or states a whole value.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Name of the Lease.
const NAME: &str = "margay-controller";
/// Seconds that a lease lasts without being renewed; the next holder writes a second or two later.
const LAST: u64 = 6;
/// Seconds before its end when it is renewed.
const EARLY: u64 = 3;
const RETRY: Duration = Duration::from_secs(2);
/// How long giving it back may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The part in the competition.
pub(crate) struct Held(JoinHandle<kube_lease_manager::Result<LeaseManager>>);

impl Held {
    /// Gives the lease back, once what [`compete`] returned is dropped: the next holder need not wait for its end.
    pub(crate) async fn released(self) {
        match timeout(PATIENCE, self.0).await {
            Ok(Ok(Ok(_))) => info!("the lease is given back"),
            Ok(Ok(Err(error))) => warn!(%error, "cannot give the lease back"),
            Ok(Err(error)) => warn!(%error, "the competition for the lease ended badly"),
            Err(_) => warn!("cannot give the lease back in time"),
        }
    }
}

/// Competes for the lease for as long as the returned value lives, which says whether we have it.
pub(crate) async fn compete(
    client: &Client,
    namespace: &str,
    identity: &str,
) -> (watch::Receiver<bool>, Held) {
    loop {
        let manager = LeaseManagerBuilder::new(client.clone(), NAME)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager(format!("{NAME}-{identity}"))
            .with_grace(EARLY)
            .with_duration(LAST)
            .build()
            .await;
        match manager {
            Ok(manager) => {
                let (leads, task) = LeaseManager::watch(manager).await;
                return (leads, Held(task));
            }
            Err(error) => {
                warn!(%error, "cannot compete for the lease");
                sleep(RETRY).await;
            }
        }
    }
}
