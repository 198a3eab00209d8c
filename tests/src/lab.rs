//! The lab: a cluster of network namespaces on one machine, with a router that is not ours.

pub mod bird;
pub mod clock;
pub mod cluster;
pub mod cni;
mod complete;
pub mod daemon;
mod daemons;
pub mod guard;
pub mod http;
pub mod ip;
pub mod netns;
pub mod objects;
pub mod pods;
pub mod probe;
pub mod prober;
pub mod process;
pub mod settle;
pub mod topology;
pub mod traffic;
