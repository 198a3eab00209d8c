//! Prefixes on the wire (RFC 4271 §4.3, RFC 4760 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::octets::{take_bytes, take_u8, take_u32};
use super::update::UpdateError;
use crate::types::Family;

/// Whether each prefix has a path identifier before it (RFC 7911 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathIds {
    /// No; all count as 0.
    #[default]
    Absent,
    /// Yes.
    Present,
}

/// A row of prefixes of one family, checked and not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlri<'a> {
    family: Family,
    ids: PathIds,
    octets: &'a [u8],
}

impl<'a> Nlri<'a> {
    /// No prefix.
    pub fn empty(family: Family) -> Self {
        Self {
            family,
            ids: PathIds::Absent,
            octets: &[],
        }
    }

    /// Checks that `octets` are prefixes of `family` and nothing else.
    ///
    /// # Errors
    /// [`UpdateError::Nlri`] at the first that is none.
    pub fn parse(family: Family, ids: PathIds, octets: &'a [u8]) -> Result<Self, UpdateError> {
        let mut rest = octets;
        while take_path(family, ids, &mut rest)?.is_some() {}
        Ok(Self {
            family,
            ids,
            octets,
        })
    }

    /// The family of all.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The path identifiers and prefixes, in the order received.
    pub fn paths(&self) -> impl Iterator<Item = (u32, IpNet)> + use<'a> {
        let Self {
            family,
            ids,
            mut octets,
        } = *self;
        std::iter::from_fn(move || take_path(family, ids, &mut octets).ok().flatten())
    }

    /// The prefixes, in the order received.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + use<'a> {
        self.paths().map(|(_, prefix)| prefix)
    }
}

/// Takes a path identifier, if there are any, and a prefix off the front.
fn take_path(
    family: Family,
    ids: PathIds,
    octets: &mut &[u8],
) -> Result<Option<(u32, IpNet)>, UpdateError> {
    let mut rest = *octets;
    let id = match ids {
        PathIds::Absent => 0,
        PathIds::Present if rest.is_empty() => return Ok(None),
        PathIds::Present => take_u32(&mut rest).ok_or(UpdateError::Nlri {
            bits: 0,
            left: octets.len(),
        })?,
    };
    let prefix = take_prefix(family, &mut rest)?;
    if prefix.is_none() && ids == PathIds::Present {
        // An identifier without prefix.
        return Err(UpdateError::Nlri { bits: 0, left: 0 });
    }
    *octets = rest;
    Ok(prefix.map(|prefix| (id, prefix)))
}

/// Takes one prefix off the front of `octets`, or `None` at their end.
///
/// On the wire: a length in bits, then only as many octets as that needs. Host bits are cleared, so two
/// spellings of one prefix compare equal.
///
/// # Errors
/// [`UpdateError::Nlri`] if the length is too great for the family or octets are missing; `octets` is
/// unchanged then.
pub fn take_prefix(family: Family, octets: &mut &[u8]) -> Result<Option<IpNet>, UpdateError> {
    let mut rest = *octets;
    let Some(bits) = take_u8(&mut rest) else {
        return Ok(None);
    };
    let left = rest.len();
    let error = || UpdateError::Nlri { bits, left };
    let significant = take_bytes(&mut rest, usize::from(bits.div_ceil(8))).ok_or_else(error)?;
    let prefix = match family {
        Family::Ipv4 => {
            // Octet by octet: there are at most four, and this is where most time of a full table would go.
            let mut address = 0_u32;
            for (octet, shift) in significant.iter().zip([24, 16, 8, 0]) {
                address |= u32::from(*octet) << shift;
            }
            let net = Ipv4Net::new(Ipv4Addr::from_bits(address), bits).map_err(|_| error())?;
            net.trunc().into()
        }
        Family::Ipv6 => {
            let mut address = [0; 16];
            address
                .get_mut(..significant.len())
                .ok_or_else(error)?
                .copy_from_slice(significant);
            let net = Ipv6Net::new(Ipv6Addr::from(address), bits).map_err(|_| error())?;
            net.trunc().into()
        }
    };
    *octets = rest;
    Ok(Some(prefix))
}

/// Appends a prefix.
pub fn put_prefix(to: &mut Vec<u8>, prefix: &IpNet) {
    let octets = usize::from(prefix.prefix_len().div_ceil(8));
    to.push(prefix.prefix_len());
    match prefix.network() {
        IpAddr::V4(address) => to.extend_from_slice(&address.octets()[..octets]),
        IpAddr::V6(address) => to.extend_from_slice(&address.octets()[..octets]),
    }
}
