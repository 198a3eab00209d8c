//! What can go wrong between us and the kernel, in words.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;

/// A failed exchange with the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call on the socket failed.
    #[error("cannot {action}: {}", words(*errno))]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The errno.
        errno: Errno,
    },
    /// The kernel refused a message.
    #[error("cannot {doing}: {}{}", words(*errno), hint(.said))]
    Refused {
        /// What the message was to do.
        doing: Doing,
        /// The errno.
        errno: Errno,
        /// The kernel's own remark, often empty.
        said: String,
    },
    /// Answers or events were lost because the socket's receive buffer was full (`ENOBUFS`).
    #[error("answers of the kernel were lost: read the state again")]
    Lost,
    /// The kernel said something that cannot be read.
    #[error("cannot read the kernel's answer about {about}: {reason}")]
    Decode {
        /// What was asked for.
        about: &'static str,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// The errno that the kernel or the system call gave, if there was one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket { errno, .. } | Self::Refused { errno, .. } => Some(*errno),
            Self::Lost => Some(Errno::ENOBUFS),
            Self::Decode { .. } => None,
        }
    }

    pub(crate) fn socket(action: &'static str, error: &std::io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOBUFS) => Self::Lost,
            errno => Self::Socket {
                action,
                errno: errno.unwrap_or(Errno::UnknownErrno),
            },
        }
    }
}

/// What a message is to do; its text follows "cannot".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Create a link.
    CreateLink(String),
    /// Change a link's settings or take it up or down.
    SetLink(String),
    /// Delete a link.
    DeleteLink(String),
    /// Read links.
    ReadLinks,
    /// Add an address to the link of that index.
    AddAddress(IpAddr, u32),
    /// Read addresses.
    ReadAddresses,
    /// Enter a neighbour on the link of that index.
    PutNeighbour(IpAddr, u32),
    /// Enter or replace a route.
    PutRoute(IpNet),
    /// Delete a route.
    DeleteRoute(IpNet),
    /// Read routes.
    ReadRoutes,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateLink(name) => write!(f, "create the link {name}"),
            Self::SetLink(name) => write!(f, "set up the link {name}"),
            Self::DeleteLink(name) => write!(f, "delete the link {name}"),
            Self::ReadLinks => f.write_str("read links"),
            Self::AddAddress(address, link) => {
                write!(f, "add the address {address} to link {link}")
            }
            Self::ReadAddresses => f.write_str("read addresses"),
            Self::PutNeighbour(address, link) => {
                write!(f, "enter the neighbour {address} on link {link}")
            }
            Self::PutRoute(prefix) => write!(f, "set the route to {prefix}"),
            Self::DeleteRoute(prefix) => write!(f, "delete the route to {prefix}"),
            Self::ReadRoutes => f.write_str("read routes"),
        }
    }
}

/// An errno as route netlink means it.
fn words(errno: Errno) -> String {
    let meaning = match errno {
        Errno::ENODEV => "there is no such link",
        Errno::EEXIST => "it exists already",
        Errno::ESRCH => "there is no such route",
        Errno::EPERM => "not permitted: CAP_NET_ADMIN is missing",
        Errno::ENETUNREACH => "the next hop is not on a network of this node",
        Errno::EHOSTUNREACH => "the next hop cannot be reached",
        Errno::ENETDOWN => "the link is down",
        Errno::EINVAL => "the kernel finds it invalid",
        Errno::EOPNOTSUPP => "this kernel does not support it",
        Errno::EAFNOSUPPORT => "this kernel, or this namespace, has no such address family",
        other => other.desc(),
    };
    format!("{meaning} ({errno:?})")
}

fn hint(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!("; it says: {said}")
    }
}
