//! A BGP speaker without I/O: codec, FSM, RIBs, decision process.
#![forbid(unsafe_code)]

pub mod route;
pub mod settings;
pub mod status;
pub mod types;

pub use route::RouteChange;
pub use settings::{Dial, Export, HoldTime, NextHops, PeerSettings, Settings};
pub use status::PeerStatus;
pub use types::{Asn, BgpId, Family, PeerName, State};
