//! How much memory something takes for a while.

use std::fs;

use anyhow::{Context, Result};

/// The process' resident memory, from a moment on.
pub(crate) struct Peak {
    before: u64,
}

impl Peak {
    /// Forgets the old peak.
    ///
    /// # Errors
    /// If `/proc/self` cannot be read or written.
    pub(crate) fn start() -> Result<Self> {
        fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self {
            before: octets("VmRSS:")?,
        })
    }

    /// The most that there was since, less what there was then, in octets.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn grown(&self) -> Result<f64> {
        Ok(octets("VmHWM:")?.saturating_sub(self.before) as f64)
    }
}

fn octets(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line
        .and_then(|line| line.split_whitespace().next())
        .context("no such field in /proc/self/status")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}
