//! OPEN (RFC 4271 §4.2, RFC 9072).

use std::collections::BTreeSet;

use super::capability::{Capability, Forwarding, GracefulRestart, RestartState};
use super::octets::{len8, len16, put_u16, take_bytes, take_ipv4, take_u8, take_u16};
use super::{MessageType, Notification, afi_safi, family, frame};
use crate::settings::{HoldTime, Switch};
use crate::types::{Asn, BgpId, Family};

const CAPABILITIES: u8 = 2;
const EXTENDED: u8 = 255;

/// How many seconds a restart of ours may take before peers withdraw our routes, as Calico's default has it.
pub const RESTART_TIME: u16 = 120;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The field of two octets; [`Open::asn`] is the number that counts.
    pub my_as: u16,
    /// Proposed hold time.
    pub hold_time: HoldTime,
    /// Sender's identifier.
    pub bgp_id: BgpId,
    /// What the sender can do, in its order.
    pub capabilities: Vec<Capability>,
}

/// An OPEN that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not version 4.
    #[error("the peer speaks BGP version {0}; only 4 is known here")]
    Version(u8),
    /// Hold time 1 or 2.
    #[error("the peer proposes a hold time of {0} s; 0 or at least 3 is allowed")]
    HoldTime(u16),
    /// Identifier zero.
    #[error("the peer's BGP identifier is 0.0.0.0")]
    BgpId,
    /// AS number zero (RFC 7607).
    #[error("the peer's AS number is 0, which is reserved")]
    AsZero,
    /// An optional parameter other than capabilities.
    #[error("the peer's OPEN has the unknown optional parameter {0}")]
    Parameter(u8),
    /// Lengths that do not fit.
    #[error("the peer's OPEN is malformed: {0} runs over its end")]
    Malformed(&'static str),
    /// A capability whose length is not the one of its kind.
    #[error("the peer's OPEN has capability {code} with {length} octets, which it cannot have")]
    Capability {
        /// Its code.
        code: u8,
        /// Its length.
        length: usize,
    },
}

impl OpenError {
    /// What the peer is told (RFC 4271 §6.2).
    pub fn notification(&self) -> Notification {
        match self {
            Self::Version(_) => Notification::new(2, 1, &[0, 4]),
            Self::HoldTime(_) => Notification::new(2, 6, &[]),
            Self::BgpId => Notification::bad_bgp_id(),
            Self::AsZero => Notification::bad_peer_as(),
            Self::Parameter(_) => Notification::new(2, 4, &[]),
            Self::Malformed(_) | Self::Capability { .. } => Notification::new(2, 0, &[]),
        }
    }
}

impl Open {
    /// Our OPEN.
    ///
    /// The owner of the kernel's routes keeps them over our restart, so forwarding is said to be preserved.
    pub fn new(
        asn: Asn,
        hold_time: HoldTime,
        bgp_id: BgpId,
        families: &BTreeSet<Family>,
        state: RestartState,
    ) -> Self {
        let restart = GracefulRestart {
            state,
            notification: Switch::Off,
            time: RESTART_TIME,
            families: families
                .iter()
                .map(|family| (afi_safi(*family), Forwarding::Preserved))
                .collect(),
        };
        let multiprotocol = families.iter().map(|family| {
            let (afi, safi) = afi_safi(*family);
            Capability::Multiprotocol { afi, safi }
        });
        Self {
            my_as: asn.two_octets(),
            hold_time,
            bgp_id,
            capabilities: multiprotocol
                .chain([
                    Capability::RouteRefresh,
                    Capability::FourOctetAs(asn),
                    Capability::GracefulRestart(restart),
                ])
                .collect(),
        }
    }

    /// The sender's AS number: of the capability if there is one (RFC 6793 §4.1).
    pub fn asn(&self) -> Asn {
        self.four_octet_as().unwrap_or(Asn(self.my_as.into()))
    }

    /// The number in the four-octet capability.
    pub fn four_octet_as(&self) -> Option<Asn> {
        self.find(Capability::as_four_octet_as)
    }

    /// What the first capability has that `of` knows something of.
    pub fn find<'a, T>(&'a self, of: impl FnMut(&'a Capability) -> Option<T>) -> Option<T> {
        self.capabilities.iter().find_map(of)
    }

    /// How the sender restarts, if it does so gracefully; of several capabilities the last counts.
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        let mut restarts = self.capabilities.iter().rev();
        restarts.find_map(Capability::as_graceful_restart)
    }

    /// The families that the sender speaks, of those we know; without any multiprotocol capability that is
    /// IPv4 unicast.
    pub fn families(&self) -> BTreeSet<Family> {
        let mut explicit = false;
        let mut families = BTreeSet::new();
        for capability in &self.capabilities {
            if let Capability::Multiprotocol { afi, safi } = capability {
                explicit = true;
                families.extend(family(*afi, *safi));
            }
        }
        if !explicit {
            families.insert(Family::Ipv4);
        }
        families
    }

    /// The whole message; with the lengths of RFC 9072 when 255 octets of parameters do not suffice.
    pub fn encode(&self) -> Vec<u8> {
        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            capability.put(&mut capabilities);
        }
        frame(MessageType::Open, |body| {
            body.push(4);
            put_u16(body, self.my_as);
            put_u16(body, self.hold_time.as_secs());
            body.extend_from_slice(&self.bgp_id.0.octets());
            if capabilities.is_empty() {
                body.push(0);
            } else if capabilities.len() + 2 < usize::from(EXTENDED) {
                body.extend_from_slice(&[len8(capabilities.len() + 2), CAPABILITIES]);
                body.push(len8(capabilities.len()));
            } else {
                body.extend_from_slice(&[EXTENDED, EXTENDED]);
                put_u16(body, len16(capabilities.len() + 3));
                body.push(CAPABILITIES);
                put_u16(body, len16(capabilities.len()));
            }
            body.extend_from_slice(&capabilities);
        })
    }

    /// Reads the body of an OPEN.
    ///
    /// # Errors
    /// What is wrong with it; it knows the answer to the peer.
    pub fn decode(mut body: &[u8]) -> Result<Self, OpenError> {
        let header = "the fixed part";
        let octets = &mut body;
        let version = take_u8(octets).ok_or(OpenError::Malformed(header))?;
        if version != 4 {
            return Err(OpenError::Version(version));
        }
        let my_as = take_u16(octets).ok_or(OpenError::Malformed(header))?;
        let hold_time = take_u16(octets).ok_or(OpenError::Malformed(header))?;
        let bgp_id = BgpId(take_ipv4(octets).ok_or(OpenError::Malformed(header))?);
        let mut open = Self {
            my_as,
            hold_time: HoldTime::from_secs(hold_time),
            bgp_id,
            capabilities: take_parameters(octets)?,
        };
        open.capabilities.shrink_to_fit();
        if open.asn() == Asn(0) {
            return Err(OpenError::AsZero);
        }
        if open.hold_time.as_secs() != hold_time {
            return Err(OpenError::HoldTime(hold_time));
        }
        if bgp_id.0.is_unspecified() {
            return Err(OpenError::BgpId);
        }
        Ok(open)
    }
}

/// Takes the optional parameters, which fill the message to its end (RFC 4271 §4.2, RFC 9072 §2).
fn take_parameters(octets: &mut &[u8]) -> Result<Vec<Capability>, OpenError> {
    let overrun = OpenError::Malformed("the optional parameters");
    let short = take_u8(octets).ok_or(overrun.clone())?;
    let extended = short != 0 && octets.first() == Some(&EXTENDED);
    let length = if extended {
        take_u8(octets);
        take_u16(octets).ok_or(overrun.clone())?
    } else {
        u16::from(short)
    };
    if usize::from(length) != octets.len() {
        return Err(overrun);
    }
    let mut capabilities = Vec::new();
    while let Some(code) = take_u8(octets) {
        let length = if extended {
            take_u16(octets)
        } else {
            take_u8(octets).map(u16::from)
        };
        let mut value = length
            .and_then(|length| take_bytes(octets, length.into()))
            .ok_or(OpenError::Malformed("an optional parameter"))?;
        if code != CAPABILITIES {
            return Err(OpenError::Parameter(code));
        }
        while !value.is_empty() {
            capabilities.push(Capability::take(&mut value)?);
        }
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests;
