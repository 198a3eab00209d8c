//! The socket to the kernel: blocking, for one thread.

use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use crate::batch::{BEGIN_SEQ, Batch, Finished};
use crate::error::{DecodeError, Error};
use crate::uapi;
use crate::wire::{Attrs, HEADER, Head, Writer, take_message};

/// A netlink socket for netfilter (nf_tables and conntrack), in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    netlink: netlink_sys::Socket,
    portid: u32,
    send_limit: usize,
    buffer: Vec<u8>,
}

/// No message of the kernel is longer: it fills at most 32 KiB when it dumps.
const RECEIVE: usize = 1 << 16;
/// Room for the errors of a large batch; memory is only taken as they come.
const RECEIVE_QUEUE: usize = 8 << 20;
/// What the kernel keeps of the send buffer for itself, generously.
const SEND_OVERHEAD: usize = 4096;

impl Socket {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let failed = |action| move |error: std::io::Error| Error::socket(action, &error);
        let mut netlink = netlink_sys::Socket::new(NETLINK_NETFILTER)
            .map_err(failed("open a netfilter socket"))?;
        netlink
            .set_cap_ack(true)
            .map_err(failed("ask for short acknowledgements"))?;
        netlink
            .set_ext_ack(true)
            .map_err(failed("ask for detailed errors"))?;
        let address = netlink
            .bind_auto()
            .map_err(failed("bind a netfilter socket"))?;
        netlink
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connect to the kernel"))?;
        // Without CAP_NET_ADMIN the socket can still read: it keeps the buffers that it has.
        if let Err(errno) = setsockopt(&netlink, sockopt::RcvBufForce, &RECEIVE_QUEUE)
            && errno != Errno::EPERM
        {
            return Err(Error::Socket {
                action: "enlarge the receive buffer",
                errno,
            });
        }
        Ok(Self {
            netlink,
            portid: address.port_number(),
            send_limit: 0,
            buffer: vec![0; RECEIVE],
        })
    }

    /// The number that the kernel knows this socket by: messages about its changes, and tables that it owns, carry it.
    pub fn portid(&self) -> u32 {
        self.portid
    }

    /// Hears of the changes that anybody makes to nf_tables.
    pub(crate) fn subscribe(&mut self) -> Result<(), Error> {
        self.netlink
            .add_membership(uapi::NFNLGRP_NFTABLES)
            .map_err(|error| Error::socket("subscribe to changes of nf_tables", &error))
    }

    /// Has the kernel do a batch: all of it, or nothing.
    ///
    /// # Errors
    /// [`Error::Stale`] if the ruleset has another generation than the batch was made for; [`Error::Refused`] names the first
    /// operation that failed; [`Error::AnswersLost`] leaves open whether it was done.
    pub fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        let Some(finished) = batch.finish() else {
            return Ok(());
        };
        self.drain()?;
        self.send(&finished.octets)?;
        // The kernel has done the work when sending returns, and its answers are there.
        let mut first = None;
        loop {
            let length = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Err(Error::Socket {
                    errno: Errno::EAGAIN,
                    ..
                }) => return Err(first.unwrap_or(Error::AnswersLost)),
                other => other?,
            };
            let mut rest = &self.buffer[..length];
            while let Some((head, payload)) =
                take_message(&mut rest).map_err(decoding("a batch"))?
            {
                if head.kind != uapi::NLMSG_ERROR {
                    continue;
                }
                let answer = Answer::decode(head, payload).map_err(decoding("a batch"))?;
                if answer.errno.is_some() && first.is_none() {
                    first = refusal(&finished, &answer).map_err(decoding("a batch"))?;
                }
                if answer.seq == finished.last_seq || answer.seq == BEGIN_SEQ {
                    return first.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends requests that are no batch and hands each message of the answer to `each`, until a message ends it: `NLMSG_DONE`, or
    /// an acknowledgement or error of the last of the `requests`. The errors of the others go to `ignored`, which says whether
    /// to go on.
    pub(crate) fn exchange(
        &mut self,
        what: &'static str,
        requests: &Writer,
        last_seq: u32,
        mut each: impl FnMut(Head, &[u8]) -> Result<(), DecodeError>,
        ignored: impl Fn(Errno) -> bool,
    ) -> Result<(), Error> {
        self.drain()?;
        self.send(&requests.bytes)?;
        let mut interrupted = false;
        loop {
            let length = self.receive(MsgFlags::empty())?;
            let mut rest = &self.buffer[..length];
            while let Some((head, payload)) = take_message(&mut rest).map_err(decoding(what))? {
                interrupted |=
                    head.flags & uapi::NLM_F_DUMP_INTR != 0 && head.kind != uapi::NLMSG_ERROR;
                let (seq, errno) = match head.kind {
                    uapi::NLMSG_DONE => (last_seq, errno_of(payload)),
                    uapi::NLMSG_ERROR => {
                        let answer = Answer::decode(head, payload).map_err(decoding(what))?;
                        (answer.seq, answer.errno)
                    }
                    _ => {
                        each(head, payload).map_err(decoding(what))?;
                        continue;
                    }
                };
                if let Some(errno) = errno.filter(|errno| !ignored(*errno)) {
                    return Err(Error::RefusedWhole { what, errno });
                }
                if seq == last_seq {
                    return if interrupted {
                        Err(Error::Unsteady { attempts: 1 })
                    } else {
                        Ok(())
                    };
                }
            }
        }
    }

    /// Throws away what is left of an exchange that ended early.
    fn drain(&mut self) -> Result<(), Error> {
        loop {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Error::AnswersLost) => {}
                Err(Error::Socket {
                    errno: Errno::EAGAIN,
                    ..
                }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), Error> {
        let needed = octets.len() + SEND_OVERHEAD;
        if needed > self.send_limit {
            // The kernel doubles the number; it must not get over half of an `int`.
            let size = needed.min(i32::MAX as usize / 2);
            setsockopt(&self.netlink, sockopt::SndBufForce, &size)
                .or_else(|_| setsockopt(&self.netlink, sockopt::SndBuf, &size))
                .map_err(|errno| Error::Socket {
                    action: "enlarge the send buffer",
                    errno,
                })?;
            self.send_limit = size;
        }
        loop {
            match nix::sys::socket::send(self.netlink.as_raw_fd(), octets, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::Socket {
                        action: "send to the kernel",
                        errno,
                    });
                }
            }
        }
    }

    /// Receives a datagram into the buffer; its length.
    fn receive(&mut self, flags: MsgFlags) -> Result<usize, Error> {
        loop {
            match nix::sys::socket::recv(
                self.netlink.as_raw_fd(),
                &mut self.buffer,
                flags | MsgFlags::MSG_TRUNC,
            ) {
                Ok(length) if length > self.buffer.len() => {
                    let error = DecodeError::Length {
                        what: "datagram",
                        says: self.buffer.len(),
                        has: length,
                    };
                    return Err(decoding("a request")(error));
                }
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Err(Error::AnswersLost),
                Err(errno) => {
                    return Err(Error::Socket {
                        action: "receive from the kernel",
                        errno,
                    });
                }
            }
        }
    }

    /// Waits for a datagram that nobody asked for; `None` if there is none in time.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<&[u8]>, Error> {
        let timeout = match timeout {
            None => PollTimeout::NONE,
            // Rounded up, or a short rest of a wait would spin.
            Some(timeout) => PollTimeout::try_from(timeout.as_micros().div_ceil(1000))
                .unwrap_or(PollTimeout::MAX),
        };
        let ready = loop {
            let mut descriptors = [PollFd::new(
                std::os::fd::AsFd::as_fd(&self.netlink),
                PollFlags::POLLIN,
            )];
            match nix::poll::poll(&mut descriptors, timeout) {
                Ok(ready) => break ready,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::Socket {
                        action: "wait for the kernel",
                        errno,
                    });
                }
            }
        };
        if ready == 0 {
            return Ok(None);
        }
        match self.receive(MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(Error::Socket {
                errno: Errno::EAGAIN,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Error {
    fn socket(action: &'static str, error: &std::io::Error) -> Self {
        Self::Socket {
            action,
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
        }
    }
}

/// Turns an error of decoding into one of an exchange.
pub(crate) fn decoding(what: &'static str) -> impl Fn(DecodeError) -> Error {
    move |source| Error::Decode { what, source }
}

/// What an error or acknowledgement says (`struct nlmsgerr` and the attributes behind it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) seq: u32,
    pub(crate) errno: Option<Errno>,
    pub(crate) said: String,
    pub(crate) offset: Option<usize>,
}

impl Answer {
    pub(crate) fn decode(head: Head, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some((_, original)) = payload.split_at_checked(4) else {
            return Err(DecodeError::Length {
                what: "error",
                says: 4,
                has: payload.len(),
            });
        };
        let Some(header) = original.first_chunk::<HEADER>() else {
            return Err(DecodeError::Length {
                what: "error",
                says: HEADER,
                has: original.len(),
            });
        };
        let [l0, l1, l2, l3, _, _, _, _, s0, s1, s2, s3, ..] = *header;
        let mut answer = Self {
            seq: u32::from_ne_bytes([s0, s1, s2, s3]),
            errno: errno_of(payload),
            said: String::new(),
            offset: None,
        };
        if head.flags & uapi::NLM_F_ACK_TLVS != 0 {
            let length = match head.flags & uapi::NLM_F_CAPPED {
                0 => u32::from_ne_bytes([l0, l1, l2, l3]) as usize,
                _ => HEADER,
            };
            for attr in Attrs(
                original
                    .get(length.next_multiple_of(4)..)
                    .unwrap_or_default(),
            ) {
                let attr = attr?;
                match attr.kind {
                    uapi::NLMSGERR_ATTR_MSG => attr.text("error")?.clone_into(&mut answer.said),
                    uapi::NLMSGERR_ATTR_OFFS => {
                        answer.offset = Some(attr.host_u32("error")? as usize);
                    }
                    _ => {}
                }
            }
        }
        Ok(answer)
    }
}

/// The negative errno at the begin of an error or of the end of a dump.
fn errno_of(payload: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(*payload.first_chunk()?);
    (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
}

/// The error that an answer to a batch means.
fn refusal(finished: &Finished, answer: &Answer) -> Result<Option<Error>, DecodeError> {
    let Some(errno) = answer.errno else {
        return Ok(None);
    };
    if errno == Errno::ERESTART {
        return Ok(Some(Error::Stale));
    }
    let subject = finished.subject(answer.seq, answer.offset)?;
    Ok(Some(match subject {
        Some(subject) => Error::Refused {
            subject: Box::new(subject),
            errno,
            said: answer.said.clone(),
        },
        None => Error::RefusedWhole {
            what: "batch",
            errno,
        },
    }))
}
