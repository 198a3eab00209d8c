//! Desired kernel state as values: rulesets, links, routes, and their differences.
//!
//! Pure: felix' daemon acts. See `felix/DESIGN.md`.
#![forbid(unsafe_code)]

pub mod diff;
pub mod epochs;
pub mod local;
pub mod lower;
pub mod names;
pub mod plan;
pub mod render;
pub mod rooms;
pub mod ruleset;
pub mod sim;
#[cfg(test)]
mod testing;
pub mod touched;
