//! A BGP speaker without I/O: codec, FSM, RIBs, decision process.
//!
//! [`Speaker`] takes what a driver saw (connections, octets, timeouts, new [`Settings`]) and says what to
//! do ([`Action`]): dial, send, close, tell the kernel of a route. It has no socket, clock or task, so two
//! of them talk on one virtual clock in a test, and for real under the driver in `margay-bgpd`.
#![forbid(unsafe_code)]

pub mod bfd;
pub mod filter;

pub mod route;
pub mod session;
pub mod settings;
pub mod speaker;
pub mod status;
pub mod types;
pub mod wire;

mod export;
mod jitter;
mod rib;

pub use filter::Filter;
pub use rib::{Reach, Refusal, Step};
pub use route::RouteChange;
pub use settings::{Dial, Export, HoldTime, NextHops, PeerSettings, Settings, Switch};
pub use speaker::{Action, ConnectionId, Destination, Event, PathView, Speaker};
pub use status::{PeerStatus, Traffic};
pub use types::{Asn, BgpId, Family, PeerName, State};
