//! Why a session is down, in words.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Ending;
use crate::types::{Asn, BgpId, Family, PeerName};
use crate::wire::{HeaderError, Notification, OpenError, RefreshError, UpdateError};

/// Why a TCP connection did not come or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host answers, nothing listens at the port.
    Refused,
    /// Nothing answers.
    TimedOut,
    /// The kernel has no route, or a router says so.
    Unreachable,
    /// The address to dial from is not one of this host.
    NoSuchSource,
    /// The peer closed it.
    Closed,
    /// The peer's kernel reset it.
    Reset,
    /// Anything else, as the kernel puts it.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::TimedOut => "no answer",
            Self::Unreachable => "no route to the peer",
            Self::NoSuchSource => "the source address is not an address of this node",
            Self::Closed => "closed by the peer",
            Self::Reset => "reset by the peer",
            Self::Other(text) => text,
        })
    }
}

/// Why a session is not established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// It has just been configured.
    New,
    /// We wait for the peer to dial.
    Passive,
    /// Our dial failed.
    Dial(Failure),
    /// A connection ended before the OPENs were exchanged.
    BeforeOpen(Failure),
    /// An established session's connection ended without a NOTIFICATION.
    Lost(Failure),
    /// The peer has begun anew over another connection, without a word on the old one (RFC 4724 §4.2).
    Replaced,
    /// Another AS answered.
    WrongAs {
        /// Configured.
        expected: Asn,
        /// In the peer's OPEN.
        got: Asn,
    },
    /// The peer's identifier is ours.
    SameId(BgpId),
    /// No family in common.
    NoFamily {
        /// What we were to speak.
        ours: Vec<Family>,
    },
    /// The peer's OPEN cannot be used.
    Open(OpenError),
    /// The stream is not BGP.
    Header(HeaderError),
    /// An UPDATE that leaves no choice.
    Update(UpdateError),
    /// A ROUTE-REFRESH that cannot be one (RFC 7313 §5).
    Refresh(RefreshError),
    /// A message at the wrong time (RFC 6608).
    Unexpected,
    /// The peer announced too many prefixes.
    PrefixLimit {
        /// Of this family.
        family: Family,
        /// So many it may.
        max: u32,
        /// How long we stay away; until told otherwise if none.
        restart: Option<Duration>,
    },
    /// BFD says that the peer cannot be reached.
    Bfd,
    /// Nothing heard for so many seconds.
    HoldTimer(u16),
    /// The peer takes nothing in.
    SendHoldTimer,
    /// The peer said goodbye, or complained.
    Notification(Notification),
    /// Its settings or ours changed; coming back.
    Settings,
    /// The settings say that this session is to be down, with these words.
    ShutDown(String),
    /// We shut down.
    Stopped,
    /// It is no longer configured.
    Removed,
    /// The settings cannot be used.
    Unusable(Unusable),
}

/// Settings of a peer that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Another peer has the address already.
    SameAddress(PeerName),
    /// Not the address of one host.
    Address(IpAddr),
    /// AS number 0, of the peer or ours.
    AsZero,
    /// Own identifier 0.0.0.0.
    IdZero,
    /// Port 0.
    PortZero,
    /// No family to speak.
    NoFamily,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameAddress(other) => write!(f, "peer {other} has the same address"),
            Self::Address(address) => write!(f, "{address} is not the address of a host"),
            Self::AsZero => f.write_str("AS number 0 is reserved"),
            Self::IdZero => f.write_str("our own BGP identifier is 0.0.0.0"),
            Self::PortZero => f.write_str("port 0 cannot be dialled"),
            Self::NoFamily => f.write_str("no address family to speak"),
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("not tried yet"),
            Self::Passive => f.write_str("waiting for the peer to dial"),
            Self::Dial(failure) => write!(f, "cannot connect: {failure}"),
            Self::BeforeOpen(failure) => write!(f, "connection ended before OPEN: {failure}"),
            Self::Lost(failure) => write!(f, "connection lost: {failure}"),
            Self::Replaced => f.write_str("the peer has restarted, and begins anew"),
            Self::WrongAs { expected, got } => {
                write!(
                    f,
                    "wrong AS: the peer is in AS {got}, configured is AS {expected}"
                )
            }
            Self::SameId(id) => write!(f, "both sides have the BGP identifier {id}"),
            Self::NoFamily { ours } => {
                let ours: Vec<_> = ours.iter().map(ToString::to_string).collect();
                write!(f, "the peer does not speak {}", ours.join(" or "))
            }
            Self::Open(error) => error.fmt(f),
            Self::Header(error) => write!(f, "the peer sent {error}"),
            Self::Update(error) => {
                write!(f, "the peer sent an UPDATE that cannot be read: {error}")
            }
            Self::Refresh(error) => write!(f, "the peer sent {error}"),
            Self::PrefixLimit {
                family,
                max,
                restart,
            } => {
                write!(f, "the peer announced more than {max} {family} prefixes")?;
                match restart {
                    Some(restart) => write!(f, "; tried again after {} s", restart.as_secs()),
                    None => f.write_str("; not tried again"),
                }
            }
            Self::Bfd => f.write_str("BFD lost the peer"),
            Self::ShutDown(text) if text.is_empty() => f.write_str("shut down"),
            Self::ShutDown(text) => f.write_str(text),
            Self::Unexpected => {
                f.write_str("the peer sent a message that its state does not allow")
            }
            Self::HoldTimer(seconds) => {
                write!(f, "hold timer expired: nothing heard for {seconds} s")
            }
            Self::SendHoldTimer => {
                f.write_str("send hold timer expired: the peer has stopped reading")
            }
            Self::Notification(notification) => write!(f, "the peer ended it: {notification}"),
            Self::Settings => f.write_str("settings changed, starting anew"),
            Self::Stopped => f.write_str("this speaker is shutting down"),
            Self::Removed => f.write_str("no longer configured"),
            Self::Unusable(unusable) => write!(f, "unusable settings: {unusable}"),
        }
    }
}

impl Down {
    /// What it means for the peer's routes.
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Lost(_) | Self::Replaced => Ending::Lost,
            Self::Notification(notification) if notification.is_hard() => Ending::Orderly,
            Self::Notification(_)
            | Self::HoldTimer(_)
            | Self::SendHoldTimer
            | Self::Header(_)
            | Self::Update(_)
            | Self::Refresh(_)
            | Self::Open(_)
            | Self::Unexpected => Ending::Complaint,
            Self::New
            | Self::Passive
            | Self::Dial(_)
            | Self::BeforeOpen(_)
            | Self::WrongAs { .. }
            | Self::SameId(_)
            | Self::NoFamily { .. }
            | Self::PrefixLimit { .. }
            | Self::Bfd
            | Self::Settings
            | Self::ShutDown(_)
            | Self::Stopped
            | Self::Removed
            | Self::Unusable(_) => Ending::Orderly,
        }
    }

    /// What to look at; empty if there is nothing to say.
    pub fn hint(&self) -> String {
        match self {
            Self::New | Self::Settings | Self::Stopped | Self::Removed => "",
            Self::Passive => "the peer must have us as a neighbour and be allowed to reach our port",
            Self::Dial(failure) => match failure {
                Failure::Refused => "is BGP running there, and does it listen on this address and port?",
                Failure::TimedOut => "is the host up, and does a firewall drop TCP to this port?",
                Failure::Unreachable => "check the peer's address and this node's routes",
                Failure::NoSuchSource => "check the peer's source address",
                Failure::Closed | Failure::Reset | Failure::Other(_) => "",
            },
            Self::BeforeOpen(_) => "the peer probably does not have our address as a neighbour",
            Self::Lost(_) | Self::Replaced => {
                "the peer's BGP process stopped or its host went away; look at its log"
            }
            Self::WrongAs { .. } => "correct the peer's AS number here, or its own",
            Self::SameId(_) => "give each speaker an identifier of its own, and check that the peer's address is not our own",
            Self::NoFamily { .. } => "switch the family on at the peer",
            Self::ShutDown(_) => "the settings of this speaker keep the session down",
            Self::PrefixLimit { .. } => "raise the limit here, or have the peer announce less",
            Self::Bfd => "the link or the peer's host is down",
            Self::Open(_) | Self::Update(_) | Self::Refresh(_) | Self::Unexpected => {
                "the two implementations disagree; look at the peer's log too"
            }
            Self::Header(_) => "does something else than BGP answer at this port?",
            Self::HoldTimer(_) => "the link or the peer is overloaded or cut",
            Self::SendHoldTimer => "the peer hangs; restart its BGP process",
            Self::Notification(notification) => match notification.meant().numbers() {
                (2, 2) => "the peer expects another AS number than ours",
                (2, 3) => "the peer has our BGP identifier, or does not like it",
                (2, 6) => "the peer does not like our hold time",
                (2, 7) => "the peer insists on a capability or family that we lack",
                (4, _) => "the peer heard nothing from us: is the link cut or this node overloaded?",
                (6, 1) => "we announce more prefixes than the peer allows",
                (6, 2) => "the session is shut down at the peer",
                (6, 3) => "the peer no longer has us as a neighbour",
                (6, 9) => "the session was ended at the peer",
                (6, 10) => "the peer's BFD lost us: is the link cut?",
                (6, 5) => "the peer refuses us for now: is the neighbour disabled there?",
                (3, _) => "the peer could not read our UPDATE; look at its log",
                _ => "",
            },
            Self::Unusable(_) => "correct the settings; the other peers are not affected",
        }
        .to_owned()
    }
}
