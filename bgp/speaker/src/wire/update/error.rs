//! What can be wrong in an UPDATE, and what RFC 7606 has us do about it.

use crate::wire::Notification;
use crate::wire::attrs::code;

/// What RFC 7606 §2 has us do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// Go on without the attribute.
    AttributeDiscard,
    /// Take the routes as withdrawn, keep the session.
    TreatAsWithdraw,
    /// Send a NOTIFICATION and end the session.
    SessionReset,
}

/// Something wrong in an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The two lengths of the message do not fit into it.
    #[error("the lengths inside the UPDATE do not fit its {0} octets")]
    Lengths(usize),
    /// A prefix that is too long or cut off.
    #[error("an NLRI prefix of {bits} bits does not fit the {left} octets left")]
    Nlri {
        /// Its length.
        bits: u8,
        /// Octets after it.
        left: usize,
    },
    /// An attribute runs over the end of the attributes.
    #[error("attribute {code} runs over the end of the attributes")]
    Overrun {
        /// Its type.
        code: u8,
    },
    /// Less than an attribute's header at the end of the attributes.
    #[error("{0} octets are left over behind the attributes")]
    LeftOver(usize),
    /// Flags that the type cannot have.
    #[error("attribute {code} has the flags {flags:#04x}, which it cannot have")]
    Flags {
        /// Its type.
        code: u8,
        /// Its flags.
        flags: u8,
    },
    /// A length that the type cannot have.
    #[error("attribute {code} has {length} octets, which it cannot have")]
    Length {
        /// Its type.
        code: u8,
        /// Its length.
        length: usize,
    },
    /// ORIGIN above 2.
    #[error("ORIGIN has the undefined value {0}")]
    Origin(u8),
    /// `AS_PATH` that cannot be read.
    #[error("AS_PATH is malformed: {0}")]
    AsPath(&'static str),
    /// `AS4_PATH` or `AS4_AGGREGATOR` that cannot be used (RFC 6793 §6).
    #[error("attribute {0} of a speaker that knows AS numbers of four octets, or malformed")]
    FourOctetCompanion(u8),
    /// AGGREGATOR with AS 0 (RFC 7607).
    #[error("AGGREGATOR names AS 0, which is reserved")]
    AggregatorZero,
    /// Only iBGP peers may send it.
    #[error("attribute {0} from a peer of another AS")]
    InternalOnly(u8),
    /// A mandatory attribute is missing.
    #[error("routes without the mandatory attribute {0}")]
    Missing(u8),
    /// An attribute that must stand once stands twice.
    #[error("attribute {0} stands twice")]
    Twice(u8),
    /// A well-known attribute that nobody knows.
    #[error("attribute {0} claims to be well known and is not")]
    UnknownWellKnown(u8),
    /// An MP attribute whose parts do not fit.
    #[error("attribute {code} is malformed: {what}")]
    Multiprotocol {
        /// 14 or 15.
        code: u8,
        /// What does not fit.
        what: &'static str,
    },
}

impl UpdateError {
    /// What RFC 7606 has us do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Lengths(_) => Remedy::SessionReset,           // §3 b
            Self::Nlri { .. } => Remedy::SessionReset, // §5.3: the routes cannot be told apart
            Self::Multiprotocol { .. } => Remedy::SessionReset, // §7.11, §7.12
            Self::UnknownWellKnown(_) => Remedy::SessionReset, // RFC 4271 §6.3
            // §3 j: the prefixes in there cannot be known.
            Self::Overrun { code } | Self::Flags { code, .. }
                if matches!(*code, code::MP_REACH | code::MP_UNREACH) =>
            {
                Remedy::SessionReset
            }
            Self::Overrun { .. } | Self::LeftOver(_) => Remedy::TreatAsWithdraw, // §4
            Self::Flags { .. } => Remedy::TreatAsWithdraw,                       // §3 c
            Self::Origin(_) | Self::AsPath(_) => Remedy::TreatAsWithdraw,        // §7.1, §7.2
            Self::Missing(_) => Remedy::TreatAsWithdraw,                         // §3 d
            Self::Length { code, .. } => match *code {
                code::ATOMIC_AGGREGATE | code::AGGREGATOR => Remedy::AttributeDiscard, // §7.6, §7.7
                code::PREFIX_SID => Remedy::AttributeDiscard, // RFC 8669 §6
                _ => Remedy::TreatAsWithdraw,
            },
            Self::Twice(code) => match *code {
                code::MP_REACH | code::MP_UNREACH => Remedy::SessionReset, // §3 g
                _ => Remedy::AttributeDiscard,
            },
            Self::InternalOnly(_) => Remedy::AttributeDiscard, // §7.5, §7.9, §7.10
            Self::FourOctetCompanion(_) => Remedy::AttributeDiscard, // RFC 6793 §6
            Self::AggregatorZero => Remedy::AttributeDiscard,  // RFC 7607
        }
    }

    /// What the peer is told if the session ends.
    pub fn notification(&self) -> Notification {
        match self {
            Self::Nlri { .. } => Notification::new(3, 10, &[]),
            Self::Multiprotocol { .. } | Self::Overrun { .. } => Notification::new(3, 9, &[]),
            Self::UnknownWellKnown(code) => Notification::new(3, 2, &[*code]),
            Self::Flags { .. } => Notification::new(3, 4, &[]),
            Self::Lengths(_)
            | Self::LeftOver(_)
            | Self::Length { .. }
            | Self::Origin(_)
            | Self::AsPath(_)
            | Self::FourOctetCompanion(_)
            | Self::AggregatorZero
            | Self::InternalOnly(_)
            | Self::Missing(_)
            | Self::Twice(_) => Notification::new(3, 1, &[]),
        }
    }
}
