//! Timers that do not march in step (RFC 4271 §10).

use std::time::Duration;

/// A row of numbers that looks random and is the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (`SplitMix64`).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 75 % to 100 % of `duration`.
    pub(crate) fn shorten(&mut self, duration: Duration) -> Duration {
        let permille = 750 + u32::try_from(self.next() % 251).expect("below 251");
        duration * permille / 1000
    }
}

#[cfg(test)]
mod tests;
