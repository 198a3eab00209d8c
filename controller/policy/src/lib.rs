//! Network policy: model, selectors, incremental index, compiler, and the naive evaluator.
//!
//! Pure: values in, values out. See `controller/DESIGN.md`.
#![forbid(unsafe_code)]

mod blocks;
mod canonical;
pub mod compile;
pub mod explain;
pub mod flow;
pub mod generate;
pub mod index;
pub mod model;
pub mod node_policy;
mod rules;
pub mod selector;
pub mod verdict;

pub use compile::compile;
pub use index::Index;
