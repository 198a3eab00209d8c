//! The protocol between controller and felix: messages, sequencing, replica.
//!
//! Pure: the daemons move the bytes. See `controller/DESIGN.md`.
#![forbid(unsafe_code)]

pub mod diff;
pub mod frame;
pub mod message;
pub mod replica;
pub mod sequencer;
pub mod squash;
pub mod status;

#[cfg(test)]
mod samples;
