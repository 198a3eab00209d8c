//! The one place that reads the clock.

use std::time::Instant;

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "the driver is where time enters")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
