//! The daemon's clock.

use std::time::Instant;

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this daemon reads a clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
