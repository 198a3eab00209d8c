//! The wire format: messages from octets and octets from messages (RFC 4271 §4).
//!
//! `take_x(&mut &[u8])` consumes from the front. Decoding borrows from the octets it is given; every error
//! knows what the RFCs have us do about it.

pub mod attrs;
pub mod capability;
pub mod community;
pub mod notification;
pub mod open;
pub mod prefix;
pub mod refresh;
pub mod update;

mod octets;

pub use attrs::{Aggregator, AsPath, Opaque, Origin, PathAttrs, Segment, SegmentKind};
pub use capability::{Capability, Forwarding, GracefulRestart, LongLived, RestartState};
pub use community::{ExtendedCommunity, LargeCommunity};
pub use notification::Notification;
pub use open::{Open, OpenError, RESTART_TIME};
pub use prefix::{Nlri, PathIds};
pub use refresh::{
    RefreshError, RefreshMark, RouteRefresh, encode_route_refresh, encode_route_refresh_mark,
};
pub use update::{
    Announced, AsWidth, Context, NextHop, PeerKind, Remedy, Shape, Update, UpdateError,
    encode_end_of_rib,
};

use octets::{put_u16, take_bytes, take_u8, take_u16};

use crate::types::Family;

/// Octets of marker, length and type.
pub const HEADER_LEN: usize = 19;
/// The longest message (RFC 4271 §4.1).
pub const MAX_MESSAGE: usize = 4096;
/// The longest message between speakers that agreed on it (RFC 8654 §3).
pub const MAX_EXTENDED: usize = 65535;

const MARKER: [u8; 16] = [0xff; 16];

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageType {
    /// OPEN.
    Open,
    /// UPDATE.
    Update,
    /// NOTIFICATION.
    Notification,
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
}

impl MessageType {
    fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// The shortest and the longest whole message of this type (RFC 4271 §6.1, RFC 2918 §3), `max` being the
    /// longest that was agreed on; OPEN and KEEPALIVE are never longer than before (RFC 8654 §4).
    fn lengths(self, max: usize) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Open => 29..=MAX_MESSAGE,
            Self::Update => 23..=max,
            Self::Notification => 21..=max,
            Self::Keepalive => HEADER_LEN..=HEADER_LEN,
            Self::RouteRefresh => 23..=max,
        }
    }
}

/// One whole message, its body not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: MessageType,
    /// Everything after the header.
    pub body: &'a [u8],
}

/// A header that cannot be one (RFC 4271 §6.1): the stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Sixteen octets of ones are missing.
    #[error(
        "a message without the marker of sixteen 0xff octets: this is not BGP, or we lost step"
    )]
    Marker,
    /// Too short or too long for its type.
    #[error("a message of {0} octets, which its type cannot have")]
    Length(u16),
    /// No such type.
    #[error("a message of the undefined type {0}")]
    Type(u8),
}

impl HeaderError {
    /// What the peer is told.
    pub fn notification(&self) -> Notification {
        match *self {
            Self::Marker => Notification::new(1, 1, &[]),
            Self::Length(length) => Notification::new(1, 2, &length.to_be_bytes()),
            Self::Type(code) => Notification::new(1, 3, &[code]),
        }
    }
}

/// Takes one message of at most [`MAX_MESSAGE`] octets off the front, as [`take_frame_of`] does.
///
/// # Errors
/// A [`HeaderError`] as soon as the octets at hand show it.
pub fn take_frame<'a>(octets: &mut &'a [u8]) -> Result<Option<Frame<'a>>, HeaderError> {
    take_frame_of(octets, MAX_MESSAGE)
}

/// Takes one message of at most `max` octets off the front of `octets`, or `None` if it is not whole yet
/// (`octets` is unchanged).
///
/// # Errors
/// A [`HeaderError`] as soon as the octets at hand show it.
pub fn take_frame_of<'a>(
    octets: &mut &'a [u8],
    max: usize,
) -> Result<Option<Frame<'a>>, HeaderError> {
    let mut rest = *octets;
    let marker = rest.len().min(MARKER.len());
    if rest[..marker] != MARKER[..marker] {
        return Err(HeaderError::Marker);
    }
    rest = &rest[marker..];
    let (Some(length), Some(code)) = (take_u16(&mut rest), take_u8(&mut rest)) else {
        return Ok(None);
    };
    let kind = MessageType::from_code(code).ok_or(HeaderError::Type(code))?;
    if !kind.lengths(max).contains(&usize::from(length)) {
        return Err(HeaderError::Length(length));
    }
    let Some(body) = take_bytes(&mut rest, usize::from(length) - HEADER_LEN) else {
        return Ok(None);
    };
    *octets = rest;
    Ok(Some(Frame { kind, body }))
}

/// A whole message of `kind` around the body that `body` writes.
pub(crate) fn frame(kind: MessageType, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(&MARKER);
    put_u16(&mut message, 0);
    message.push(kind.code());
    body(&mut message);
    let length = octets::len16(message.len());
    message[16..18].copy_from_slice(&length.to_be_bytes());
    message
}

/// A KEEPALIVE.
pub fn encode_keepalive() -> Vec<u8> {
    frame(MessageType::Keepalive, |_| {})
}

/// The AFI and SAFI numbers of a family.
pub(crate) fn afi_safi(family: Family) -> (u16, u8) {
    match family {
        Family::Ipv4 => (1, 1),
        Family::Ipv6 => (2, 1),
    }
}

/// The family of an AFI and SAFI, if it is one of ours.
pub(crate) fn family(afi: u16, safi: u8) -> Option<Family> {
    Family::ALL
        .into_iter()
        .find(|family| afi_safi(*family) == (afi, safi))
}

#[cfg(test)]
mod tests;
