//! `MP_REACH_NLRI` and `MP_UNREACH_NLRI` (RFC 4760 §3, §4).

use std::net::Ipv6Addr;

use super::{Context, MpReach, NextHop, UpdateError};
use crate::types::Family;
use crate::wire::attrs::code;
use crate::wire::family;
use crate::wire::octets::{take_bytes, take_ipv4, take_ipv6, take_u8, take_u16};
use crate::wire::prefix::Nlri;

/// `None` for a family that is not ours: such routes are ignored.
pub(super) fn decode_mp_reach(
    mut value: &[u8],
    context: Context,
) -> Result<Option<MpReach<'_>>, UpdateError> {
    let error = |what| UpdateError::Multiprotocol {
        code: code::MP_REACH,
        what,
    };
    let (Some(afi), Some(safi)) = (take_u16(&mut value), take_u8(&mut value)) else {
        return Err(error("it has no family"));
    };
    let mut next_hop = take_u8(&mut value)
        .and_then(|length| take_bytes(&mut value, length.into()))
        .ok_or(error("the next hop runs over its end"))?;
    take_u8(&mut value).ok_or(error("it ends before the prefixes"))?; // reserved
    let Some(family) = family(afi, safi) else {
        return Ok(None);
    };
    let octets = &mut next_hop;
    let six = family == Family::Ipv6 || context.extended_next_hop.is_on();
    let address = match octets.len() {
        4 if family == Family::Ipv4 => take_ipv4(octets).map(NextHop::V4),
        16 if six => take_ipv6(octets).map(NextHop::V6),
        32 if six => take_ipv6(octets)
            .zip(take_ipv6(octets))
            .map(|(address, link_local)| pair(address, link_local)),
        _ => None,
    };
    Ok(Some(MpReach {
        next_hop: address.ok_or(error(
            "the next hop has a length that its family cannot have",
        ))?,
        nlri: Nlri::parse(family, context.ids(family), value)?,
    }))
}

/// Of two addresses the second counts only if it is link-local; some speakers repeat it or send zeros, and a BIRD without a
/// global address sends zeros as the first.
fn pair(address: Ipv6Addr, link_local: Ipv6Addr) -> NextHop {
    if !link_local.is_unicast_link_local() || address.is_unicast_link_local() {
        NextHop::V6(address)
    } else if address.is_unspecified() {
        NextHop::V6(link_local)
    } else {
        NextHop::V6Pair(address, link_local)
    }
}

/// `None` for a family that is not ours.
pub(super) fn decode_mp_unreach(
    mut value: &[u8],
    context: Context,
) -> Result<Option<Nlri<'_>>, UpdateError> {
    let (Some(afi), Some(safi)) = (take_u16(&mut value), take_u8(&mut value)) else {
        return Err(UpdateError::Multiprotocol {
            code: code::MP_UNREACH,
            what: "it has no family",
        });
    };
    family(afi, safi)
        .map(|family| Nlri::parse(family, context.ids(family), value))
        .transpose()
}
