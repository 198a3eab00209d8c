//! The prefixes of an UPDATE and its attributes as octets, without taking these apart.

use super::{Context, MpReach, NextHop, decode_mp_reach};
use crate::types::Family;
use crate::wire::attrs::{code, flag};
use crate::wire::octets::{take_bytes, take_u8, take_u16};
use crate::wire::prefix::Nlri;

/// An UPDATE that announces prefixes by one next hop, with an attribute list that is whole.
pub(crate) struct Skeleton<'a> {
    withdrawn: Nlri<'a>,
    announced: Nlri<'a>,
}

impl<'a> Skeleton<'a> {
    /// Reads the body of an UPDATE. `key` becomes the octets that its routes' attributes depend on, next hop included.
    /// `None` if it announces nothing, or anything is out of the ordinary: then it is to be decoded.
    pub(crate) fn read(mut body: &'a [u8], context: Context, key: &mut Vec<u8>) -> Option<Self> {
        key.clear();
        let octets = &mut body;
        let length = take_u16(octets)?;
        let withdrawn = take_bytes(octets, length.into())?;
        let length = take_u16(octets)?;
        let attributes = take_bytes(octets, length.into())?;
        let ids = context.ids(Family::Ipv4);
        let classic = Nlri::parse(Family::Ipv4, ids, octets).ok()?;
        let withdrawn = Nlri::parse(Family::Ipv4, ids, withdrawn).ok()?;
        let mut reach: Option<MpReach<'a>> = None;
        let mut rest = attributes;
        while !rest.is_empty() {
            let whole = rest;
            let flags = take_u8(&mut rest)?;
            let code = take_u8(&mut rest)?;
            let length = if flags & flag::EXTENDED == 0 {
                usize::from(take_u8(&mut rest)?)
            } else {
                usize::from(take_u16(&mut rest)?)
            };
            let value = take_bytes(&mut rest, length)?;
            match code {
                code::MP_REACH => {
                    if reach.is_some() || flags & !flag::EXTENDED != flag::OPTIONAL {
                        return None;
                    }
                    let decoded = decode_mp_reach(value, context).ok()??;
                    // Code, family and next hop; the length would tell how many prefixes there are.
                    key.extend_from_slice(&[code, decoded.nlri.family() as u8]);
                    put_next_hop(key, decoded.next_hop);
                    reach = Some(decoded);
                }
                code::MP_UNREACH => return None,
                _ => key.extend_from_slice(&whole[..whole.len() - rest.len()]),
            }
        }
        let announced = match reach {
            Some(reach) if classic.is_empty() => reach.nlri,
            Some(_) => return None,
            None => classic,
        };
        (!announced.is_empty()).then_some(Self {
            withdrawn,
            announced,
        })
    }

    pub(crate) fn withdrawn(&self) -> [Nlri<'a>; 1] {
        [self.withdrawn]
    }

    pub(crate) fn announced(&self) -> [Nlri<'a>; 1] {
        [self.announced]
    }
}

fn put_next_hop(key: &mut Vec<u8>, next_hop: NextHop) {
    match next_hop {
        NextHop::V4(address) => key.extend_from_slice(&address.octets()),
        NextHop::V6(address) => key.extend_from_slice(&address.octets()),
        NextHop::V6Pair(address, link_local) => {
            key.extend_from_slice(&address.octets());
            key.extend_from_slice(&link_local.octets());
        }
    }
}
