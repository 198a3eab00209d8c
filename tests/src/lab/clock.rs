//! The one place where the lab asks for the time.

use std::time::{Duration, Instant};

/// The time now.
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the lab's only clock")]
    Instant::now()
}

/// A point in time at which waiting ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    length: Duration,
}

impl Deadline {
    /// Ends `length` from now.
    pub fn after(length: Duration) -> Self {
        Self {
            start: now(),
            length,
        }
    }

    /// How long ago it was set.
    pub fn elapsed(&self) -> Duration {
        now().duration_since(self.start)
    }

    /// Whether it has passed.
    pub fn is_over(&self) -> bool {
        self.elapsed() >= self.length
    }
}

/// Asks `condition` again and again (every few milliseconds) until it gives a value.
///
/// # Errors
/// `what` and the last reason `condition` gave, if it gave no value within `length`.
pub fn wait<T>(
    what: &str,
    length: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> anyhow::Result<T> {
    let deadline = Deadline::after(length);
    let mut pause = Duration::from_millis(1);
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(reason) if deadline.is_over() => {
                anyhow::bail!("{what}: not within {} s: {reason}", length.as_secs_f32());
            }
            Err(_) => std::thread::park_timeout(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
