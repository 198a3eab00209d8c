//! Sends real packets and sees whether they get through: sockets of many namespaces on one thread.

mod client;
mod icmp;
mod server;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::netns::Netns;

/// What a probe sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// A TCP connection.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An SCTP association.
    Sctp,
    /// An ICMP or `ICMPv6` echo request.
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

/// One thing to try.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Where the client's socket is.
    pub netns: Arc<Netns>,
    /// The client's address; `None`: as the kernel chooses.
    pub source: Option<IpAddr>,
    /// The server's address.
    pub destination: IpAddr,
    /// What to send.
    pub protocol: Protocol,
    /// The server's port; 0 for ICMP.
    pub port: u16,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An answer: echo, accepted connection, reset, port unreachable.
    Through,
    /// Nothing at all until the deadline.
    Silence,
    /// The kernel refused to send or a router answered: not a verdict of policy.
    Failed(String),
    /// Cannot be tried here: why.
    Skipped(String),
}

/// Ports to answer on, in one namespace.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The namespace.
    pub netns: Arc<Netns>,
    /// Addresses to answer from.
    pub addresses: BTreeSet<IpAddr>,
    /// Protocols and ports.
    pub ports: BTreeSet<(Protocol, u16)>,
}

/// A thread that listens and shoots. Dropping it closes all its sockets.
#[derive(Debug)]
pub struct Prober {
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<thread::JoinHandle<()>>,
}

enum Order {
    Listen(Listener, oneshot::Sender<Result<ListenerId>>),
    Close(ListenerId, oneshot::Sender<()>),
    Shoot(Vec<Shot>, Effort, oneshot::Sender<Vec<Seen>>),
}

/// Names an open [`Listener`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(u64);

/// How hard a prober tries.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Shots under way at once.
    pub at_once: usize,
    /// How long each try waits for an answer; after the last it is silence.
    pub tries: &'static [Duration],
}

impl Default for Effort {
    fn default() -> Self {
        const TRIES: &[Duration] = &[
            Duration::from_millis(250),
            Duration::from_millis(350),
            Duration::from_millis(500),
        ];
        Self {
            at_once: 400,
            tries: TRIES,
        }
    }
}

impl Prober {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread or no event queue.
    pub fn start() -> Result<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || runtime.block_on(serve(inbox)))?;
        Ok(Self {
            orders,
            thread: Some(thread),
        })
    }

    /// Listens until [`Prober::close`]. Answers are sent as soon as this returns.
    ///
    /// # Errors
    /// If a port cannot be opened; which one.
    pub fn listen(&self, listener: Listener) -> Result<ListenerId> {
        self.order(|answer| Order::Listen(listener, answer))?
    }

    /// Closes a listener and its connections.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn close(&self, id: ListenerId) -> Result<()> {
        self.order(|answer| Order::Close(id, answer))
    }

    /// Tries all, many at once; the results in the same order.
    ///
    /// # Errors
    /// If the thread has ended.
    pub fn shoot(&self, shots: Vec<Shot>, effort: Effort) -> Result<Vec<Seen>> {
        self.order(|answer| Order::Shoot(shots, effort, answer))
    }

    fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T> {
        let (answer, result) = oneshot::channel();
        self.orders
            .send(order(answer))
            .map_err(|_| anyhow!("the prober has ended"))?;
        result.blocking_recv().context("the prober has ended")
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.orders = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Serves orders one after the other; shots run beside listeners on the same thread.
async fn serve(mut inbox: mpsc::UnboundedReceiver<Order>) {
    let mut open = std::collections::BTreeMap::new();
    let mut last = 0;
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Listen(listener, answer) => {
                let result = server::listen(&listener).map(|tasks| {
                    last += 1;
                    open.insert(ListenerId(last), tasks);
                    ListenerId(last)
                });
                let _nobody_waits = answer.send(result);
            }
            Order::Close(id, answer) => {
                if let Some(mut tasks) = open.remove(&id) {
                    tasks.shutdown().await;
                }
                let _nobody_waits = answer.send(());
            }
            Order::Shoot(shots, effort, answer) => {
                tokio::task::spawn(async move {
                    let _nobody_waits = answer.send(client::shoot(shots, effort).await);
                });
            }
        }
    }
}

/// Runs `work` with the calling thread inside `netns` and returns to where it was.
fn inside<T>(netns: &Netns, work: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    // The thread is the prober's own: it never goes back, each use enters first.
    netns.enter()?;
    work()
}

pub(super) use client::client_socket;

#[cfg(test)]
mod tests;
