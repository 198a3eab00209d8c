//! Where the time of an ADD goes.

use std::time::{Duration, Instant};

use crate::clock;

/// The steps of an ADD and how long each took, for the log at `debug`.
#[derive(Debug)]
pub(super) struct Pace {
    last: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Pace {
    /// Begins with the first step.
    pub(super) fn begin() -> Self {
        Self {
            last: clock::now(),
            steps: Vec::with_capacity(8),
        }
    }

    /// A step is done; the next one begins.
    pub(super) fn done(&mut self, step: &'static str) {
        let now = clock::now();
        let took = now.saturating_duration_since(self.last);
        self.steps.push((step, took));
        self.last = now;
    }

    /// Tells them, in microseconds (`tests/bench/kube/run.py --steps` reads this).
    pub(super) fn tell(&self) {
        let micros = |(step, took): &(&'static str, Duration)| (*step, took.as_micros());
        let steps: Vec<(&str, u128)> = self.steps.iter().map(micros).collect();
        tracing::debug!(?steps, "the steps of an ADD");
    }
}
