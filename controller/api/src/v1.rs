//! Our own kinds, `margay.io/v1alpha1` (DESIGN §6).

mod bgppeer;
mod ippool;
mod networkconfig;

pub use bgppeer::{BgpPeer, BgpPeerSpec};
pub use ippool::{IpPool, IpPoolSpec};
pub use networkconfig::{NetworkConfig, NetworkConfigSpec};

/// `apiVersion` of all of them.
pub const API_VERSION: &str = "margay.io/v1alpha1";
