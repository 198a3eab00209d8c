//! Questions to the kernel over route netlink, and word of changes there.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader,
};
use netlink_sys::constants::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::sync::mpsc;

use crate::driver::Io;
use crate::sys;

/// A group of `linux/rtnetlink.h` that tells of changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Group {
    Links = 1,
    Neighbours = 3,
    Ipv4Routes = 7,
    Ipv6Routes = 11,
}

/// Between two looks at what changes all the time.
const PAUSE: Duration = Duration::from_millis(50);
/// As much as the kernel puts into one answer.
const ANSWER: usize = 32 * 1024;
/// Dumps that changes interrupt are begun again so often.
const ATTEMPTS: usize = 5;
/// Of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Asks the kernel, which answers while it is asked.
pub(crate) struct Kernel {
    socket: Socket,
}

impl Kernel {
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// The answer to one question: its kind, and what comes after its header.
    ///
    /// # Errors
    /// The kernel's, also those that it answers with.
    pub(crate) fn ask(&self, kind: u16, question: &impl Emitable) -> io::Result<(u16, Vec<u8>)> {
        self.send(kind, 0, question)?;
        self.answer()
    }

    fn answer(&self) -> io::Result<(u16, Vec<u8>)> {
        let mut octets = Vec::with_capacity(ANSWER);
        self.socket.recv(&mut octets, 0)?;
        let first = messages(&octets).next().ok_or(io::ErrorKind::InvalidData)?;
        refusal(&first)?;
        Ok((first.kind, first.payload.to_vec()))
    }

    /// Has the kernel do something.
    ///
    /// # Errors
    /// The kernel's, also those that it answers with.
    pub(crate) fn tell(&self, kind: u16, order: &impl Emitable) -> io::Result<()> {
        self.send(kind, NLM_F_ACK, order)?;
        self.answer().map(drop)
    }

    /// Everything of a kind.
    ///
    /// # Errors
    /// The kernel's, also those that it answers with.
    pub(crate) fn dump(&self, kind: u16, question: &impl Emitable) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..ATTEMPTS {
            self.send(kind, NLM_F_DUMP, question)?;
            let mut found = Vec::new();
            let (mut done, mut whole) = (false, true);
            while !done {
                let mut octets = Vec::with_capacity(ANSWER);
                self.socket.recv(&mut octets, 0)?;
                for message in messages(&octets) {
                    refusal(&message)?;
                    whole &= message.flags & NLM_F_DUMP_INTR == 0;
                    if message.kind == NLMSG_DONE {
                        done = true;
                    } else {
                        found.push(message.payload.to_vec());
                    }
                }
            }
            if whole {
                return Ok(found);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    fn send(&self, kind: u16, flags: u16, question: &impl Emitable) -> io::Result<()> {
        let mut octets = vec![0; HEADER + question.buffer_len()];
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(octets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        header.message_type = kind;
        header.flags = NLM_F_REQUEST | flags;
        header.emit(&mut octets);
        question.emit(&mut octets[HEADER..]);
        self.socket.send(&octets, 0).map(drop)
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    payload: &'a [u8],
}

/// The messages of a datagram; stops at what is none.
fn messages(mut octets: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(octets).ok()?;
        let length = usize::try_from(message.length()).ok()?;
        let payload = octets.get(HEADER..length)?;
        let (kind, flags) = (message.message_type(), message.flags());
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind,
            flags,
            payload,
        })
    })
}

/// `struct nlmsgerr` begins with the negative error; 0 is an acknowledgement.
fn refusal(message: &Message<'_>) -> io::Result<()> {
    if message.kind != NLMSG_ERROR {
        return Ok(());
    }
    let code = message.payload.first_chunk().copied();
    match i32::from_ne_bytes(code.unwrap_or_default()) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
    }
}

/// Tells the driver whenever something of these groups changes, until it is gone.
///
/// # Errors
/// The kernel's; it tells no more then.
pub(crate) async fn watch(
    groups: &[Group],
    told: impl Fn() -> Io,
    events: mpsc::Sender<Io>,
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group as u32)?;
    }
    let socket = sys::readable(socket)?;
    // What changed before this moment nobody has told.
    while events.send(told()).await.is_ok() {
        // The first change is told at once, and those that come with it together.
        tokio::time::sleep(PAUSE).await;
        let mut ready = socket.readable().await?;
        let mut news = Vec::with_capacity(ANSWER);
        loop {
            news.clear();
            match ready.try_io(|socket| socket.get_ref().recv(&mut news, 0)) {
                Ok(Ok(_)) => {}
                // More came than the kernel could keep: something changed.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
    }
    Ok(())
}
