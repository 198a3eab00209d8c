//! A blocking route-netlink socket for requests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use crate::batch::{Batch, Part};
use crate::error::{Doing, Error};
use crate::sys;

/// Messages per system call: as many error answers still fit into a receive buffer of the usual size.
const MESSAGES_PER_SEND: usize = 256;
/// Octets per system call.
const OCTETS_PER_SEND: usize = 64 * 1024;
/// The kernel answers while it is asked; waiting longer means something is broken.
const TIMEOUT: Duration = Duration::from_secs(10);

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// An answer was interrupted by a change (`NLM_F_DUMP_INTR`).
const DUMP_INTERRUPTED: u16 = 0x10;
/// Attributes follow the error message (`NLM_F_ACK_TLVS`).
const ACK_ATTRIBUTES: u16 = 0x200;
/// The error message does not repeat the request's payload (`NLM_F_CAPPED`).
const ACK_CAPPED: u16 = 0x100;
/// How often an interrupted dump is repeated.
const DUMP_ATTEMPTS: u32 = 5;

/// A socket for requests, in the network namespace where it was opened.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of the kernel: type, flags, sequence number, payload.
pub(crate) struct Raw<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
    /// Header and payload.
    pub(crate) whole: &'a [u8],
}

impl Connection {
    /// Opens a socket in the present network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::new(NETLINK_ROUTE)
            .map_err(|error| Error::socket("open a netlink socket", &error))?;
        Self::with(socket)
    }

    /// Takes a route-netlink socket that somebody else opened, perhaps in another namespace.
    ///
    /// # Errors
    /// [`Error::Socket`] if it is no netlink socket.
    pub fn adopt(descriptor: OwnedFd) -> Result<Self, Error> {
        Self::with(sys::adopt(descriptor))
    }

    fn with(mut socket: Socket) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::socket("set up a netlink socket", &error);
        socket.bind_auto().map_err(failed)?;
        socket.set_ext_ack(true).map_err(failed)?;
        socket.set_cap_ack(true).map_err(failed)?;
        socket.set_netlink_get_strict_chk(true).map_err(failed)?;
        let timeout = TimeVal::new(TIMEOUT.as_secs().try_into().unwrap_or(i64::MAX), 0);
        setsockopt(&socket.as_fd(), ReceiveTimeout, &timeout)
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// The socket's port id: notifications of what it changed carry it.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn port(&self) -> Result<u32, Error> {
        let mut address = netlink_sys::SocketAddr::new(0, 0);
        self.socket
            .get_address(&mut address)
            .map_err(|error| Error::socket("ask for a netlink socket's name", &error))?;
        Ok(address.port_number())
    }

    /// Sends all messages and waits until the kernel has worked them off.
    ///
    /// Returns what it answered besides acknowledgements.
    ///
    /// # Errors
    /// The first failure; messages after a refused one are worked off all the same.
    pub fn run(&mut self, batch: Batch) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut answers = Vec::new();
        let mut failures = self.exchange(batch, &mut answers)?;
        if failures.is_empty() {
            Ok(answers)
        } else {
            Err(failures.swap_remove(0).1)
        }
    }

    /// Sends all messages and returns those that failed, by their place in the batch.
    ///
    /// # Errors
    /// Only what concerns the socket; then it is unknown what was done.
    pub fn run_each(&mut self, batch: Batch) -> Result<Vec<(usize, Error)>, Error> {
        self.exchange(batch, &mut Vec::new())
    }

    fn exchange(
        &mut self,
        mut batch: Batch,
        answers: &mut Vec<RouteNetlinkMessage>,
    ) -> Result<Vec<(usize, Error)>, Error> {
        let mut failures = Vec::new();
        let mut first = 0;
        while first < batch.parts.len() {
            let last = last_of_send(&batch, first);
            self.send(&mut batch, first, last)?;
            self.collect(&batch.parts, first, last, answers, &mut failures)?;
            first = last + 1;
        }
        Ok(failures)
    }

    /// Numbers the messages `first..=last`, asks for an acknowledgement of the last, and sends them.
    fn send(&mut self, batch: &mut Batch, first: usize, last: usize) -> Result<(), Error> {
        for index in first..=last {
            let start = batch.parts[index].start;
            self.sequence = self.sequence.wrapping_add(1);
            batch.octets[start + 8..start + 12].copy_from_slice(&self.sequence.to_ne_bytes());
            if index == last {
                let flags = u16::from_ne_bytes([batch.octets[start + 6], batch.octets[start + 7]]);
                let flags = (flags | NLM_F_ACK).to_ne_bytes();
                batch.octets[start + 6..start + 8].copy_from_slice(&flags);
            }
        }
        let from = batch.parts[first].start;
        let to = batch
            .parts
            .get(last + 1)
            .map_or(batch.octets.len(), |part| part.start);
        self.write(&batch.octets[from..to])
    }

    fn write(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.socket
            .send(octets, 0)
            .map(drop)
            .map_err(|error| Error::socket("send to the kernel", &error))
    }

    /// Reads until the last message's acknowledgement.
    fn collect(
        &mut self,
        parts: &[Part],
        first: usize,
        last: usize,
        answers: &mut Vec<RouteNetlinkMessage>,
        failures: &mut Vec<(usize, Error)>,
    ) -> Result<(), Error> {
        let end = self.sequence;
        let mut done = false;
        while !done {
            receive(&self.socket, &mut self.buffer)?;
            for raw in messages(&self.buffer) {
                // How far before the last message; beyond the first it is an answer to something older.
                let back = end.wrapping_sub(raw.sequence) as usize;
                if back > last - first {
                    continue;
                }
                let index = last - back;
                match raw.kind {
                    NLMSG_ERROR => {
                        done |= back == 0;
                        if let Some((errno, said)) = verdict(&raw)
                            && !parts[index].fine.contains(&errno)
                        {
                            let doing = parts[index].doing.clone();
                            failures.push((index, Error::Refused { doing, errno, said }));
                        }
                    }
                    NLMSG_NOOP | NLMSG_DONE => {}
                    _ => answers.push(parse(&raw)?),
                }
            }
        }
        Ok(())
    }

    /// Reads everything that a dump request gives; repeats it when the kernel says that it was interrupted by
    /// a change.
    pub(crate) fn dump(
        &mut self,
        request: RouteNetlinkMessage,
        doing: &Doing,
        mut each: impl FnMut(RouteNetlinkMessage) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            if self.dump_once(request.clone(), doing, &mut found)? {
                return found.into_iter().try_for_each(&mut each);
            }
        }
        Err(Error::Lost)
    }

    /// Whether the dump was complete.
    fn dump_once(
        &mut self,
        request: RouteNetlinkMessage,
        doing: &Doing,
        found: &mut Vec<RouteNetlinkMessage>,
    ) -> Result<bool, Error> {
        let mut batch = Batch::new();
        batch.push(request, NLM_F_DUMP, doing.clone(), &[]);
        self.sequence = self.sequence.wrapping_add(1);
        batch.octets[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.write(&batch.octets)?;
        let mut complete = true;
        loop {
            receive(&self.socket, &mut self.buffer)?;
            for raw in messages(&self.buffer) {
                if raw.sequence != self.sequence {
                    continue;
                }
                complete &= raw.flags & DUMP_INTERRUPTED == 0;
                match raw.kind {
                    NLMSG_DONE => return Ok(complete),
                    NLMSG_ERROR => {
                        if let Some((errno, said)) = verdict(&raw) {
                            let doing = doing.clone();
                            return Err(Error::Refused { doing, errno, said });
                        }
                        return Ok(complete);
                    }
                    NLMSG_NOOP => {}
                    _ => found.push(parse(&raw)?),
                }
            }
        }
    }
}

/// The last message that goes into the same system call as `first`.
fn last_of_send(batch: &Batch, first: usize) -> usize {
    let from = batch.parts[first].start;
    let mut last = first;
    while last + 1 < batch.parts.len() && last + 1 - first < MESSAGES_PER_SEND {
        let end = batch
            .parts
            .get(last + 2)
            .map_or(batch.octets.len(), |part| part.start);
        if end - from > OCTETS_PER_SEND {
            break;
        }
        last += 1;
    }
    last
}

/// Reads one datagram of the kernel into `buffer`.
pub(crate) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> Result<(), Error> {
    buffer.clear();
    buffer.reserve(64 * 1024);
    loop {
        match socket.recv(buffer, 0) {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
            Err(error) => return Err(Error::socket("read from the kernel", &error)),
        }
    }
}

/// The messages of a datagram; stops at what is no message.
pub(crate) fn messages(mut octets: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; 16] = octets.first_chunk()?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = word(0) as usize;
        let whole = octets.get(..length)?;
        let raw = Raw {
            kind: half(4),
            flags: half(6),
            sequence: word(8),
            port: word(12),
            payload: whole.get(16..)?,
            whole,
        };
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(raw)
    })
}

/// Attributes of a message: kind (without flags) and value; stops at what is none.
pub(crate) fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; 4] = octets.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = octets.get(4..length)?;
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

pub(crate) fn parse(raw: &Raw<'_>) -> Result<RouteNetlinkMessage, Error> {
    use netlink_packet_core::NetlinkPayload;
    let about = "links, addresses or routes";
    let decode = |reason: String| Error::Decode { about, reason };
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(raw.whole)
        .map_err(|error| decode(error.to_string()))?;
    match message.payload {
        NetlinkPayload::InnerMessage(message) => Ok(message),
        other => Err(decode(format!("unexpected {other:?}"))),
    }
}

/// The errno of an error message and the kernel's remark; `None` for an acknowledgement.
fn verdict(raw: &Raw<'_>) -> Option<(Errno, String)> {
    let code: &[u8; 4] = raw.payload.first_chunk()?;
    let code = i32::from_ne_bytes(*code);
    if code == 0 {
        return None;
    }
    let mut said = String::new();
    if raw.flags & ACK_ATTRIBUTES != 0 {
        // The request's header follows, and its payload unless it was cut off.
        let repeated = match raw.payload.get(4..8).and_then(<[u8]>::first_chunk::<4>) {
            Some(length) if raw.flags & ACK_CAPPED == 0 => u32::from_ne_bytes(*length) as usize,
            _ => 16,
        };
        let rest = raw.payload.get(4 + repeated.next_multiple_of(4)..);
        for (kind, value) in attributes(rest.unwrap_or(&[])) {
            if kind == 1 {
                let text = value.strip_suffix(b"\0").unwrap_or(value);
                said = String::from_utf8_lossy(text).into_owned();
            }
        }
    }
    Some((Errno::from_raw(code.saturating_neg()), said))
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
