//! The node agent, as a library: `main.rs` only starts it, and tests look inside.
//!
//! Each kind of state has one owner: the replica of what the controller says is the sync client's ([`sync`]), attachments
//! and addresses are the core's ([`core`]), the table `inet margay` is the writer's ([`nft`]), links and routes are the
//! host thread's ([`host`]). They send each other messages; the core publishes a [`view`] for whoever shows or reports.

pub mod agent;
mod bgp;
mod clock;
mod cni;
mod control;
mod core;
mod disk;
mod gather;
mod health;
mod host;
mod journal;
mod locks;
mod mailbox;
mod names;
pub mod nft;
mod pods;
mod privileges;
mod routes;
mod saver;
pub mod settings;
mod sync;
mod sys;
mod view;

pub use settings::Args;
