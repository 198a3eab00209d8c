//! What keeps a peer away that only the kernel sees: segments that it dropped for their signature or TTL.
//!
//! The kernel counts them per namespace, not per peer. Of the peers that are down it can only be those whose
//! settings fit.

use std::fmt;

use crate::transport::{Transport, Ttl};

/// Where the kernel counts.
pub(crate) const COUNTERS: &str = "/proc/self/net/netstat";

/// Segments dropped so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Signed by another password.
    wrong: u64,
    /// Not signed although we have a password.
    unsigned: u64,
    /// Signed although we have none.
    signed: u64,
    /// From too far away.
    far: u64,
}

impl Counters {
    /// Reads them from the text of [`COUNTERS`]: lines of names, each before one of values.
    pub(crate) fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            for (name, value) in names.split(' ').zip(values.split(' ')) {
                let place = match name {
                    "TCPMD5Failure" => &mut counters.wrong,
                    "TCPMD5NotFound" => &mut counters.unsigned,
                    "TCPMD5Unexpected" => &mut counters.signed,
                    "TCPMinTTLDrop" => &mut counters.far,
                    _ => continue,
                };
                *place = value.parse().unwrap_or(0);
            }
        }
        counters
    }

    /// What has happened since `before` that may be about a peer with this transport.
    pub(crate) fn since(self, before: Self, transport: &Transport) -> Option<Trouble> {
        let Transport {
            password,
            ao: _,
            ttl,
            interface: _,
            bfd: _,
        } = transport;
        match (password, ttl) {
            (Some(_), _) if self.wrong > before.wrong => Some(Trouble::OtherPassword),
            (Some(_), _) if self.unsigned > before.unsigned => Some(Trouble::Unsigned),
            (None, _) if self.signed > before.signed => Some(Trouble::Signed),
            (_, Ttl::Security(_)) if self.far > before.far => Some(Trouble::TooFar { ttl: None }),
            (_, Ttl::Any | Ttl::Hops(_) | Ttl::Security(_)) => None,
        }
    }
}

/// What keeps a peer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its password is not ours.
    OtherPassword,
    /// It has no password.
    Unsigned,
    /// We have no password for it.
    Signed,
    /// It is farther away than allowed, or does not send with TTL 255.
    TooFar {
        /// What its SYN arrived with.
        ttl: Option<u8>,
    },
}

impl Trouble {
    /// What to do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::OtherPassword => "give both sides the same password",
            Self::Unsigned => "give the peer the password, or take it away here",
            Self::Signed => "the peer has a password for us; configure the same here",
            Self::TooFar { .. } => {
                "switch TTL security (GTSM) on at the peer too, or allow more hops here"
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherPassword => f.write_str(
                "wrong password: segments came whose TCP MD5 signature our password does not give",
            ),
            Self::Unsigned => f.write_str(
                "no password at the peer: segments came without a TCP MD5 signature, and we have a password",
            ),
            Self::Signed => f.write_str(
                "no password here: segments came with a TCP MD5 signature, and we have no password",
            ),
            Self::TooFar { ttl: Some(ttl) } => write!(
                f,
                "TTL too low: the peer's packets arrive with {ttl}, less than TTL security wants"
            ),
            Self::TooFar { ttl: None } => f.write_str(
                "TTL too low: packets came with less than TTL security wants",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
