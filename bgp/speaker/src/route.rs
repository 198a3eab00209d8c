//! What the owner of the routes is told.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::types::PeerName;

/// The best way to a prefix has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The destination.
    pub prefix: IpNet,
    /// All equally good next hops (ECMP); empty when the route is gone, or is our own announcement.
    pub next_hops: BTreeSet<IpAddr>,
    /// Who told the best path; `None` when gone.
    pub peer: Option<PeerName>,
}
