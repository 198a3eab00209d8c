//! The controller: sources, index, sync server, IPAM, status.
//!
//! Each task owns its state and has one way in: the [`sources::folder`] thread owns what files say, or tasks
//! of `sources::kubernetes` what the API server says, the [`index_task`] thread the cluster and the streams' sequencers, the [`allocate`] thread the
//! block claims; the server's tasks own nothing. See `controller/DESIGN.md`.

pub mod allocate;
pub mod args;
mod clock;
mod cluster;
pub mod controller;
mod durable;
mod health;
mod identity;
pub mod index_task;
pub mod network;
mod replicas;
pub mod serve;
pub mod sources;
pub mod status;
mod tls;
mod tokens;
