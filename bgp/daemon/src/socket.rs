//! Sockets as BGP wants them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use margay_bgp::session::Failure;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Internetwork control (RFC 4271 has no word on it; every router marks BGP so).
const CONTROL: u32 = 0xc0;
/// A whole mesh may dial at once after a restart.
const BACKLOG: i32 = 4096;

/// A listening socket; `[::]` is IPv6 alone, so that `0.0.0.0` may stand beside it.
///
/// # Errors
/// The kernel's.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Dials `to` from `source`, or from the kernel's choice.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn dial(to: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Failure> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(failure)?;
    mark(&SockRef::from(&socket), to.ip());
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).map_err(failure)?;
    }
    let stream = socket.connect(to).await.map_err(failure)?;
    prepare(&stream);
    Ok(stream)
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
