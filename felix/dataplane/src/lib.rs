//! Desired kernel state as values: rulesets, links, routes, and their differences.
//!
//! Pure: felix' daemon acts. See `felix/DESIGN.md`.
#![forbid(unsafe_code)]

pub mod ruleset;
