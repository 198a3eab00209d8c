//! BFD (RFC 5880, 5881, 5883) for peers, on a thread of its own: whatever the rest of the process does, packets go
//! out in time, and what has come is looked at before anybody is called silent.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use margay_bgp::PeerName;
use margay_bgp::bfd::{Diagnostic, State};
use tokio::sync::mpsc;

mod socket;
mod thread;

/// How a peer's liveness is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdSettings {
    /// The least time between packets, both ways.
    pub interval: Duration,
    /// How many in a row may be lost.
    pub multiplier: NonZeroU8,
}

/// How a BFD session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdStatus {
    /// Our state.
    pub state: State,
    /// The peer's, as it told last.
    pub remote_state: State,
    /// Why the session left Up last.
    pub diagnostic: Diagnostic,
    /// How often we send; `None` if the peer wants nothing.
    pub interval: Option<Duration>,
    /// After how long silence the peer counts as gone; `None` until it has spoken.
    pub detection_time: Option<Duration>,
    /// Why nothing can be received; empty if it can.
    pub problem: String,
}

/// A peer to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) peer: IpAddr,
    /// Our address in the BGP session.
    pub(crate) local: IpAddr,
    /// The link of a link-local address, else 0.
    pub(crate) scope: u32,
    /// How far it may be; 1 is the same link.
    pub(crate) hops: NonZeroU8,
    pub(crate) settings: BfdSettings,
}

/// News of a session.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) peer: PeerName,
    pub(crate) status: BfdStatus,
    /// That the peer has just been lost, and when it was last known to be there: not when one side was taken down on
    /// purpose (RFC 5882 §4.2).
    pub(crate) lost: Option<Instant>,
}

pub(crate) type Targets = BTreeMap<PeerName, Target>;

/// The thread's other end. Dropping it ends all sessions in order.
#[derive(Debug)]
pub(crate) struct Bfd {
    targets: Arc<Mutex<Targets>>,
    wake: UnixStream,
}

impl Bfd {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn start(reports: mpsc::UnboundedSender<Report>) -> std::io::Result<Self> {
        let targets = Arc::<Mutex<Targets>>::default();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let thread = thread::Thread::new(targets.clone(), woken, reports);
        std::thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self { targets, wake })
    }

    /// Watches these peers and no others.
    pub(crate) fn watch(&self, targets: Targets) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
        // A pipe that is full has woken the thread already.
        let _ = (&self.wake).write(&[1]);
    }
}
