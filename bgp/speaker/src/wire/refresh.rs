//! ROUTE-REFRESH (RFC 2918, RFC 7313).

use super::octets::{put_u16, take_u8, take_u16};
use super::{MessageType, Notification, afi_safi, family, frame};
use crate::types::Family;

/// What a ROUTE-REFRESH says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteRefresh {
    /// Asks for all routes of this family again.
    Request(Family),
    /// All routes of this family follow (RFC 7313 §4).
    Begin(Family),
    /// That were all; what was not among them is gone.
    End(Family),
    /// Another family, or an undefined subtype: ignored (RFC 7313 §5).
    Other,
}

/// A ROUTE-REFRESH that is longer than its subtype allows (RFC 7313 §5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ROUTE-REFRESH of {} octets", .0.len())]
pub struct RefreshError(Vec<u8>);

impl RefreshError {
    /// What the peer is told: the message as it came.
    pub fn notification(&self) -> Notification {
        let whole = frame(MessageType::RouteRefresh, |body| {
            body.extend_from_slice(&self.0);
        });
        Notification::new(7, 1, &whole)
    }
}

impl RouteRefresh {
    /// Reads the body of a ROUTE-REFRESH: at least four octets, as [`super::take_frame`] has checked.
    ///
    /// # Errors
    /// If it is longer, and not by filters of RFC 5291, which nobody was asked for.
    pub fn decode(body: &[u8]) -> Result<Self, RefreshError> {
        let mut octets = body;
        let of = take_u16(&mut octets);
        let subtype = take_u8(&mut octets);
        let of = of.zip(take_u8(&mut octets));
        let of = of.and_then(|(afi, safi)| family(afi, safi));
        let known = matches!(subtype, Some(0..=2));
        if known && !octets.is_empty() {
            return Err(RefreshError(body.to_vec()));
        }
        Ok(match (subtype, of) {
            (Some(0), Some(family)) => Self::Request(family),
            (Some(1), Some(family)) => Self::Begin(family),
            (Some(2), Some(family)) => Self::End(family),
            _ => Self::Other,
        })
    }

    fn encode(family: Family, subtype: u8) -> Vec<u8> {
        let (afi, safi) = afi_safi(family);
        frame(MessageType::RouteRefresh, |body| {
            put_u16(body, afi);
            body.extend_from_slice(&[subtype, safi]);
        })
    }
}

/// A ROUTE-REFRESH for `family`.
pub fn encode_route_refresh(family: Family) -> Vec<u8> {
    RouteRefresh::encode(family, 0)
}

/// Begin or end of an answer to one (RFC 7313 §3.2).
pub fn encode_route_refresh_mark(family: Family, mark: RefreshMark) -> Vec<u8> {
    let subtype = match mark {
        RefreshMark::Begin => 1,
        RefreshMark::End => 2,
    };
    RouteRefresh::encode(family, subtype)
}

/// Where an answer begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefreshMark {
    /// `BoRR`.
    Begin,
    /// `EoRR`.
    End,
}
