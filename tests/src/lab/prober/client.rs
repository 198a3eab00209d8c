//! Clients: each shot is tried a few times, and any answer at all ends it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Effort, Protocol, Seen, Shot, icmp, inside, server};

/// Tries all shots, results in the same order.
pub(super) async fn shoot(shots: Vec<Shot>, effort: Effort) -> Vec<Seen> {
    let sctp = server::sctp_exists();
    let permits = Arc::new(Semaphore::new(effort.at_once));
    let mut results = vec![Seen::Failed("the prober lost it".to_owned()); shots.len()];
    let mut running = JoinSet::new();
    for (index, shot) in shots.into_iter().enumerate() {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        running.spawn(async move {
            let seen = if shot.protocol == Protocol::Sctp && !sctp {
                Seen::Skipped("this kernel has no SCTP sockets".to_owned())
            } else {
                one(&shot, effort.tries).await
            };
            drop(permit);
            (index, seen)
        });
        while let Some(Ok((index, seen))) = running.try_join_next() {
            results[index] = seen;
        }
    }
    while let Some(Ok((index, seen))) = running.join_next().await {
        results[index] = seen;
    }
    results
}

async fn one(shot: &Shot, tries: &[Duration]) -> Seen {
    let mut last = Seen::Silence;
    for &patience in tries {
        let attempt = async {
            match shot.protocol {
                Protocol::Tcp | Protocol::Sctp => stream(shot).await,
                Protocol::Udp => datagram(shot).await,
                Protocol::Icmp => echo(shot).await,
            }
        };
        last = match timeout(patience, attempt).await {
            Ok(Ok(())) => return Seen::Through,
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Seen::Through,
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => return Seen::Through,
            Ok(Err(error)) => {
                tokio::time::sleep(patience).await; // a neighbour or route may still come
                Seen::Failed(error.to_string())
            }
            Err(_) => Seen::Silence,
        };
    }
    last
}

/// A connection attempt, reset at once when it succeeds.
async fn stream(shot: &Shot) -> io::Result<()> {
    let socket = client_socket(shot)?;
    if shot.protocol == Protocol::Tcp {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    TcpSocket::from_std_stream(socket.into())
        .connect(destination(shot))
        .await
        .map(drop)
}

/// One datagram and its echo, or the port unreachable that a connected socket reports as refused.
async fn datagram(shot: &Shot) -> io::Result<()> {
    let socket = client_socket(shot)?;
    socket.connect(&destination(shot).into())?;
    socket.send(b"margay-p")?;
    receive(socket, |answer| answer == b"margay-p").await
}

async fn echo(shot: &Shot) -> io::Result<()> {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let socket = client_socket(shot)?;
    socket.connect(&SocketAddr::new(shot.destination, 0).into())?;
    let id = LAST.fetch_add(1, Ordering::Relaxed);
    socket.send(&icmp::request(shot.destination, id, 1))?;
    receive(socket, |answer| {
        icmp::is_reply(shot.destination, answer, id)
    })
    .await
}

/// Waits for an answer; a raw socket is read as a datagram socket is.
async fn receive(socket: Socket, is_answer: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let socket = UdpSocket::from_std(socket.into())?;
    let mut buffer = [0; 2048];
    loop {
        let read = socket.recv(&mut buffer).await?;
        if buffer.get(..read).is_some_and(&is_answer) {
            return Ok(());
        }
    }
}

fn socket(shot: &Shot, kind: Type, protocol: socket2::Protocol) -> io::Result<Socket> {
    inside(&shot.netns, || {
        let domain = if shot.destination.is_ipv4() {
            Domain::IPV4
        } else {
            Domain::IPV6
        };
        let socket = Socket::new(domain, kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if let Some(source) = shot.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(socket)
    })
}

/// A client's socket, bound and not yet connected. The calling thread is in its namespace afterwards.
pub(in crate::lab) fn client_socket(shot: &Shot) -> io::Result<Socket> {
    let v4 = shot.destination.is_ipv4();
    match shot.protocol {
        Protocol::Tcp => socket(shot, Type::STREAM, socket2::Protocol::TCP),
        Protocol::Sctp => socket(shot, Type::STREAM, socket2::Protocol::SCTP),
        Protocol::Udp => socket(shot, Type::DGRAM, socket2::Protocol::UDP),
        Protocol::Icmp if v4 => socket(shot, Type::RAW, socket2::Protocol::ICMPV4),
        Protocol::Icmp => socket(shot, Type::RAW, socket2::Protocol::ICMPV6),
    }
}

fn destination(shot: &Shot) -> SocketAddr {
    SocketAddr::new(shot.destination, shot.port)
}
