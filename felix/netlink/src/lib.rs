//! Links, addresses, neighbours and routes over route netlink: blocking sockets, without any runtime.
//!
//! A [`Batch`] holds messages, a [`Connection`] sends them packed in few system calls and names
//! what failed in words. A connection acts in the network namespace where its socket was opened, so one
//! that was opened elsewhere and handed over works there without entering it. A [`Monitor`] tells what changed.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's message types are open-ended, and most of them are not ours to read"
)]

pub mod address;
pub mod batch;
pub mod connection;
pub mod error;
pub mod link;
pub mod monitor;
pub mod neighbour;
pub mod route;
mod sys;

pub use batch::Batch;
pub use connection::Connection;
pub use error::{Doing, Error};
pub use link::{Link, LinkRef, Mac, Veth};
pub use monitor::{Event, Monitor};
pub use route::{NextHop, Route, RouteKind};
