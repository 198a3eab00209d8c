//! Prefixes on the wire (RFC 4271 §4.3, RFC 4760 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::octets::{take_bytes, take_u8};
use super::update::UpdateError;
use crate::types::Family;

/// A row of prefixes of one family, checked and not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlri<'a> {
    family: Family,
    octets: &'a [u8],
}

impl<'a> Nlri<'a> {
    /// No prefix.
    pub fn empty(family: Family) -> Self {
        Self {
            family,
            octets: &[],
        }
    }

    /// Checks that `octets` are prefixes of `family` and nothing else.
    ///
    /// # Errors
    /// [`UpdateError::Nlri`] at the first that is none.
    pub fn parse(family: Family, octets: &'a [u8]) -> Result<Self, UpdateError> {
        let mut rest = octets;
        while take_prefix(family, &mut rest)?.is_some() {}
        Ok(Self { family, octets })
    }

    /// The family of all.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The prefixes, in the order received.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + use<'a> {
        let Self { family, mut octets } = *self;
        std::iter::from_fn(move || take_prefix(family, &mut octets).ok().flatten())
    }
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
    let error = UpdateError::Nlri {
        bits,
        left: rest.len(),
    };
    let significant = take_bytes(&mut rest, usize::from(bits.div_ceil(8))).ok_or(error.clone())?;
    let prefix = match family {
        Family::Ipv4 => {
            let mut address = [0; 4];
            address
                .get_mut(..significant.len())
                .ok_or(error.clone())?
                .copy_from_slice(significant);
            Ipv4Net::new(Ipv4Addr::from(address), bits)
                .map_err(|_| error)?
                .trunc()
                .into()
        }
        Family::Ipv6 => {
            let mut address = [0; 16];
            address
                .get_mut(..significant.len())
                .ok_or(error.clone())?
                .copy_from_slice(significant);
            Ipv6Net::new(Ipv6Addr::from(address), bits)
                .map_err(|_| error)?
                .trunc()
                .into()
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
