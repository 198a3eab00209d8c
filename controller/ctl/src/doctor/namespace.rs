//! The network namespace of a node, found by the process that owns its socket.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{getsockopt, sockopt};

/// Where to look from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Namespace {
    /// The namespace that margayctl was started in.
    Own,
    /// That of this process.
    Process(i32),
}

impl Namespace {
    /// The namespace of the process that listens on the unix socket `path`; `None` if nobody does.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let pid = listener(path)?;
        let own = std::fs::read_link("/proc/thread-self/ns/net").ok()?;
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        Some(if own == theirs {
            Self::Own
        } else {
            Self::Process(pid)
        })
    }

    /// Runs `work` on a thread of its own inside the namespace: a process enters none back.
    ///
    /// # Errors
    /// The namespace may not be entered (it takes root), or is gone.
    pub(super) fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let enter = match self {
            Self::Own => None,
            Self::Process(pid) => {
                let path = format!("/proc/{pid}/ns/net");
                Some(File::open(&path).with_context(|| format!("cannot open {path}"))?)
            }
        };
        let thread = thread::spawn(move || {
            if let Some(namespace) = enter {
                setns(namespace, CloneFlags::CLONE_NEWNET)
                    .context("cannot enter the node's network namespace (this takes root)")?;
            }
            Ok(work())
        });
        thread
            .join()
            .map_err(|_| anyhow!("the examination broke off"))?
    }
}

fn listener(path: &Path) -> Option<i32> {
    let stream = UnixStream::connect(path).ok()?;
    let credentials = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
    Some(credentials.pid()).filter(|pid| *pid > 0)
}
