//! Which routes of a peer are usable at all (RFC 4271 §9.1.2, §6.3).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::settings::{LocalAs, OldAs, Switch};
use crate::types::{Asn, BgpId};
use crate::wire::community::GRACEFUL_SHUTDOWN;
use crate::wire::{MAX_EXTENDED, NextHop, PathAttrs, PeerKind};

/// What a route is checked against.
#[derive(Clone, Debug)]
pub(crate) struct Importer<'a> {
    /// Our AS number.
    pub(crate) asn: Asn,
    /// How often it may stand in `AS_PATH`.
    pub(crate) allow_own_as: u8,
    /// What we are called towards the peer (RFC 7705).
    pub(crate) local_as: Option<LocalAs>,
    /// Our identifier.
    pub(crate) bgp_id: BgpId,
    /// The cluster that we reflect for.
    pub(crate) cluster: BgpId,
    /// Whose routes.
    pub(crate) kind: PeerKind,
    /// Whether `GRACEFUL_SHUTDOWN` from an eBGP peer is obeyed (RFC 8326 §4.2).
    pub(crate) graceful_shutdown: Switch,
    /// Whether nothing is taken for want of a filter (RFC 8212).
    pub(crate) without_policy: Switch,
    /// Our address in the session.
    pub(crate) local: IpAddr,
    /// All addresses known to be ours.
    pub(crate) own: &'a BTreeSet<IpAddr>,
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
    /// Attributes that no message of ours could hold.
    #[error("its attributes take {0} octets, more than can be passed on")]
    TooLong(usize),
    /// The import filter rejects it.
    #[error("the import filter rejects it")]
    Filter,
    /// An eBGP peer without import filter (RFC 8212 §3).
    #[error("an eBGP peer needs an import filter before its routes are used (RFC 8212)")]
    NoPolicy,
    /// More prefixes than the peer may announce.
    #[error("the peer announces more prefixes than the limit of {0}")]
    Limit(u32),
}

impl Importer<'_> {
    /// Checks what the routes of one UPDATE share.
    ///
    /// # Errors
    /// Why none of them is used.
    pub(crate) fn check(&self, attrs: &PathAttrs, next_hop: NextHop) -> Result<(), Refusal> {
        if self.without_policy.is_on() {
            return Err(Refusal::NoPolicy);
        }
        if attrs.as_path.count(self.asn) > usize::from(self.allow_own_as) {
            return Err(Refusal::AsLoop);
        }
        let local = self.local_as.map(|local| local.asn);
        if let Some(local) = local.filter(|local| *local != self.asn)
            && attrs.as_path.count(local) > usize::from(self.allow_own_as)
        {
            return Err(Refusal::AsLoop);
        }
        if attrs.originator_id == Some(self.bgp_id) || attrs.cluster_list.contains(&self.cluster) {
            return Err(Refusal::Reflected);
        }
        if attrs.as_path.has_confederation() {
            return Err(Refusal::Confederation);
        }
        let next_hop = next_hop.address();
        if next_hop == self.local || self.own.contains(&next_hop) {
            return Err(Refusal::NextHopIsOurs(next_hop));
        }
        let usable = match next_hop {
            IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
            IpAddr::V6(v6) => {
                !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
                    // A session over a link knows on which link the address is.
                    || (v6.is_unicast_link_local() && is_link_local(self.local))
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
    pub(crate) fn check_prefix(prefix: &IpNet) -> Result<(), Refusal> {
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

impl Importer<'_> {
    /// The attributes as they go into the table.
    ///
    /// # Errors
    /// If they are too long: a message may hold 65535 octets, but AS numbers grow from two octets to four, and what is
    /// put in front of a path comes on top.
    pub(crate) fn taken(&self, mut attrs: PathAttrs) -> Result<PathAttrs, Refusal> {
        if self.kind == PeerKind::Ebgp {
            if let Some(local) = self.local_as.filter(|local| local.real == OldAs::Shown) {
                attrs.as_path = attrs.as_path.prepended(local.asn); // RFC 7705 §3.1
            }
            if self.graceful_shutdown.is_on() && attrs.communities.contains(&GRACEFUL_SHUTDOWN) {
                attrs.local_pref = Some(0);
            }
        }
        fits(attrs)
    }
}

/// Gives the attributes back if they can be encoded whatever is added on the way.
pub(crate) fn fits(attrs: PathAttrs) -> Result<PathAttrs, Refusal> {
    match attrs.bulk() {
        long if long > MAX_EXTENDED / 2 => Err(Refusal::TooLong(long)),
        _ => Ok(attrs),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
