//! How much memory something takes for a while.

use std::fs;

use anyhow::{Context, Result};

/// The process' resident memory, from a moment on.
pub(crate) struct Peak {
    before: u32,
}

impl Peak {
    /// Forgets the old peak.
    ///
    /// # Errors
    /// If `/proc/self` cannot be read or written.
    pub(crate) fn start() -> Result<Self> {
        fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self {
            before: kilobytes("VmRSS:")?,
        })
    }

    /// The most that there was since, less what there was then, in octets.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn grown(&self) -> Result<f64> {
        Ok(f64::from(kilobytes("VmHWM:")?.saturating_sub(self.before)) * 1024.0)
    }
}

fn kilobytes(field: &str) -> Result<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line
        .and_then(|line| line.split_whitespace().next())
        .context("no such field in /proc/self/status")?;
    Ok(number.parse()?)
}
