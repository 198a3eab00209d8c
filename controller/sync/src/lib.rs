//! The protocol between controller and felix: messages, sequencing, replica.
//!
//! Pure: the daemons move the bytes. See `controller/DESIGN.md`.
#![forbid(unsafe_code)]

pub mod message;
pub mod status;
