//! Sockets as BGP wants them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use ipnet::IpNet;
use margay_bgp::session::Failure;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::sys;
use crate::transport::{AoKey, Password, Signature, Transport, Ttl};

/// Internetwork control (RFC 4271 has no word on it; every router marks BGP so).
const CONTROL: u32 = 0xc0;
/// A whole mesh may dial at once after a restart.
const BACKLOG: i32 = 4096;

/// A socket that is to listen; `[::]` is IPv6 alone, so that `0.0.0.0` may stand beside it.
///
/// # Errors
/// The kernel's.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    mark(&SockRef::from(&socket), address.ip());
    if let Err(error) = sys::save_syn(&socket) {
        tracing::debug!(%error, "the TTL of those who dial will not be known");
    }
    // Whoever has TTL security drops the answer to its SYN otherwise (RFC 5082 §3); nobody minds it.
    if address.is_ipv4() {
        socket.set_ttl_v4(255)?;
    } else {
        socket.set_unicast_hops_v6(255)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Has it listen.
///
/// # Errors
/// The kernel's.
pub(crate) fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Dials `to` from `source`, or from the kernel's choice.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn dial(
    mut to: SocketAddr,
    source: Option<IpAddr>,
    transport: Transport,
) -> Result<TcpStream, Failure> {
    let scope = scope(to.ip(), &transport)?;
    if let SocketAddr::V6(to) = &mut to {
        to.set_scope_id(scope);
    }
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(failure)?;
    mark(&SockRef::from(&socket), to.ip());
    if let Some(signature) = transport.signature() {
        sign(&socket, to.ip().into(), &signature).map_err(Failure::Other)?;
    }
    if transport.ttl != Ttl::Any {
        set_ttl(&socket, to.ip(), transport.ttl).map_err(failure)?;
    }
    if let Some(source) = source {
        let mut source = SocketAddr::new(source, 0);
        if let SocketAddr::V6(source) = &mut source
            && source.ip().is_unicast_link_local()
        {
            source.set_scope_id(scope);
        }
        socket.bind(source).map_err(failure)?;
    }
    let stream = socket.connect(to).await.map_err(failure)?;
    prepare(&stream);
    Ok(stream)
}

/// The number of the link that a link-local address is on; 0 for any other address.
pub(crate) fn scope(address: IpAddr, transport: &Transport) -> Result<u32, Failure> {
    let IpAddr::V6(address) = address else {
        return Ok(0);
    };
    if !address.is_unicast_link_local() {
        return Ok(0);
    }
    let Some(interface) = &transport.interface else {
        return Err(Failure::Other(format!(
            "{address} is a link-local address: say on which interface the peer is"
        )));
    };
    nix::net::if_::if_nametoindex(interface.as_str())
        .map_err(|_| Failure::Other(format!("there is no interface {interface}")))
}

/// Whether somebody who dialled from `address` came over the right link.
pub(crate) fn is_on_its_link(address: SocketAddr, transport: &Transport) -> bool {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            scope(address.ip(), transport) == Ok(v6.scope_id())
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => true,
    }
}

/// Signs what goes between this socket and `peers`, and drops what comes and is not signed.
///
/// # Errors
/// What the kernel refuses and why.
pub(crate) fn sign(socket: &impl AsFd, peers: IpNet, signature: &Signature) -> Result<(), String> {
    match signature {
        Signature::Md5(password) => sys::set_md5(socket, peers, password.octets())
            .map_err(|error| format!("the kernel refuses the TCP MD5 password: {error}")),
        Signature::Ao(key) => sys::add_ao(socket, peers, key)
            .map_err(|error| format!("the kernel refuses the TCP-AO key: {error}")),
    }
}

/// Whether a connection that the peer began is signed as it is to be: one of before the key was there is not.
pub(crate) fn is_signed(stream: &TcpStream, peer: IpAddr, key: &AoKey) -> bool {
    match sys::add_ao(stream, peer.into(), key) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
    }
}

/// Brings the options of a stream from `before` to `now`; nothing of it ends the connection.
pub(crate) fn change(stream: &TcpStream, peer: IpAddr, before: &Transport, now: &Transport) {
    if before.password != now.password {
        let octets = now.password.as_ref().map_or(&[][..], Password::octets);
        if let Err(error) = sys::set_md5(stream, peer.into(), octets) {
            tracing::warn!(%peer, %error, "the kernel refuses the new TCP MD5 password");
        }
    }
    if before.ttl != now.ttl
        && let Err(error) = set_ttl(stream, peer, now.ttl)
    {
        tracing::warn!(%peer, %error, "the kernel refuses the TTL");
    }
}

fn set_ttl(socket: &impl AsFd, peer: IpAddr, ttl: Ttl) -> io::Result<()> {
    // What every kernel starts with unless it was told otherwise.
    const USUAL: u32 = 64;
    let sent = ttl.sent().map_or(USUAL, u32::from);
    let options = SockRef::from(socket);
    match peer {
        IpAddr::V4(_) => options.set_ttl_v4(sent)?,
        IpAddr::V6(_) => options.set_unicast_hops_v6(sent)?,
    }
    sys::set_min_ttl(socket, peer, ttl.least())
}

/// Sets what every connection has. Failure is of no consequence: only speed suffers.
pub(crate) fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "socket option refused");
    }
}

fn mark(socket: &SockRef<'_>, address: IpAddr) {
    let result = match address {
        IpAddr::V4(_) => socket.set_tos_v4(CONTROL),
        IpAddr::V6(_) => socket.set_tclass_v6(CONTROL),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "socket option refused");
    }
}

/// The kernel's error in the speaker's words.
pub(crate) fn failure(error: io::Error) -> Failure {
    use io::ErrorKind;
    let known = [
        (ErrorKind::ConnectionRefused, Failure::Refused),
        (ErrorKind::TimedOut, Failure::TimedOut),
        (ErrorKind::HostUnreachable, Failure::Unreachable),
        (ErrorKind::NetworkUnreachable, Failure::Unreachable),
        (ErrorKind::AddrNotAvailable, Failure::NoSuchSource),
        (ErrorKind::ConnectionReset, Failure::Reset),
        (ErrorKind::BrokenPipe, Failure::Reset),
    ];
    let found = known.into_iter().find(|(kind, _)| *kind == error.kind());
    found.map_or_else(|| Failure::Other(error.to_string()), |(_, failure)| failure)
}

/// How long to wait before listening is tried again.
pub(crate) const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Why nothing listens, and what to do.
pub(crate) fn listen_failure(error: &io::Error) -> String {
    let hints = [
        (
            io::ErrorKind::AddrInUse,
            "another process has the port: does a BGP daemon run here?",
        ),
        (
            io::ErrorKind::PermissionDenied,
            "ports below 1024 need CAP_NET_BIND_SERVICE",
        ),
        (
            io::ErrorKind::AddrNotAvailable,
            "the address is not one of this node (yet)",
        ),
    ];
    let hint = hints.into_iter().find(|(kind, _)| *kind == error.kind());
    let hint = hint.map_or("tried again every 5 s", |(_, hint)| hint);
    format!("cannot listen: {error}; {hint}. Sessions that we dial still work")
}
