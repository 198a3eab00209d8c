//! The daemon's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this daemon reads a clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970; for what others wrote down or will read.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this daemon reads the calendar"
)]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
