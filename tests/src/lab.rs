//! The lab: a cluster of network namespaces on one machine, with a router that is not ours.

pub mod bird;
pub mod clock;
pub mod guard;
pub mod ip;
pub mod netns;
pub mod prober;
pub mod process;
pub mod topology;
