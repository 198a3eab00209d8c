//! A daemon of the lab: known by its id, also to a later process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use super::clock::wait;
use super::netns::Netns;
use super::process::{self, Privilege};

/// A running daemon, with its id in a file.
#[derive(Debug)]
pub struct Daemon {
    pid: u32,
    child: Option<Child>,
    file: PathBuf,
}

impl Daemon {
    /// Starts `command` in `netns`; `NAME.pid` and `NAME.log` are in `folder`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        netns: &Netns,
        privilege: Privilege,
        command: &mut Command,
        folder: &Path,
        name: &str,
    ) -> Result<Self> {
        let child = process::spawn(
            netns,
            privilege,
            command,
            &folder.join(format!("{name}.log")),
        )?;
        let file = folder.join(format!("{name}.pid"));
        fs::write(&file, child.id().to_string())?;
        Ok(Self {
            pid: child.id(),
            child: Some(child),
            file,
        })
    }

    /// One that an earlier process started.
    ///
    /// # Errors
    /// If its id is not there.
    pub fn open(folder: &Path, name: &str) -> Result<Self> {
        let file = folder.join(format!("{name}.pid"));
        let text = fs::read_to_string(&file).with_context(|| format!("{name} is not running"))?;
        let pid = text
            .trim()
            .parse()
            .with_context(|| format!("{} holds no process id", file.display()))?;
        Ok(Self {
            pid,
            child: None,
            file,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => lives(self.pid),
        }
    }

    /// Ends it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If it is still there after seconds.
    pub fn kill(self) -> Result<()> {
        process::kill(self.pid);
        if let Some(mut child) = self.child {
            child.wait()?;
        } else {
            wait("the process is gone", Duration::from_secs(5), || {
                if lives(self.pid) {
                    Err(format!("process {} lives", self.pid))
                } else {
                    Ok(())
                }
            })?;
        }
        match fs::remove_file(&self.file) {
            Err(error) if !process::is_absent(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Whether a process runs; one that only waits to be reaped does not.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name in parentheses comes the state.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
