//! Listening sockets: TCP and UDP echo, SCTP accept.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::{Listener, Protocol, inside};

/// Opens all sockets of a listener and serves them on the returned tasks.
pub(super) fn listen(listener: &Listener) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for &(protocol, port) in &listener.ports {
        for &address in &listener.addresses {
            let at = SocketAddr::new(address, port);
            inside(&listener.netns, || open(protocol, at, &mut tasks)).with_context(|| {
                format!(
                    "cannot listen on {protocol} {at} in {}",
                    listener.netns.name()
                )
            })?;
        }
    }
    Ok(tasks)
}

fn open(protocol: Protocol, at: SocketAddr, tasks: &mut JoinSet<()>) -> io::Result<()> {
    match protocol {
        Protocol::Icmp => {} // the kernel answers
        Protocol::Tcp => {
            let socket = bound(Type::STREAM, socket2::Protocol::TCP, at)?;
            socket.listen(1024)?;
            let socket = TcpListener::from_std(socket.into())?;
            tasks.spawn(accept(socket));
        }
        Protocol::Udp => {
            let socket =
                UdpSocket::from_std(bound(Type::DGRAM, socket2::Protocol::UDP, at)?.into())?;
            tasks.spawn(echo_datagrams(socket));
        }
        Protocol::Sctp if sctp_exists() => {
            let socket = bound(Type::STREAM, socket2::Protocol::SCTP, at)?;
            socket.listen(1024)?;
            tasks.spawn(accept(TcpListener::from_std(socket.into())?));
        }
        Protocol::Sctp => {}
    }
    Ok(())
}

/// Whether this kernel has SCTP sockets.
pub(super) fn sctp_exists() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, Some(socket2::Protocol::SCTP)).is_ok()
}

fn bound(kind: Type, protocol: socket2::Protocol, at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(kind == Type::STREAM)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    Ok(socket)
}

async fn accept(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(echo(stream)); }
                Err(_) => tokio::task::yield_now().await, // out of descriptors, or the client is gone
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Echoes until the client closes or resets.
async fn echo(mut stream: TcpStream) {
    let _no_delay_is_a_wish = stream.set_nodelay(true);
    let mut buffer = [0; 2048];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream
            .write_all(buffer.get(..read).unwrap_or_default())
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        // An error belongs to an earlier answer (a port that closed): the next datagram counts.
        if let Ok((read, from)) = socket.recv_from(&mut buffer).await {
            let _lost = socket
                .send_to(buffer.get(..read).unwrap_or_default(), from)
                .await;
        }
    }
}
