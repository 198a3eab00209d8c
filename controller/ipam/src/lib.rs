//! IP address management: pools, blocks and allocation as a plan over values.
//!
//! Two halves. The controller's: [`pool::claim`] chooses a block of a pool for a node. The node's:
//! [`allocator::Allocator`] hands out addresses inside the node's blocks, alone. Pure: see
//! `controller/DESIGN.md`.
#![forbid(unsafe_code)]

pub mod allocator;
mod family;
pub mod pool;
mod source;

pub use family::Family;
pub use source::Source;
