//! UPDATEs with as many prefixes as fit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::AsWidth;
use crate::types::Family;
use crate::wire::attrs::{PathAttrs, code, flag, put_attr};
use crate::wire::octets::{len8, len16, put_u16, put_u32};
use crate::wire::prefix::{PathIds, put_prefix};
use crate::wire::{HEADER_LEN, MARKER, MAX_MESSAGE, MessageType, afi_safi, frame};

/// Where packets of a route go, as an UPDATE says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// `NEXT_HOP`.
    V4(Ipv4Addr),
    /// In `MP_REACH_NLRI`: a global address, or a link-local one alone.
    V6(Ipv6Addr),
    /// In `MP_REACH_NLRI`: a global address and the link-local one beside it (RFC 2545 §3).
    V6Pair(Ipv6Addr, Ipv6Addr),
}

impl NextHop {
    /// The global address.
    pub fn address(self) -> IpAddr {
        match self {
            Self::V4(address) => address.into(),
            Self::V6(address) | Self::V6Pair(address, _) => address.into(),
        }
    }

    /// The address to which packets are really sent: the link-local one where there is one.
    pub fn gateway(self) -> IpAddr {
        match self {
            Self::V4(address) => address.into(),
            Self::V6(address) | Self::V6Pair(_, address) => address.into(),
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

/// What both sides agreed on for UPDATEs of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of AS numbers.
    pub as_width: AsWidth,
    /// The longest message.
    pub max: usize,
    /// Whether path identifiers stand before prefixes.
    pub ids: PathIds,
}

impl Shape {
    /// As it is when nothing is agreed on.
    pub fn plain(as_width: AsWidth) -> Self {
        Self {
            as_width,
            max: MAX_MESSAGE,
            ids: PathIds::Absent,
        }
    }
}

/// Appends UPDATEs that announce `paths` (path identifier and prefix, all of `family`), each message as full as
/// it may be. Gives back how many of `paths` are in them: all, or none where the attributes leave no room.
pub fn put_announcements(
    to: &mut Vec<u8>,
    attrs: &PathAttrs,
    next_hop: NextHop,
    family: Family,
    paths: &[(u32, IpNet)],
    shape: Shape,
) -> usize {
    if attrs.bulk() > shape.max {
        return 0;
    }
    let mut attributes = Vec::with_capacity(64);
    let classic = match (family, next_hop) {
        (Family::Ipv4, NextHop::V4(address)) => Some(address),
        (Family::Ipv4 | Family::Ipv6, _) => None,
    };
    attrs.put(&mut attributes, classic, shape.as_width);
    let reach = if classic.is_some() {
        Vec::new()
    } else {
        reach_head(family, next_hop)
    };
    // The flags, code and length of MP_REACH_NLRI.
    let around = if classic.is_some() { 0 } else { 4 };
    let Some(room) = shape
        .max
        .checked_sub(HEADER_LEN + 4 + around + reach.len() + attributes.len())
    else {
        return 0;
    };
    let mut rest = paths;
    while !rest.is_empty() {
        let start = begin(to);
        put_u16(to, 0);
        let lengths = to.len();
        put_u16(to, 0);
        let before = rest.len();
        if classic.is_some() {
            to.extend_from_slice(&attributes);
            patch(to, lengths, lengths + 2);
            put_fitting(to, &mut rest, room, shape.ids);
        } else {
            // First of all, so that a broken attribute cannot hide the prefixes (RFC 7606 §5.1).
            to.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED, code::MP_REACH]);
            let length = to.len();
            put_u16(to, 0);
            to.extend_from_slice(&reach);
            put_fitting(to, &mut rest, room, shape.ids);
            patch(to, length, length + 2);
            to.extend_from_slice(&attributes);
            patch(to, lengths, lengths + 2);
        }
        if rest.len() == before {
            to.truncate(start);
            break;
        }
        patch(to, start + 16, start);
    }
    paths.len() - rest.len()
}

/// AFI, SAFI, next hop and the reserved octet of `MP_REACH_NLRI` (RFC 4760 §3, RFC 8950 §3).
fn reach_head(family: Family, next_hop: NextHop) -> Vec<u8> {
    let (afi, safi) = afi_safi(family);
    let mut address = Vec::with_capacity(32);
    match next_hop {
        NextHop::V4(v4) => address.extend_from_slice(&v4.octets()),
        NextHop::V6(v6) => address.extend_from_slice(&v6.octets()),
        NextHop::V6Pair(v6, link_local) => {
            address.extend_from_slice(&v6.octets());
            address.extend_from_slice(&link_local.octets());
        }
    }
    let mut reach = afi.to_be_bytes().to_vec();
    reach.extend_from_slice(&[safi, len8(address.len())]);
    reach.extend_from_slice(&address);
    reach.push(0);
    reach
}

/// Appends UPDATEs that withdraw `paths` (path identifier and prefix, all of `family`).
pub fn put_withdrawals(
    to: &mut Vec<u8>,
    family: Family,
    paths: &[(u32, IpNet)],
    max: usize,
    ids: PathIds,
) {
    let room = max - HEADER_LEN - 4 - 7;
    let mut rest = paths;
    while !rest.is_empty() {
        let start = begin(to);
        let length = to.len();
        put_u16(to, 0);
        match family {
            Family::Ipv4 => {
                put_fitting(to, &mut rest, room, ids);
                patch(to, length, length + 2);
                put_u16(to, 0);
            }
            Family::Ipv6 => {
                let lengths = to.len();
                put_u16(to, 0);
                to.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED, code::MP_UNREACH]);
                let length = to.len();
                put_u16(to, 0);
                let (afi, safi) = afi_safi(family);
                put_u16(to, afi);
                to.push(safi);
                put_fitting(to, &mut rest, room, ids);
                patch(to, length, length + 2);
                patch(to, lengths, lengths + 2);
            }
        }
        patch(to, start + 16, start);
    }
}

/// Appends the header of an UPDATE and says where it begins; its length is still to be patched.
fn begin(to: &mut Vec<u8>) -> usize {
    let start = to.len();
    to.extend_from_slice(&MARKER);
    put_u16(to, 0);
    to.push(MessageType::Update.code());
    start
}

/// Writes at `at` how many octets there are from `from` to the end.
fn patch(to: &mut [u8], at: usize, from: usize) {
    let length = len16(to.len() - from);
    to[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// Appends prefixes off the front as long as they fit into `room` octets.
fn put_fitting(to: &mut Vec<u8>, paths: &mut &[(u32, IpNet)], room: usize, ids: PathIds) {
    let end = to.len() + room;
    while let Some(((id, prefix), rest)) = paths.split_first() {
        let identifier = if ids == PathIds::Present { 4 } else { 0 };
        let needed = identifier + 1 + usize::from(prefix.prefix_len().div_ceil(8));
        if to.len() + needed > end {
            break;
        }
        if ids == PathIds::Present {
            put_u32(to, *id);
        }
        put_prefix(to, prefix);
        *paths = rest;
    }
}

/// The message that says: these were all routes of `family` (RFC 4724 §2).
pub fn encode_end_of_rib(family: Family) -> Vec<u8> {
    match family {
        Family::Ipv4 => frame(MessageType::Update, |body| body.extend_from_slice(&[0; 4])),
        Family::Ipv6 => {
            let (afi, safi) = afi_safi(family);
            let mut value = afi.to_be_bytes().to_vec();
            value.push(safi);
            let mut attribute = Vec::with_capacity(8);
            put_attr(&mut attribute, flag::OPTIONAL, code::MP_UNREACH, &value);
            frame(MessageType::Update, |body| {
                put_u16(body, 0);
                put_u16(body, len16(attribute.len()));
                body.extend_from_slice(&attribute);
            })
        }
    }
}
