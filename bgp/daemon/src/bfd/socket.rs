//! UDP as BFD wants it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Single hop (RFC 5881 §4) and multihop (RFC 5883 §5).
pub(super) const SINGLE_HOP: u16 = 3784;
pub(super) const MULTIHOP: u16 = 4784;
/// Source ports (RFC 5881 §4).
const SOURCES: std::ops::RangeInclusive<u16> = 49152..=65535;
/// Internetwork control, as the routers mark it.
const CONTROL: u32 = 0xc0;

/// Where packets of a family and kind come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) v4: bool,
    pub(super) port: u16,
}

/// A packet and whence.
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    /// What was left of its TTL (hop limit).
    pub(super) ttl: u8,
}

/// # Errors
/// The kernel's.
pub(super) fn listen(place: Place) -> io::Result<UdpSocket> {
    let address: SocketAddr = if place.v4 {
        (Ipv4Addr::UNSPECIFIED, place.port).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, place.port).into()
    };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    if place.v4 {
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The next packet, if there is one.
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<Received> {
    let mut space = nix::cmsg_space!(libc::c_int, libc::c_int);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )
    .ok()?;
    let from = message.address?;
    let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::new(v4.ip().into(), v4.port()),
        (None, Some(v6)) => SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        (None, None) => return None,
    };
    let ttl = message.cmsgs().ok()?.find_map(|message| {
        if let ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) = message
        {
            u8::try_from(ttl).ok()
        } else {
            None
        }
    });
    Some(Received {
        length: message.bytes,
        from,
        // Without its TTL a packet may come from anywhere.
        ttl: ttl.unwrap_or(0),
    })
}

/// A socket that a session sends from; `number` chooses where to begin to look for a free port.
///
/// # Errors
/// The kernel's.
pub(super) fn sender(local: IpAddr, scope: u32, number: u32) -> io::Result<UdpSocket> {
    let count = u32::from(SOURCES.end() - SOURCES.start()) + 1;
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for attempt in 0..64 {
        let offset = number.wrapping_add(attempt) % count;
        let port = SOURCES.start() + u16::try_from(offset).unwrap_or(0);
        let mut address = SocketAddr::new(local, port);
        if let SocketAddr::V6(v6) = &mut address {
            v6.set_scope_id(scope);
        }
        match UdpSocket::bind(address) {
            Ok(socket) => {
                let options = SockRef::from(&socket);
                if local.is_ipv4() {
                    options.set_ttl_v4(255)?;
                    options.set_tos_v4(CONTROL)?;
                } else {
                    options.set_unicast_hops_v6(255)?;
                    options.set_tclass_v6(CONTROL)?;
                }
                socket.set_nonblocking(true)?;
                return Ok(socket);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
