//! Our own kinds, `margay.io/v1alpha1` (DESIGN §6).

pub mod bgp;
pub mod bgpfilter;
pub mod bgppeer;
pub mod crds;
pub mod ipblock;
mod ippool;
pub mod networkconfig;
mod nodestatus;
mod schema;

pub use bgpfilter::{BgpFilter, BgpFilterSpec};
pub use bgppeer::{BgpPeer, BgpPeerSpec};
pub use ipblock::{IpBlock, IpBlockSpec};
pub use ippool::{IpPool, IpPoolSpec};
pub use networkconfig::{BgpSpec, IpamMode, NetworkConfig, NetworkConfigSpec, Topology};
pub use nodestatus::{BlockUse, NodeStatus, NodeStatusSpec, NodeStatusStatus, Repair, Session};

/// `apiVersion` of all of them.
pub const API_VERSION: &str = "margay.io/v1alpha1";
