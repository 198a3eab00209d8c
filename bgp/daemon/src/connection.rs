//! One TCP stream, read and written by the driver itself; small tasks only say when that is worthwhile.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use margay_bgp::ConnectionId;
use margay_bgp::session::Failure;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use crate::driver::Io;
use crate::transport::{AoKey, Transport};
use crate::{socket, sys};

/// How long last words may take to get out and the peer's to come in.
const GOODBYE: Duration = Duration::from_secs(1);
/// Messages handed to the kernel by one call.
const TOGETHER: usize = 64;

/// A stream, and what the kernel has not taken yet. Dropping it closes the stream and ends its tasks.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Arc<TcpStream>,
    /// The options that it has.
    transport: Transport,
    waiting: VecDeque<Arc<[u8]>>,
    /// Octets of the first that waits which the kernel has.
    taken: usize,
    /// Whether anything was ever sent, and anything received.
    spoke: bool,
    heard: bool,
    /// What the kernel said to our writing; the peer's last words may still be there to be read.
    broken: Option<Failure>,
    /// Has the reading task wait again.
    read_on: Arc<Notify>,
    reading: Option<AbortHandle>,
    writing: Option<AbortHandle>,
}

/// What one reading gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// So many octets, and there may be more.
    Octets(usize),
    /// Nothing at present.
    Nothing,
    /// The end.
    Ended(Failure),
}

impl Connection {
    /// A stream whose options were set when it was dialled.
    pub(crate) fn new(stream: TcpStream, transport: Transport) -> Self {
        Self {
            stream: Arc::new(stream),
            transport,
            waiting: VecDeque::new(),
            taken: 0,
            spoke: false,
            heard: false,
            broken: None,
            read_on: Arc::default(),
            reading: None,
            writing: None,
        }
    }

    /// Our address and the peer's.
    ///
    /// # Errors
    /// The stream has ended already.
    pub(crate) fn ends(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.stream.local_addr()?, self.stream.peer_addr()?))
    }

    /// The options that it has.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Whether `peer`, who dialled, signs by this key.
    pub(crate) fn is_signed(&self, peer: IpAddr, key: &AoKey) -> bool {
        socket::is_signed(&self.stream, peer, key)
    }

    /// Has these options from now on, where it had others.
    pub(crate) fn set_transport(&mut self, transport: Transport) {
        if self.transport != transport
            && let Ok(peer) = self.stream.peer_addr()
        {
            socket::change(&self.stream, peer.ip(), &self.transport, &transport);
            self.transport = transport;
        }
    }

    /// Whether this is a stream with `peer` on which nothing has come yet.
    pub(crate) fn is_silence_of(&self, peer: IpAddr) -> bool {
        let remote = self.stream.peer_addr();
        !self.heard && remote.is_ok_and(|remote| remote.ip() == peer)
    }

    /// The TTL of the SYN that began it, if the peer did.
    pub(crate) fn syn_ttl(&self) -> Option<u8> {
        sys::syn_ttl(&*self.stream)
    }

    /// From now on the driver is told when there is something to read.
    pub(crate) fn watch(
        &mut self,
        id: ConnectionId,
        events: mpsc::Sender<Io>,
        tasks: &mut JoinSet<()>,
    ) {
        let (stream, read_on) = (self.stream.clone(), self.read_on.clone());
        let task = tasks.spawn(async move {
            // What is wrong with a stream is found out by reading it.
            loop {
                let _ = stream.readable().await;
                if events.send(Io::Readable(id)).await.is_err() {
                    return;
                }
                read_on.notified().await;
            }
        });
        self.reading = Some(task);
    }

    /// Reads what is there into `buffer`.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Reading {
        match self.stream.try_read(buffer) {
            Ok(0) => Reading::Ended(Failure::Closed),
            Ok(count) => {
                self.heard = true;
                Reading::Octets(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(failure) = self.broken.take() {
                    return Reading::Ended(failure);
                }
                self.read_on.notify_one();
                Reading::Nothing
            }
            Err(error) => Reading::Ended(socket::failure(error)),
        }
    }

    /// Puts octets behind what waits.
    pub(crate) fn send(&mut self, octets: Arc<[u8]>) {
        self.spoke = true;
        self.waiting.push_back(octets);
    }

    /// Hands the kernel what it takes and returns how much that was; the driver is told when it takes more.
    pub(crate) fn write(
        &mut self,
        id: ConnectionId,
        events: &mpsc::Sender<Io>,
        tasks: &mut JoinSet<()>,
    ) -> usize {
        let mut written = 0;
        while !self.waiting.is_empty() && self.writing.is_none() && self.broken.is_none() {
            match self.write_some() {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let (stream, events) = (self.stream.clone(), events.clone());
                    let task = tasks.spawn(async move {
                        let _ = stream.writable().await;
                        // The driver may be gone, and then needs no telling.
                        let _ = events.send(Io::Writable(id)).await;
                    });
                    self.writing = Some(task);
                }
                Err(error) => {
                    self.broken = Some(socket::failure(error));
                    self.waiting.clear();
                    self.read_on.notify_one();
                }
            }
        }
        written
    }

    /// Whether writing failed: the stream is to be read to its end.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// The kernel takes more.
    pub(crate) fn writable(&mut self) {
        self.writing = None;
    }

    fn write_some(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); TOGETHER];
        let mut skip = self.taken;
        let mut count = 0;
        for (slice, octets) in slices.iter_mut().zip(&self.waiting) {
            *slice = IoSlice::new(&octets[skip..]);
            skip = 0;
            count += 1;
        }
        let written = self.stream.try_write_vectored(&slices[..count])?;
        self.taken += written;
        while let Some(first) = self.waiting.front()
            && first.len() <= self.taken
        {
            self.taken -= first.len();
            self.waiting.pop_front();
        }
        Ok(written)
    }

    /// Closes once everything is sent. The peer's end of the stream is awaited, lest a reset overtake our last
    /// words; with one to whom nothing was said there is nothing to lose.
    pub(crate) fn close(mut self, goodbyes: &mut JoinSet<()>, most: usize) {
        if !self.spoke || self.broken.is_some() || goodbyes.len() >= most {
            return;
        }
        self.end_tasks();
        goodbyes.spawn(async move {
            // Whether the peer takes it is its own business.
            let _ = tokio::time::timeout(GOODBYE, self.say_goodbye()).await;
        });
    }

    async fn say_goodbye(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.stream.writable().await?;
            match self.write_some() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write)?;
        let mut unread = [0; 4096];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut unread) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn end_tasks(&mut self) {
        for task in self.reading.take().into_iter().chain(self.writing.take()) {
            task.abort();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end_tasks();
    }
}
