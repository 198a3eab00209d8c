//! NOTIFICATION: why a session ends (RFC 4271 §4.5, §6).

use std::fmt;

use super::{HEADER_LEN, MAX_MESSAGE, MessageType, frame};
use crate::types::Family;

/// A NOTIFICATION message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; its meaning depends on the code.
    pub subcode: u8,
    /// What belongs to it.
    pub data: Vec<u8>,
}

impl Notification {
    /// Numbers of a peer that does not know an optional parameter of our OPEN: capabilities, we have no other.
    pub(crate) const UNKNOWN_PARAMETER: (u8, u8) = (2, 4);

    /// A notification with these numbers.
    pub fn new(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self {
            code,
            subcode,
            data: data.to_vec(),
        }
    }

    /// Nothing was heard for the hold time (RFC 4271 §6.5).
    pub fn hold_timer_expired() -> Self {
        Self::new(4, 0, &[])
    }

    /// Nothing could be sent for too long (RFC 9687).
    pub fn send_hold_timer_expired() -> Self {
        Self::new(8, 0, &[])
    }

    /// A message in a state that does not expect it (RFC 6608): 1 in `OpenSent`, 2 in `OpenConfirm`, 3 in
    /// `Established`.
    pub fn fsm_error(subcode: u8) -> Self {
        Self::new(5, subcode, &[])
    }

    /// The peer's AS number is not the configured one.
    pub fn bad_peer_as() -> Self {
        Self::new(2, 2, &[])
    }

    /// The peer has our own identifier, or none.
    pub fn bad_bgp_id() -> Self {
        Self::new(2, 3, &[])
    }

    /// An orderly end (RFC 4486), with a sentence for the other operator where subcode 2 or 4 may carry one
    /// (RFC 9003): cut after 255 octets, between characters.
    pub fn cease(cease: Cease, text: &str) -> Self {
        let mut data = Vec::new();
        if matches!(
            cease,
            Cease::AdministrativeShutdown | Cease::AdministrativeReset
        ) {
            let text = &text[..text.floor_char_boundary(255)];
            data.push(super::octets::len8(text.len()));
            data.extend_from_slice(text.as_bytes());
        }
        Self {
            code: 6,
            subcode: cease as u8,
            data,
        }
    }

    /// More prefixes than allowed; the data names family and limit (RFC 4486 §4).
    pub fn too_many_prefixes(family: Family, max: u32) -> Self {
        let (afi, safi) = super::afi_safi(family);
        let mut data = afi.to_be_bytes().to_vec();
        data.push(safi);
        data.extend_from_slice(&max.to_be_bytes());
        Self::new(6, Cease::MaximumPrefixes as u8, &data)
    }

    /// The same as a Hard Reset, which holds it as data (RFC 8538 §3.1).
    #[must_use]
    pub fn hardened(&self) -> Self {
        let data = [&[self.code, self.subcode], self.data.as_slice()].concat();
        Self::new(6, Cease::HardReset as u8, &data)
    }

    /// Code and subcode.
    pub fn numbers(&self) -> (u8, u8) {
        (self.code, self.subcode)
    }

    /// Whether it is a Hard Reset.
    pub fn is_hard(&self) -> bool {
        (self.code, self.subcode) == (6, Cease::HardReset as u8)
    }

    /// What is meant: of a Hard Reset what it holds.
    #[must_use]
    pub fn meant(&self) -> Self {
        self.inner().unwrap_or_else(|| self.clone())
    }

    /// What a Hard Reset holds.
    fn inner(&self) -> Option<Self> {
        match self.data.as_slice() {
            [code, subcode, data @ ..] if self.is_hard() => Some(Self::new(*code, *subcode, data)),
            _ => None,
        }
        .filter(|inner| !inner.is_hard())
    }

    /// Whether the peer ended the session on purpose.
    pub fn is_cease(&self) -> bool {
        self.code == 6
    }

    /// What the other operator wrote (RFC 9003): control characters are dropped, invalid UTF-8 replaced.
    pub fn shutdown_text(&self) -> Option<String> {
        let (&length, text) = self.data.split_first()?;
        if self.code != 6 || !matches!(self.subcode, 2 | 4) || length == 0 {
            return None;
        }
        let text = text.get(..usize::from(length))?;
        Some(
            String::from_utf8_lossy(text)
                .chars()
                .filter(|character| !character.is_control())
                .collect(),
        )
    }

    /// The whole message.
    pub fn encode(&self) -> Vec<u8> {
        let room = MAX_MESSAGE - HEADER_LEN - 2;
        frame(MessageType::Notification, |body| {
            body.extend_from_slice(&[self.code, self.subcode]);
            body.extend_from_slice(&self.data[..self.data.len().min(room)]);
        })
    }

    /// Reads the body: two octets at least, as the header check has made sure.
    pub fn decode(body: &[u8]) -> Self {
        match body {
            [code, subcode, data @ ..] => Self::new(*code, *subcode, data),
            _ => Self::new(0, 0, &[]),
        }
    }
}

/// Why we cease (RFC 4486).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cease {
    /// The peer announces too many prefixes.
    MaximumPrefixes = 1,
    /// We are shutting down.
    AdministrativeShutdown = 2,
    /// The peer is no longer configured.
    PeerDeconfigured = 3,
    /// Settings changed; we will be back at once.
    AdministrativeReset = 4,
    /// Not now.
    ConnectionRejected = 5,
    /// The other connection was kept (RFC 4271 §6.8).
    ConnectionCollision = 7,
    /// The end is meant (RFC 8538 §3).
    HardReset = 9,
    /// BFD lost the peer (RFC 9384).
    BfdDown = 10,
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(inner) = self.inner() {
            return inner.fmt(f);
        }
        let words = match (self.code, self.subcode) {
            (1, 1) => "message header error: connection not synchronised",
            (1, 2) => "message header error: bad message length",
            (1, 3) => "message header error: bad message type",
            (1, _) => "message header error",
            (2, 1) => "OPEN error: unsupported version number",
            (2, 2) => "OPEN error: bad peer AS",
            (2, 3) => "OPEN error: bad BGP identifier",
            (2, 4) => "OPEN error: unsupported optional parameter",
            (2, 6) => "OPEN error: unacceptable hold time",
            (2, 7) => "OPEN error: unsupported capability",
            (2, _) => "OPEN error",
            (3, 1) => "UPDATE error: malformed attribute list",
            (3, 2) => "UPDATE error: unrecognised well-known attribute",
            (3, 3) => "UPDATE error: missing well-known attribute",
            (3, 4) => "UPDATE error: attribute flags",
            (3, 5) => "UPDATE error: attribute length",
            (3, 6) => "UPDATE error: invalid ORIGIN",
            (3, 8) => "UPDATE error: invalid NEXT_HOP",
            (3, 9) => "UPDATE error: optional attribute",
            (3, 10) => "UPDATE error: invalid network field",
            (3, 11) => "UPDATE error: malformed AS_PATH",
            (3, _) => "UPDATE error",
            (4, _) => "hold timer expired",
            (5, _) => "message not expected in this state",
            (6, 1) => "cease: maximum number of prefixes reached",
            (6, 2) => "cease: administrative shutdown",
            (6, 3) => "cease: peer de-configured",
            (6, 4) => "cease: administrative reset",
            (6, 5) => "cease: connection rejected",
            (6, 6) => "cease: other configuration change",
            (6, 7) => "cease: connection collision resolution",
            (6, 8) => "cease: out of resources",
            (6, 9) => "cease: hard reset",
            (6, 10) => "cease: BFD down",
            (6, _) => "cease",
            (7, _) => "ROUTE-REFRESH error",
            (8, _) => "send hold timer expired",
            _ => "an error code that no RFC knows",
        };
        write!(f, "{words} ({}/{})", self.code, self.subcode)?;
        if let Some(text) = self.shutdown_text() {
            write!(f, ": “{text}”")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
