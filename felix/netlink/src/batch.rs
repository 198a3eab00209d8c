//! Messages that go to the kernel together.

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use crate::error::Doing;

/// Messages to send, in order.
///
/// The kernel works them off one by one: one that fails does not stop those after it.
#[derive(Debug, Default)]
pub struct Batch {
    /// All messages, each aligned, without sequence numbers.
    pub(crate) octets: Vec<u8>,
    pub(crate) parts: Vec<Part>,
}

/// One message of a [`Batch`].
#[derive(Debug)]
pub(crate) struct Part {
    /// Where it begins in the batch's octets.
    pub(crate) start: usize,
    /// What it is to do.
    pub(crate) doing: Doing,
    /// What the kernel may answer and it is as good as done.
    pub(crate) fine: &'static [Errno],
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What the message of that index is to do.
    pub fn doing(&self, index: usize) -> Option<&Doing> {
        self.parts.get(index).map(|part| &part.doing)
    }

    /// Adds a message with these flags (`NLM_F_*`; a request anyway). Answers in `fine` count as done.
    pub(crate) fn push(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        doing: Doing,
        fine: &'static [Errno],
    ) {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let start = self.octets.len();
        let length = message.buffer_len();
        self.octets.resize(start + length.next_multiple_of(4), 0);
        message.serialize(&mut self.octets[start..start + length]);
        self.parts.push(Part { start, doing, fine });
    }
}
