//! What changes in the kernel, as it happens.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::connection::{Raw, attributes, messages, parse};
use crate::error::Error;
use crate::link::Link;

const GROUP_LINK: u32 = 1;
const GROUP_ROUTE4: u32 = 7;
const GROUP_ROUTE6: u32 = 11;
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const TABLE_MAIN: u8 = 254;
const ATTRIBUTE_DESTINATION: u16 = 1;
/// Room for bursts of foreign routes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link came or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(Link),
    /// A route of the main table came, was replaced or is gone.
    Route {
        /// Its destination.
        prefix: IpNet,
        /// Its protocol number, the new one's if it was replaced.
        protocol: u8,
        /// Port id of the socket that changed it (see [`crate::Connection::port`]); 0 for the kernel itself.
        port: u32,
    },
    /// Events were lost: read everything again.
    Lost,
}

/// A socket that hears of changes of links and of the routes of the main table.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Opens one in the present network namespace; it does not block.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let failed =
            |error: std::io::Error| Error::socket("listen for changes of links and routes", &error);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        // Smaller is not wrong: then we hear of losses, and read again.
        let _ = setsockopt(&socket.as_fd(), RcvBufForce, &RECEIVE_BUFFER);
        for group in [GROUP_LINK, GROUP_ROUTE4, GROUP_ROUTE6] {
            socket.add_membership(group).map_err(failed)?;
        }
        socket.set_non_blocking(true).map_err(failed)?;
        Ok(Self {
            socket,
            buffer: Vec::new(),
        })
    }

    /// What has happened since the last call; empty if nothing.
    ///
    /// # Errors
    /// [`Error::Socket`]; [`Error::Decode`] of a link.
    pub fn events(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        loop {
            self.buffer.clear();
            self.buffer.reserve(32 * 1024);
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    for raw in messages(&self.buffer) {
                        events.extend(event(&raw)?);
                    }
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(events),
                    Some(Errno::EINTR) => {}
                    Some(Errno::ENOBUFS) => events.push(Event::Lost),
                    _ => return Err(Error::socket("hear of changes", &error)),
                },
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn event(raw: &Raw<'_>) -> Result<Option<Event>, Error> {
    match raw.kind {
        NEWLINK | DELLINK => {
            // AF_BRIDGE notifications tell of bridge ports, not of links.
            if raw.payload.first() != Some(&0) {
                return Ok(None);
            }
            let link = match parse(raw)? {
                RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message) => {
                    Link::from(&message)
                }
                _ => return Ok(None),
            };
            Ok(Some(if raw.kind == NEWLINK {
                Event::Link(link)
            } else {
                Event::LinkGone(link)
            }))
        }
        NEWROUTE | DELROUTE => Ok(route(raw)),
        _ => Ok(None),
    }
}

/// Reads only what is needed of a route: there may be very many that are none of our business.
fn route(raw: &Raw<'_>) -> Option<Event> {
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
    let header: &[u8; 12] = raw.payload.first_chunk()?;
    let [family, length, _, _, table, protocol, ..] = *header;
    if table != TABLE_MAIN {
        return None;
    }
    let destination = attributes(raw.payload.get(12..)?)
        .find_map(|(kind, value)| (kind == ATTRIBUTE_DESTINATION).then_some(value));
    let address = match (i32::from(family), destination) {
        (nix::libc::AF_INET, Some(octets)) => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        (nix::libc::AF_INET, None) => IpAddr::from([0; 4]),
        (nix::libc::AF_INET6, Some(octets)) => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        (nix::libc::AF_INET6, None) => IpAddr::from([0; 16]),
        _ => return None,
    };
    Some(Event::Route {
        prefix: IpNet::new(address, length).ok()?,
        protocol,
        port: raw.port,
    })
}
