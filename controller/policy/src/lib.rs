//! Network policy: model, selectors, incremental index, compiler, and the naive evaluator.
//!
//! Pure: values in, values out. See `controller/DESIGN.md`.
#![forbid(unsafe_code)]

pub mod explain;
pub mod flow;
pub mod model;
pub mod node_policy;
pub mod verdict;
