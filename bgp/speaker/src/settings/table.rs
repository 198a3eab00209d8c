//! How paths are compared, and who may become a peer.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::PeerSettings;
use crate::types::Asn;

/// How the best of several paths is found (RFC 4271 §9.1.2.2).
///
/// Paths of one neighbouring AS are always compared as a group (what other implementations call
/// deterministic MED): the result does not depend on the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BestPath {
    /// Which MEDs compare.
    pub med: MedComparison,
    /// How many equally good eBGP paths are used together; at least 1.
    pub multipath_external: u8,
    /// How many equally good iBGP paths are used together; at least 1.
    pub multipath_internal: u8,
}

impl Default for BestPath {
    fn default() -> Self {
        Self {
            med: MedComparison::SameNeighbour,
            multipath_external: 64,
            multipath_internal: 64,
        }
    }
}

/// Which MEDs compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MedComparison {
    /// Those of paths from one neighbouring AS (RFC 4271 §9.1.2.2 c).
    #[default]
    SameNeighbour,
    /// All (always-compare-MED).
    Always,
}

/// Whoever dials from a prefix becomes a peer, and is forgotten when its session has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRange {
    /// From where.
    pub prefix: IpNet,
    /// The AS numbers that are accepted; that of `template` if there is none.
    pub asns: BTreeSet<Asn>,
    /// How the peer is treated; its address stands for all, and it never dials.
    pub template: PeerSettings,
    /// How many may be there at once.
    pub limit: u32,
}
