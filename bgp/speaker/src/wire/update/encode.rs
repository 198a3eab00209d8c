//! UPDATEs with as many prefixes as fit.

use std::net::IpAddr;

use ipnet::IpNet;

use super::AsWidth;
use crate::types::Family;
use crate::wire::attrs::{PathAttrs, code, flag, put_attr};
use crate::wire::octets::{len16, put_u16};
use crate::wire::prefix::put_prefix;
use crate::wire::{HEADER_LEN, MAX_MESSAGE, MessageType, afi_safi, frame};

/// One UPDATE that announces as many of `prefixes` as fit, from the front; those are taken.
///
/// All must be of `next_hop`'s family. `None` if not even one fits beside the attributes, or if there is
/// none: then nothing is taken.
pub fn encode_announcement(
    attrs: &PathAttrs,
    next_hop: IpAddr,
    prefixes: &mut &[IpNet],
    width: AsWidth,
) -> Option<Vec<u8>> {
    if attrs.bulk() > MAX_MESSAGE {
        return None;
    }
    let mut attributes = Vec::with_capacity(64);
    let mut message = match next_hop {
        IpAddr::V4(next_hop) => {
            attrs.put(&mut attributes, Some(next_hop), width);
            let room = MAX_MESSAGE.checked_sub(HEADER_LEN + 4 + attributes.len())?;
            let nlri = take_fitting(prefixes, room);
            if nlri.is_empty() {
                return None;
            }
            frame(MessageType::Update, |body| {
                put_u16(body, 0);
                put_u16(body, len16(attributes.len()));
                body.extend_from_slice(&attributes);
                body.extend_from_slice(&nlri);
            })
        }
        IpAddr::V6(next_hop) => {
            attrs.put(&mut attributes, None, width);
            let (afi, safi) = afi_safi(Family::Ipv6);
            let mut reach = afi.to_be_bytes().to_vec();
            reach.extend_from_slice(&[safi, 16]);
            reach.extend_from_slice(&next_hop.octets());
            reach.push(0);
            let room =
                (MAX_MESSAGE - HEADER_LEN - 4 - 4 - reach.len()).checked_sub(attributes.len())?;
            let nlri = take_fitting(prefixes, room);
            if nlri.is_empty() {
                return None;
            }
            reach.extend_from_slice(&nlri);
            frame(MessageType::Update, |body| {
                let mut first = Vec::with_capacity(reach.len() + 4);
                // First of all, so that a broken attribute cannot hide the prefixes (RFC 7606 §5.1).
                put_attr(&mut first, flag::OPTIONAL, code::MP_REACH, &reach);
                put_u16(body, 0);
                put_u16(body, len16(first.len() + attributes.len()));
                body.extend_from_slice(&first);
                body.extend_from_slice(&attributes);
            })
        }
    };
    message.shrink_to_fit();
    Some(message)
}

/// One UPDATE that withdraws as many of `prefixes` as fit, from the front; those are taken. All must be of
/// `family`. `None` if there is none.
pub fn encode_withdrawal(family: Family, prefixes: &mut &[IpNet]) -> Option<Vec<u8>> {
    let room = MAX_MESSAGE - HEADER_LEN - 4 - 7;
    let octets = take_fitting(prefixes, room);
    (!octets.is_empty()).then(|| match family {
        Family::Ipv4 => frame(MessageType::Update, |body| {
            put_u16(body, len16(octets.len()));
            body.extend_from_slice(&octets);
            put_u16(body, 0);
        }),
        Family::Ipv6 => unreach(family, &octets),
    })
}

/// The message that says: these were all routes of `family` (RFC 4724 §2).
pub fn encode_end_of_rib(family: Family) -> Vec<u8> {
    match family {
        Family::Ipv4 => frame(MessageType::Update, |body| body.extend_from_slice(&[0; 4])),
        Family::Ipv6 => unreach(family, &[]),
    }
}

fn unreach(family: Family, prefixes: &[u8]) -> Vec<u8> {
    let (afi, safi) = afi_safi(family);
    let mut value = afi.to_be_bytes().to_vec();
    value.push(safi);
    value.extend_from_slice(prefixes);
    let mut attribute = Vec::with_capacity(value.len() + 4);
    put_attr(&mut attribute, flag::OPTIONAL, code::MP_UNREACH, &value);
    frame(MessageType::Update, |body| {
        put_u16(body, 0);
        put_u16(body, len16(attribute.len()));
        body.extend_from_slice(&attribute);
    })
}

/// Takes prefixes off the front as long as they fit into `room` octets.
fn take_fitting(prefixes: &mut &[IpNet], room: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    while let Some((first, rest)) = prefixes.split_first() {
        let needed = 1 + usize::from(first.prefix_len().div_ceil(8));
        if octets.len() + needed > room {
            break;
        }
        put_prefix(&mut octets, first);
        *prefixes = rest;
    }
    octets
}
