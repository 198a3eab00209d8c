//! Capabilities: what a speaker says that it can do (RFC 5492).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::octets::{len8, put_u16, put_u32, take_bytes, take_u8, take_u16, take_u32};
use super::{OpenError, afi_safi, family};
use crate::settings::Switch;
use crate::types::{Asn, Family};

/// Capability codes.
mod code {
    pub(super) const MULTIPROTOCOL: u8 = 1;
    pub(super) const ROUTE_REFRESH: u8 = 2;
    pub(super) const EXTENDED_NEXT_HOP: u8 = 5;
    pub(super) const EXTENDED_MESSAGE: u8 = 6;
    pub(super) const GRACEFUL_RESTART: u8 = 64;
    pub(super) const FOUR_OCTET_AS: u8 = 65;
    pub(super) const ADD_PATH: u8 = 69;
    pub(super) const ENHANCED_REFRESH: u8 = 70;
    pub(super) const LONG_LIVED: u8 = 71;
}

/// Restart State and, for RFC 8538, the bit that includes NOTIFICATIONs, in the octets of the time.
const RESTART_STATE: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
/// Forwarding State, per family.
const FORWARDING_STATE: u8 = 0x80;
/// The longest time of RFC 9494: three octets.
const LONGEST: u32 = 0x00ff_ffff;

/// Something a speaker can do (RFC 5492).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// A family besides IPv4 unicast, or that one explicitly (RFC 4760 §8).
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// Answers ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// Takes IPv4 routes with an IPv6 next hop (RFC 8950), for the families named by AFI, SAFI and the AFI of
    /// the next hop.
    ExtendedNextHop(BTreeSet<(u16, u16, u16)>),
    /// Takes messages of up to 65535 octets (RFC 8654).
    ExtendedMessage,
    /// AS numbers of four octets; the sender's own (RFC 6793).
    FourOctetAs(Asn),
    /// Keeps forwarding while it restarts (RFC 4724).
    GracefulRestart(GracefulRestart),
    /// Takes (1), sends (2) or both (3) several paths to a prefix, by AFI and SAFI (RFC 7911).
    AddPath(BTreeMap<(u16, u8), u8>),
    /// Says where an answer to ROUTE-REFRESH begins and ends (RFC 7313).
    EnhancedRefresh,
    /// Keeps stale routes for long (RFC 9494), by AFI and SAFI.
    LongLived(BTreeMap<(u16, u8), LongLived>),
    /// Any other.
    Other {
        /// Its code.
        code: u8,
        /// Its value, at most 255 octets.
        value: Vec<u8>,
    },
}

/// The graceful restart capability (RFC 4724 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// Whether the sender has just started.
    pub state: RestartState,
    /// Whether routes are kept after a NOTIFICATION too (RFC 8538 §2).
    pub notification: Switch,
    /// How many seconds the sender may take to come back, 0–4095.
    pub time: u16,
    /// The families it keeps routes for, and those of them whose forwarding went on over its restart.
    pub families: BTreeMap<(u16, u8), Forwarding>,
}

/// What is said of one family in the long-lived capability (RFC 9494 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLived {
    /// As in [`GracefulRestart`].
    pub forwarding: Forwarding,
    /// How many seconds stale routes are kept, below 2^24.
    pub time: u32,
}

/// The Restart State bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartState {
    /// It has run for some time.
    Running,
    /// It has just started: nobody shall wait for its End-of-RIB.
    Restarted,
}

/// The Forwarding State bit of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Routes were kept over the restart.
    Preserved,
    /// They were not.
    Lost,
}

impl Forwarding {
    fn from_flags(flags: u8) -> Self {
        if flags & FORWARDING_STATE == 0 {
            Self::Lost
        } else {
            Self::Preserved
        }
    }

    fn flags(self) -> u8 {
        match self {
            Self::Lost => 0,
            Self::Preserved => FORWARDING_STATE,
        }
    }
}

impl Capability {
    pub(crate) fn as_graceful_restart(&self) -> Option<&GracefulRestart> {
        if let Self::GracefulRestart(restart) = self {
            Some(restart)
        } else {
            None
        }
    }

    pub(crate) fn as_four_octet_as(&self) -> Option<Asn> {
        if let Self::FourOctetAs(asn) = self {
            Some(*asn)
        } else {
            None
        }
    }

    pub(crate) fn as_add_path(&self) -> Option<&BTreeMap<(u16, u8), u8>> {
        if let Self::AddPath(families) = self {
            Some(families)
        } else {
            None
        }
    }

    pub(crate) fn as_long_lived(&self) -> Option<&BTreeMap<(u16, u8), LongLived>> {
        if let Self::LongLived(families) = self {
            Some(families)
        } else {
            None
        }
    }

    /// Whether it is of the same kind and offers all that `other` does, for next hops of RFC 8950.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        if let (Self::ExtendedNextHop(all), Self::ExtendedNextHop(some)) = (self, other) {
            some.is_subset(all)
        } else {
            false
        }
    }

    /// What it is called, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Multiprotocol { afi, safi } => match family(*afi, *safi) {
                Some(family) => format!("{family} unicast"),
                None => format!("family {afi}/{safi}"),
            },
            Self::RouteRefresh => "route refresh".to_owned(),
            Self::ExtendedNextHop(_) => "extended next hop".to_owned(),
            Self::ExtendedMessage => "extended messages".to_owned(),
            Self::FourOctetAs(_) => "four-octet AS numbers".to_owned(),
            Self::GracefulRestart(_) => "graceful restart".to_owned(),
            Self::AddPath(_) => "additional paths".to_owned(),
            Self::EnhancedRefresh => "enhanced route refresh".to_owned(),
            Self::LongLived(_) => "long-lived graceful restart".to_owned(),
            Self::Other { code, .. } => format!("capability {code}"),
        }
    }

    pub(super) fn take(octets: &mut &[u8]) -> Result<Self, OpenError> {
        let overrun = OpenError::Malformed("a capability");
        let code = take_u8(octets).ok_or(overrun.clone())?;
        let length = take_u8(octets).ok_or(overrun.clone())?;
        let value = take_bytes(octets, length.into()).ok_or(overrun)?;
        Self::decode(code, value).ok_or(OpenError::Capability {
            code,
            length: value.len(),
        })
    }

    /// `None` if the value has a length that its code cannot have.
    fn decode(code: u8, mut value: &[u8]) -> Option<Self> {
        let octets = &mut value;
        let capability = match code {
            code::MULTIPROTOCOL => {
                let afi = take_u16(octets)?;
                take_u8(octets)?; // reserved
                let safi = take_u8(octets)?;
                Self::Multiprotocol { afi, safi }
            }
            code::ROUTE_REFRESH => Self::RouteRefresh,
            code::EXTENDED_NEXT_HOP => {
                let mut families = BTreeSet::new();
                while !octets.is_empty() {
                    families.insert((take_u16(octets)?, take_u16(octets)?, take_u16(octets)?));
                }
                Self::ExtendedNextHop(families)
            }
            code::EXTENDED_MESSAGE => Self::ExtendedMessage,
            code::FOUR_OCTET_AS => Self::FourOctetAs(Asn(take_u32(octets)?)),
            code::GRACEFUL_RESTART => Self::GracefulRestart(GracefulRestart::take(octets)?),
            code::ADD_PATH => {
                let mut families = BTreeMap::new();
                while !octets.is_empty() {
                    let of = (take_u16(octets)?, take_u8(octets)?);
                    // Undefined directions are ignored (RFC 7911 §4).
                    let direction = take_u8(octets)?;
                    if (1..=3).contains(&direction) {
                        families.insert(of, direction);
                    }
                }
                Self::AddPath(families)
            }
            code::ENHANCED_REFRESH => Self::EnhancedRefresh,
            code::LONG_LIVED => {
                let mut families = BTreeMap::new();
                while !octets.is_empty() {
                    let of = (take_u16(octets)?, take_u8(octets)?);
                    let word = take_u32(octets)?;
                    let [flags, ..] = word.to_be_bytes();
                    let long_lived = LongLived {
                        forwarding: Forwarding::from_flags(flags),
                        time: word & LONGEST,
                    };
                    families.insert(of, long_lived);
                }
                Self::LongLived(families)
            }
            _ => {
                let value = std::mem::take(octets).to_vec();
                Self::Other { code, value }
            }
        };
        value.is_empty().then_some(capability)
    }

    pub(super) fn put(&self, to: &mut Vec<u8>) {
        let mut value = Vec::new();
        let code = match self {
            Self::Multiprotocol { afi, safi } => {
                put_u16(&mut value, *afi);
                value.extend_from_slice(&[0, *safi]);
                code::MULTIPROTOCOL
            }
            Self::RouteRefresh => code::ROUTE_REFRESH,
            Self::ExtendedNextHop(families) => {
                for (afi, safi, next_hop) in families {
                    for word in [afi, safi, next_hop] {
                        put_u16(&mut value, *word);
                    }
                }
                code::EXTENDED_NEXT_HOP
            }
            Self::ExtendedMessage => code::EXTENDED_MESSAGE,
            Self::FourOctetAs(asn) => {
                put_u32(&mut value, asn.0);
                code::FOUR_OCTET_AS
            }
            Self::GracefulRestart(restart) => {
                restart.put(&mut value);
                code::GRACEFUL_RESTART
            }
            Self::AddPath(families) => {
                for ((afi, safi), direction) in families {
                    put_u16(&mut value, *afi);
                    value.extend_from_slice(&[*safi, *direction]);
                }
                code::ADD_PATH
            }
            Self::EnhancedRefresh => code::ENHANCED_REFRESH,
            Self::LongLived(families) => {
                for ((afi, safi), long_lived) in families {
                    put_u16(&mut value, *afi);
                    value.push(*safi);
                    let flags = u32::from(long_lived.forwarding.flags()) << 24;
                    put_u32(&mut value, flags | long_lived.time.min(LONGEST));
                }
                code::LONG_LIVED
            }
            Self::Other { code, value: other } => {
                value.extend_from_slice(other);
                *code
            }
        };
        // One octet of length. Only a foreign capability can be longer; families of ours never are.
        value.truncate(255);
        to.extend_from_slice(&[code, len8(value.len())]);
        to.extend_from_slice(&value);
    }
}

impl GracefulRestart {
    /// The capability's value; `None` if its length fits no number of families.
    fn take(value: &mut &[u8]) -> Option<Self> {
        let first = take_u16(value)?;
        let mut families = BTreeMap::new();
        while !value.is_empty() {
            let of = (take_u16(value)?, take_u8(value)?);
            families.insert(of, Forwarding::from_flags(take_u8(value)?));
        }
        let state = if first & RESTART_STATE == 0 {
            RestartState::Running
        } else {
            RestartState::Restarted
        };
        Some(Self {
            state,
            notification: (first & NOTIFICATION != 0).into(),
            time: first & 0x0fff,
            families,
        })
    }

    fn put(&self, to: &mut Vec<u8>) {
        let Self {
            state,
            notification,
            time,
            families,
        } = self;
        let state = match state {
            RestartState::Running => 0,
            RestartState::Restarted => RESTART_STATE,
        };
        let notification = match notification {
            Switch::On => NOTIFICATION,
            Switch::Off => 0,
        };
        put_u16(to, state | notification | (time & 0x0fff));
        // One octet of length: 63 families fit, more than exist here.
        for ((afi, safi), forwarding) in families.iter().take(63) {
            put_u16(to, *afi);
            to.extend_from_slice(&[*safi, forwarding.flags()]);
        }
    }

    /// The families that we know and whose forwarding was preserved.
    pub fn preserved(&self) -> BTreeSet<Family> {
        self.families
            .iter()
            .filter(|(_, forwarding)| **forwarding == Forwarding::Preserved)
            .filter_map(|((afi, safi), _)| family(*afi, *safi))
            .collect()
    }

    /// The families that we know.
    pub fn known_families(&self) -> BTreeSet<Family> {
        let families = self.families.keys();
        families
            .filter_map(|(afi, safi)| family(*afi, *safi))
            .collect()
    }
}

/// The long-lived capability of these families, kept for so long (RFC 9494 §3).
pub fn long_lived(families: &BTreeSet<Family>, time: Duration) -> Capability {
    let time = u32::try_from(time.as_secs()).unwrap_or(LONGEST);
    let long_lived = LongLived {
        forwarding: Forwarding::Preserved,
        time: time.min(LONGEST),
    };
    Capability::LongLived(
        families
            .iter()
            .map(|family| (afi_safi(*family), long_lived))
            .collect(),
    )
}
