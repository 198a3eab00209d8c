//! The table `inet margay`: one thread that knows what should be in it and is alone in writing it.
//!
//! [`start`] gives a [`Nft`], the handle for everybody else: [`Nft::apply`] returns when the kernel has a change,
//! [`Nft::ask`] looks at the planner. What happens otherwise (started, repaired, failed and trying again) comes as
//! [`Report`]s. The thread works in the network namespace of the thread that started it.
//!
//! - **Start**: the table is read, its epochs are adopted, and the difference to what should be is one batch. No table: one
//!   batch makes it. Nothing is ever flushed that should stay.
//! - **Owner**: with [`Ownership::Exclusive`], where the kernel has it, the table belongs to our socket: others
//!   cannot change it, it outlives us, and the next felix adopts it. With [`Ownership::Shared`] a second
//!   thread hears of changes by others, and the writer reads the table again and repairs it.
//! - **Errors**: a batch that the kernel refuses changed nothing. The table is read again and the difference is tried at once;
//!   if that fails too, the change's caller hears why, and the writer goes on trying, less and less often. The planner has the change
//!   all the same; a caller that gives up takes it back by the opposite change.
//! - **Generations**: a batch that follows from reading the table is only for the generation that was read. A planned
//!   change is for none: any commit of anybody in the namespace would make it stale, and whether it meets what it
//!   expects the kernel says by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use margay_dataplane::local::{Attachment, Nat};
use margay_dataplane::plan::Planner;
use margay_nftnl as nftnl;
use margay_policy::model::PodId;
use margay_policy::node_policy::{NodePolicy, PolicyChange};
use tokio::sync::oneshot;

pub mod commit;
mod drift;
mod encode;
pub mod read;
mod repair;
mod writer;

pub use repair::{Found, What};

/// How the writer behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the table; `margay`.
    pub table: String,
    /// Whether to keep others out.
    pub ownership: Ownership,
    /// The daemon's clock.
    pub now: fn() -> Instant,
}

/// Whether the table is to belong to our socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ownership {
    /// Others cannot change it, where the kernel can do that (since Linux 6.9); else as [`Self::Shared`].
    Exclusive,
    /// Others can change it, and we repair it.
    Shared,
}

/// What is known when the writer starts.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// The policy.
    pub policy: NodePolicy,
    /// Pods that have a link.
    pub attachments: BTreeMap<PodId, Attachment>,
    /// What to masquerade.
    pub nat: Nat,
}

/// A change of what should be in the table.
#[derive(Clone, Debug)]
pub enum Change {
    /// Changes of policy, all at once.
    Policy(Vec<PolicyChange>),
    /// Another policy.
    Replace(Box<NodePolicy>),
    /// A pod has a link, or other addresses.
    Attach(PodId, Attachment),
    /// A pod has no link any more.
    Detach(PodId),
    /// Other pools.
    Nat(Nat),
}

/// What the writer tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The kernel has what it should have, for the first time.
    Started {
        /// Whether there was a table.
        adopted: bool,
        /// How many operations it took; 0 if the table was as it should be.
        operations: usize,
        /// Whether others are kept out.
        ownership: Ownership,
    },
    /// Somebody else changed the table, and it is repaired.
    Repaired {
        /// What was changed.
        found: Vec<Found>,
        /// Who did it, `nft (pid 123)`; empty if that is unknown.
        by: String,
        /// From noticing to repaired.
        took: Duration,
    },
    /// The kernel does not have what it should have. The writer tries again.
    Failed {
        /// Why, in words.
        reason: String,
        /// How long until it tries again.
        again_in: Duration,
    },
}

/// Why a change is not in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NftError {
    /// The kernel refused it, or could not be asked. The writer goes on trying.
    #[error("nf_tables: {0}")]
    Refused(#[from] nftnl::Error),
    /// The writer has ended.
    #[error("the nf_tables writer has ended")]
    Ended,
}

/// The handle of the writer. The writer ends when the last clone is gone; the table stays.
#[derive(Clone, Debug)]
pub struct Nft {
    sender: Arc<Sender>,
}

#[derive(Debug)]
struct Sender(mpsc::Sender<Command>);

impl Drop for Sender {
    fn drop(&mut self) {
        // An error says that the writer has ended already.
        let _ = self.0.send(Command::End);
    }
}

/// What the writer's thread is told.
enum Command {
    Change {
        change: Change,
        done: oneshot::Sender<Result<(), NftError>>,
    },
    Ask(Box<dyn FnOnce(&Planner) + Send>),
    Drifted {
        touched: Vec<Found>,
        by: String,
        noticed: Instant,
    },
    End,
}

/// Starts the writer.
///
/// # Errors
/// [`std::io::Error`] if there can be no thread. That the kernel cannot be asked comes as [`Report::Failed`].
pub fn start(
    settings: Settings,
    beginning: Beginning,
    report: impl Fn(Report) + Send + 'static,
) -> std::io::Result<Nft> {
    let (sender, receiver) = mpsc::channel();
    let for_drift = sender.clone();
    std::thread::Builder::new()
        .name("nft-writer".to_owned())
        .spawn(move || writer::run(&settings, beginning, &receiver, for_drift, &report))?;
    Ok(Nft {
        sender: Arc::new(Sender(sender)),
    })
}

impl Nft {
    /// Has a change done; returns when the kernel has it.
    ///
    /// # Errors
    /// [`NftError`]. The planner keeps the change, and the writer goes on trying.
    pub async fn apply(&self, change: Change) -> Result<(), NftError> {
        self.submit(change).await.unwrap_or(Err(NftError::Ended))
    }

    /// Orders a change and does not wait: changes are done in the order of these calls. What comes back says when the kernel
    /// has it, or why not; it is closed if the writer has ended.
    pub fn submit(&self, change: Change) -> oneshot::Receiver<Result<(), NftError>> {
        let (done, answer) = oneshot::channel();
        // If this fails `done` is dropped, and the receiver is closed.
        let _ = self.send(Command::Change { change, done });
        answer
    }

    /// Looks at the planner, between two changes.
    ///
    /// # Errors
    /// [`NftError::Ended`].
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Planner) -> T + Send + 'static,
    ) -> Result<T, NftError> {
        let (found, answer) = oneshot::channel();
        let look = move |planner: &Planner| {
            // The asker may have gone.
            let _ = found.send(look(planner));
        };
        self.send(Command::Ask(Box::new(look)))?;
        answer.await.map_err(|_| NftError::Ended)
    }

    /// A handle whose writer says nothing for as long as what comes with it is kept.
    #[cfg(test)]
    pub(crate) fn silent() -> (Self, impl Sized) {
        let (sender, receiver) = mpsc::channel();
        let sender = Arc::new(Sender(sender));
        (Self { sender }, receiver)
    }

    fn send(&self, command: Command) -> Result<(), NftError> {
        self.sender.0.send(command).map_err(|_| NftError::Ended)
    }
}

#[cfg(test)]
mod tests;
