//! Socket options that no crate wraps, and a socket that tokio does not know.
#![expect(
    unsafe_code,
    reason = "setsockopt and getsockopt with the kernel's own structures, and a descriptor for tokio"
)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use ipnet::IpNet;
use netlink_sys::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::transport::AoKey;

/// `struct tcp_md5sig`: an address as `sockaddr_storage`, flags, prefix length, key length, link, key.
const MD5SIG: usize = 128 + 8 + libc::TCP_MD5SIG_MAXKEYLEN;
/// `TCP_MD5SIG_FLAG_PREFIX`.
const PREFIX: u8 = 1;

/// Options of `linux/tcp.h` since Linux 6.7.
const TCP_AO_ADD_KEY: libc::c_int = 38;
const TCP_AO_DEL_KEY: libc::c_int = 39;
/// `struct tcp_ao_add`: an address as `sockaddr_storage`, the algorithm's name, link, flags, padding, prefix length, `SendID`,
/// `RecvID`, length of the code, flags, length of the key, key.
const AO_ADD: usize = 128 + 64 + 4 + 4 + 2 + 6 + AO_KEY;
/// `struct tcp_ao_del`: an address, link, flags, padding, prefix length, `SendID`, `RecvID`, current and next key, flags.
const AO_DEL: usize = 128 + 4 + 4 + 2 + 6;
/// `TCP_AO_MAXKEYLEN`.
const AO_KEY: usize = 80;
/// Octets of a code (RFC 5926 §3.1).
const AO_CODE: u8 = 12;

/// Whether this kernel has TCP-AO (RFC 5925): Linux 6.7 and later, if built with `CONFIG_TCP_AO`.
pub(crate) fn has_ao() -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    // A key of nobody is refused in any case; the question is why.
    let nobody = [0; AO_ADD];
    let refusal = socket.map(|socket| set(&socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &nobody));
    let without = |error: &io::Error| error.raw_os_error() == Some(libc::ENOPROTOOPT);
    !matches!(refusal, Ok(Err(error)) if without(&error))
}

/// Signs segments to and from `peers` with `key` (TCP-AO). Once it has been added, what is not signed is dropped.
///
/// # Errors
/// The kernel's: `EEXIST` if there is one with these identifiers, `EISCONN` on a connection that began without,
/// `ENOPROTOOPT` without TCP-AO.
pub(crate) fn add_ao(socket: &impl AsFd, peers: IpNet, key: &AoKey) -> io::Result<()> {
    let option = ao_add(peers, key).ok_or(io::ErrorKind::InvalidInput)?;
    set(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option)
}

/// Ends that, of a socket that listens.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove_ao(socket: &impl AsFd, peers: IpNet, key: &AoKey) -> io::Result<()> {
    let mut option = [0; AO_DEL];
    option[..128].copy_from_slice(&storage(peers.network()));
    option[138..141].copy_from_slice(&[peers.prefix_len(), key.send_id, key.receive_id]);
    set(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &option)
}

fn ao_add(peers: IpNet, key: &AoKey) -> Option<[u8; AO_ADD]> {
    let mut option = [0; AO_ADD];
    let (name, secret) = (key.algorithm.name().as_bytes(), key.key.octets());
    option[..128].copy_from_slice(&storage(peers.network()));
    option.get_mut(128..128 + name.len())?.copy_from_slice(name);
    option[202..206].copy_from_slice(&[peers.prefix_len(), key.send_id, key.receive_id, AO_CODE]);
    option[207] = u8::try_from(secret.len()).ok()?;
    option
        .get_mut(208..208 + secret.len())?
        .copy_from_slice(secret);
    Some(option)
}

/// An address as `sockaddr_storage`, without a port.
fn storage(address: IpAddr) -> [u8; 128] {
    let mut storage = [0; 128];
    match address {
        IpAddr::V4(v4) => {
            storage[..2].copy_from_slice(&family(libc::AF_INET).to_ne_bytes());
            storage[4..8].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            storage[..2].copy_from_slice(&family(libc::AF_INET6).to_ne_bytes());
            storage[8..24].copy_from_slice(&v6.octets());
        }
    }
    storage
}

/// Signs segments to and from `peers` with `key`; an empty key ends that.
///
/// # Errors
/// The kernel's: `ENOENT` if there is no key to end, `ENOPROTOOPT` without TCP MD5.
pub(crate) fn set_md5(socket: &impl AsFd, peers: IpNet, key: &[u8]) -> io::Result<()> {
    let mut option = [0; MD5SIG];
    option[..128].copy_from_slice(&storage(peers.network()));
    option[128] = PREFIX;
    option[129] = peers.prefix_len();
    let length = u16::try_from(key.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    option[130..132].copy_from_slice(&length.to_ne_bytes());
    option
        .get_mut(136..136 + key.len())
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(key);
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &option)
}

fn family(family: libc::c_int) -> u16 {
    u16::try_from(family).expect("address families are small numbers")
}

/// Drops what arrives with a lower TTL (hop limit).
///
/// # Errors
/// The kernel's.
pub(crate) fn set_min_ttl(socket: &impl AsFd, peer: IpAddr, ttl: u8) -> io::Result<()> {
    let value = libc::c_int::from(ttl).to_ne_bytes();
    match peer {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value),
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &value),
    }
}

/// Has a listening socket keep the headers of SYNs for [`syn_ttl`].
///
/// # Errors
/// The kernel's.
pub(crate) fn save_syn(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    set(
        socket,
        libc::IPPROTO_TCP,
        libc::TCP_SAVE_SYN,
        &on.to_ne_bytes(),
    )
}

/// Lets nothing in that is sent to a raw `ICMPv6` socket (RFC 3542 §3.2).
///
/// # Errors
/// The kernel's.
pub(crate) fn block_icmp6(socket: &impl AsFd) -> io::Result<()> {
    /// `ICMPV6_FILTER` of `linux/icmpv6.h`; a bit for each type that is kept out.
    const FILTER: libc::c_int = 1;
    set(socket, libc::IPPROTO_ICMPV6, FILTER, &[0xff; 32])
}

/// The TTL (hop limit) that the SYN of an accepted connection arrived with.
pub(crate) fn syn_ttl(socket: &impl AsFd) -> Option<u8> {
    let mut headers = [0_u8; 128];
    let mut length = libc::socklen_t::try_from(headers.len()).ok()?;
    // SAFETY: the kernel writes at most `length` octets, which `headers` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            headers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let headers = headers.get(..usize::try_from(length).ok()?)?;
    match headers.first()? >> 4 {
        _ if result != 0 => None,
        4 => headers.get(8).copied(),
        6 => headers.get(7).copied(),
        _ => None,
    }
}

/// A netlink socket that can be waited for until there is something to read.
///
/// # Errors
/// The kernel's.
pub(crate) fn readable(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket owns its descriptor, gives the same one whenever it is asked, and closes it only when it is
    // dropped, which the value returned does after it has ended its registration.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}

fn set(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads `length` octets, which `value` has, and keeps no reference to them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;
