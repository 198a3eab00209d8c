//! The codec against itself, against noise, and against two foreign codecs.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the foreign enums are not exhaustive"
)]

mod bgpkit;
mod differential;
mod mutation;
mod round_trip;
mod strategies;
