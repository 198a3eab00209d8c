//! Which routes of a peer are usable at all (RFC 4271 §9.1.2, §6.3).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::types::{Asn, BgpId};
use crate::wire::PathAttrs;

/// What a route is checked against.
#[derive(Clone, Debug)]
pub struct Importer<'a> {
    /// Our AS number.
    pub asn: Asn,
    /// Our identifier.
    pub bgp_id: BgpId,
    /// Our address in the session.
    pub local: IpAddr,
    /// All addresses known to be ours.
    pub own: &'a BTreeSet<IpAddr>,
}

/// Why a route is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Our AS stands in `AS_PATH`.
    #[error("our own AS stands in its AS_PATH (a loop)")]
    AsLoop,
    /// It began with us, or passed us as a reflector (RFC 4456 §8).
    #[error("it has come back from a route reflector to where it began")]
    Reflected,
    /// Confederation segments from outside (RFC 5065 §5.3).
    #[error("its AS_PATH has confederation segments, and we are in no confederation")]
    Confederation,
    /// The next hop is one of our addresses.
    #[error("its next hop {0} is an address of ours")]
    NextHopIsOurs(IpAddr),
    /// The next hop cannot be a host elsewhere.
    #[error("its next hop {0} cannot be used")]
    NextHop(IpAddr),
    /// Nothing that can be routed to.
    #[error("{0} is not a prefix to route to")]
    Prefix(IpNet),
}

impl Importer<'_> {
    /// Checks what the routes of one UPDATE share.
    ///
    /// # Errors
    /// Why none of them is used.
    pub fn check(&self, attrs: &PathAttrs, next_hop: IpAddr) -> Result<(), Refusal> {
        if attrs.as_path.contains(self.asn) {
            return Err(Refusal::AsLoop);
        }
        if attrs.originator_id == Some(self.bgp_id) || attrs.cluster_list.contains(&self.bgp_id) {
            return Err(Refusal::Reflected);
        }
        if attrs.as_path.has_confederation() {
            return Err(Refusal::Confederation);
        }
        if next_hop == self.local || self.own.contains(&next_hop) {
            return Err(Refusal::NextHopIsOurs(next_hop));
        }
        let usable = match next_hop {
            IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
            IpAddr::V6(v6) => {
                !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
            }
        };
        // Loopback addresses mean something only between speakers of one host.
        if !usable || (next_hop.is_loopback() && !self.local.is_loopback()) {
            return Err(Refusal::NextHop(next_hop));
        }
        Ok(())
    }

    /// Checks one prefix.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn check_prefix(&self, prefix: &IpNet) -> Result<(), Refusal> {
        let network = prefix.network();
        let local = match network {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_multicast() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local(),
        };
        if local && prefix.prefix_len() > 0 {
            return Err(Refusal::Prefix(*prefix));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
