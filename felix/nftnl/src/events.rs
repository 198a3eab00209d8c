//! Changes that anybody makes to nf_tables, as they happen.

use std::collections::VecDeque;
use std::time::Duration;

use crate::batch::Generation;
use crate::error::{DecodeError, Error};
use crate::socket::{Socket, decoding};
use crate::subject::Subject;
use crate::uapi;
use crate::wire::{Head, take_family, take_message};

/// A subscription to all changes of nf_tables in a network namespace. While one is open, every commit in the namespace costs
/// its messages.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    queue: VecDeque<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A commit changed an object.
    Changed {
        /// Which, and how.
        subject: Subject,
        /// The socket that asked for it ([`Socket::portid`]).
        portid: u32,
    },
    /// The commit whose changes came before is complete.
    Committed {
        /// The generation that it made.
        generation: Generation,
        /// The socket that asked for it ([`Socket::portid`]).
        portid: u32,
        /// Who did it.
        process: Process,
    },
    /// Events were lost, because they came faster than they were taken.
    Lost,
}

/// A thread of a process as the kernel names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id, in the initial pid namespace: the process' if it has but one thread.
    pub pid: u32,
    /// Its name, at most 15 octets.
    pub name: String,
}

impl Events {
    /// Subscribes, in the network namespace of this thread.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        socket.subscribe()?;
        Ok(Self {
            socket,
            queue: VecDeque::new(),
        })
    }

    /// The next event; `None` if none comes in time. Without a timeout it waits for as long as it takes.
    ///
    /// # Errors
    /// [`Error::Socket`] or [`Error::Decode`].
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Event>, Error> {
        if self.queue.is_empty() {
            match self.socket.wait(timeout) {
                Ok(Some(mut datagram)) => {
                    while let Some((head, payload)) =
                        take_message(&mut datagram).map_err(decoding("a change"))?
                    {
                        self.queue
                            .extend(decode(head, payload).map_err(decoding("a change"))?);
                    }
                }
                Ok(None) => {}
                Err(Error::AnswersLost) => return Ok(Some(Event::Lost)),
                Err(error) => return Err(error),
            }
        }
        Ok(self.queue.pop_front())
    }
}

/// The event that a message reports; `None` if it is about an object that this crate has no name for.
pub(crate) fn decode(head: Head, payload: &[u8]) -> Result<Option<Event>, DecodeError> {
    let portid = head.portid;
    if head.kind != uapi::NFNL_SUBSYS_NFTABLES << 8 | uapi::NFT_MSG_NEWGEN {
        let subject = Subject::of(head.kind, 0, payload)?;
        return Ok(subject.map(|subject| Event::Changed { subject, portid }));
    }
    let (_, attrs) = take_family(payload)?;
    let generation = Generation(
        attrs
            .need(uapi::NFTA_GEN_ID, "generation")?
            .u32("generation")?,
    );
    let pid = attrs
        .find(uapi::NFTA_GEN_PROC_PID)?
        .map(|pid| pid.u32("pid"))
        .transpose()?;
    let name = attrs
        .find(uapi::NFTA_GEN_PROC_NAME)?
        .map(|name| name.text("process name"))
        .transpose()?;
    let process = Process {
        pid: pid.unwrap_or(0),
        name: name.unwrap_or_default().to_owned(),
    };
    Ok(Some(Event::Committed {
        generation,
        portid,
        process,
    }))
}
