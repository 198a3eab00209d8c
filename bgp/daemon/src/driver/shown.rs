//! Bad messages, for whoever debugs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// At least between two that are shown.
const PAUSE: Duration = Duration::from_secs(1);

/// When one was last shown.
#[derive(Debug, Default)]
pub(super) struct Shown(Option<Instant>);

impl Shown {
    /// The message in hex, unless one was shown less than a second ago: a sick peer may send thousands.
    pub(super) fn hex(&mut self, octets: &[u8], now: Instant) -> Option<String> {
        if self.0.is_some_and(|last| now < last + PAUSE) {
            return None;
        }
        self.0 = Some(now);
        let mut text = String::with_capacity(2 * octets.len());
        for octet in octets {
            // Writing to a string never fails.
            let _ = write!(text, "{octet:02x}");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests;
