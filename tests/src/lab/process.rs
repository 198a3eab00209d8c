//! Processes inside namespaces: started with the capabilities they may have, ended by their id.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use super::netns::Netns;

/// Which capabilities a process may ever have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Those of the lab itself.
    Full,
    /// `CAP_NET_ADMIN` and `CAP_NET_BIND_SERVICE`: felix.
    Felix,
}

/// Starts `command` inside `netns`, in a process group of its own, output appended to `log`.
///
/// # Errors
/// If the namespace cannot be entered, the log not opened or the program not started.
pub fn spawn(
    netns: &Netns,
    privilege: Privilege,
    command: &mut Command,
    log: &Path,
) -> Result<Child> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    netns.run(move || {
        if privilege == Privilege::Felix {
            // A child of root has after exec what the bounding set leaves; it is a thread's own.
            let keep =
                CapsHashSet::from([Capability::CAP_NET_ADMIN, Capability::CAP_NET_BIND_SERVICE]);
            for capability in caps::read(None, CapSet::Bounding)?.difference(&keep) {
                caps::drop(None, CapSet::Bounding, *capability)?;
            }
        }
        command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))
    })
}

/// Ends a process with SIGKILL; one that is gone is no error.
pub fn kill(pid: u32) {
    signal(pid, Signal::SIGKILL);
}

/// Sends a signal to a process; one that is gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // ESRCH is the only error that root can get for a valid signal.
        let _gone = send(Pid::from_raw(pid), signal);
    }
}

/// The path of one of our programs: beside the running one, or one folder up (tests run from `deps`).
///
/// # Errors
/// If it is in neither place: what to build.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no program {name} beside {}: run `make build`",
                own.display()
            )
        })
}

/// Whether a failure of an I/O call only says that something is not there.
pub fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
