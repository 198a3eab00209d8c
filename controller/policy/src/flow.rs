//! A connection to judge, as probes write it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::{NodeName, PodId, Protocol};

#[cfg(test)]
mod tests;

/// One connection: who begins it, to whom, with what.
///
/// As JSON: `{"from":"ns/pod","to":"10.1.0.9","protocol":"TCP","port":80,"family":4}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The client.
    pub from: End,
    /// The server.
    pub to: End,
    /// The protocol.
    pub protocol: Transport,
    /// The server's port, after Service DNAT; 0 for protocols without ports.
    #[serde(default)]
    pub port: u16,
    /// The IP family.
    pub family: Family,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.from, self.to, self.protocol)?;
        if self.port != 0 {
            write!(f, " port {}", self.port)?;
        }
        write!(f, " over {}", self.family)
    }
}

/// An end of a flow; written `ns/pod`, `node/NAME`, or as an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum End {
    /// A pod.
    Pod(PodId),
    /// A node's own processes.
    Node(NodeName),
    /// An address: of the live pod that owns it, else outside the cluster.
    Address(IpAddr),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(id) => write!(f, "{id}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl From<End> for String {
    fn from(end: End) -> Self {
        end.to_string()
    }
}

/// Text that names no [`End`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no end of a connection: write namespace/pod, node/NAME or an IP address")]
pub struct EndError(pub String);

impl TryFrom<String> for End {
    type Error = EndError;

    fn try_from(text: String) -> Result<Self, EndError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if let Some(name) = text.strip_prefix("node/")
            && !name.is_empty()
            && !name.contains('/')
        {
            return Ok(Self::Node(NodeName(name.to_owned())));
        }
        PodId::try_from(text)
            .map(Self::Pod)
            .map_err(|error| EndError(error.0))
    }
}

impl std::str::FromStr for End {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, EndError> {
        Self::try_from(text.to_owned())
    }
}

/// What runs over IP; written `TCP`, `UDP`, `SCTP`, `ICMP` (echo, of either family), or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Transport {
    /// A protocol with ports.
    Port(Protocol),
    /// ICMP or `ICMPv6` echo.
    Icmp,
    /// Any other, by its IP protocol number.
    Other(u8),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol) => write!(f, "{protocol}"),
            Self::Icmp => f.write_str("ICMP"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

impl From<Transport> for String {
    fn from(transport: Transport) -> Self {
        transport.to_string()
    }
}

/// Text that names no [`Transport`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no protocol: write TCP, UDP, SCTP, ICMP or an IP protocol number")]
pub struct TransportError(pub String);

impl TryFrom<String> for Transport {
    type Error = TransportError;

    fn try_from(text: String) -> Result<Self, TransportError> {
        match text.to_ascii_uppercase().as_str() {
            "TCP" | "6" => Ok(Self::Port(Protocol::Tcp)),
            "UDP" | "17" => Ok(Self::Port(Protocol::Udp)),
            "SCTP" | "132" => Ok(Self::Port(Protocol::Sctp)),
            "ICMP" | "ICMPV6" | "1" | "58" => Ok(Self::Icmp),
            number => number
                .parse()
                .map(Self::Other)
                .map_err(|_| TransportError(text.clone())),
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = TransportError;

    fn from_str(text: &str) -> Result<Self, TransportError> {
        Self::try_from(text.to_owned())
    }
}

/// An IP family; written 4 or 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl From<Family> for u8 {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

/// A number that names no [`Family`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no IP family: write 4 or 6")]
pub struct FamilyError(pub u8);

impl TryFrom<u8> for Family {
    type Error = FamilyError;

    fn try_from(number: u8) -> Result<Self, FamilyError> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            other => Err(FamilyError(other)),
        }
    }
}
