//! Batches: what is to be done at once, or not at all.

use crate::error::DecodeError;
use crate::object::{Chain, Element, Rule, Set, TableFlags, TableId};
use crate::subject::Subject;
use crate::uapi;
use crate::wire::{HEADER, Head, Mark, NF_HEADER, Writer, take_message};

/// Number of a state of the netns' whole ruleset; each commit of anybody counts it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The one after it, by the next commit (0 is left out).
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

/// Operations on one table that the kernel does at once or not at all, in order.
///
/// It holds them as the octets that will be sent, so it costs no more memory than those.
#[derive(Clone, Debug)]
pub struct Batch {
    table: TableId,
    writer: Writer,
    next_seq: u32,
    last: Option<Mark>,
}

/// Sequence number of the message that begins a batch; operations count from 1.
pub(crate) const BEGIN_SEQ: u32 = 0;
/// A list of elements ends before it has more octets than this: the attribute's length has 16 bits.
const LIST_LIMIT: usize = 60_000;

impl Batch {
    /// An empty batch about a table. With a generation, the kernel takes it only if nobody changed the ruleset
    /// since.
    pub fn new(table: TableId, generation: Option<Generation>) -> Self {
        let mut writer = Writer::default();
        let begin = writer.begin(
            uapi::NFNL_MSG_BATCH_BEGIN,
            uapi::NLM_F_REQUEST,
            BEGIN_SEQ,
            0,
            uapi::NFNL_SUBSYS_NFTABLES,
        );
        if let Some(Generation(generation)) = generation {
            writer.u32(uapi::NFNL_BATCH_GENID, generation);
        }
        writer.end(begin);
        Self {
            table,
            writer,
            next_seq: 1,
            last: None,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Octets so far.
    pub fn octets(&self) -> usize {
        self.writer.bytes.len()
    }

    /// Adds the table, or changes its flags if it is there.
    pub fn add_table(&mut self, flags: TableFlags) {
        self.message(uapi::NFT_MSG_NEWTABLE, uapi::NLM_F_CREATE, |w, _| {
            w.u32(uapi::NFTA_TABLE_FLAGS, flags.0);
        });
    }

    /// Deletes the table with all in it.
    pub fn delete_table(&mut self) {
        self.message(uapi::NFT_MSG_DELTABLE, 0, |_, _| ());
    }

    /// Deletes the table if it is there (since Linux 6.3).
    pub fn destroy_table(&mut self) {
        self.message(uapi::NFT_MSG_DESTROYTABLE, 0, |_, _| ());
    }

    /// Adds a chain; fine if the same one is there.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.message(uapi::NFT_MSG_NEWCHAIN, uapi::NLM_F_CREATE, |w, _| {
            chain.encode(w);
        });
    }

    /// Deletes a chain that nothing jumps to any more, with its rules.
    pub fn delete_chain(&mut self, name: &str) {
        self.message(uapi::NFT_MSG_DELCHAIN, 0, |w, _| {
            w.text(uapi::NFTA_CHAIN_NAME, name);
        });
    }

    /// Deletes a chain if it is there (since Linux 6.3).
    pub fn destroy_chain(&mut self, name: &str) {
        self.message(uapi::NFT_MSG_DESTROYCHAIN, 0, |w, _| {
            w.text(uapi::NFTA_CHAIN_NAME, name);
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.message(
            uapi::NFT_MSG_NEWRULE,
            uapi::NLM_F_CREATE | uapi::NLM_F_APPEND,
            |w, _| {
                w.text(uapi::NFTA_RULE_CHAIN, chain);
                rule.encode(w);
            },
        );
    }

    /// Inserts a rule before the one with this handle.
    pub fn insert_rule_before(&mut self, chain: &str, handle: u64, rule: &Rule) {
        self.message(uapi::NFT_MSG_NEWRULE, uapi::NLM_F_CREATE, |w, _| {
            w.text(uapi::NFTA_RULE_CHAIN, chain);
            w.u64(uapi::NFTA_RULE_POSITION, handle);
            rule.encode(w);
        });
    }

    /// Puts a rule in the place of the one with this handle; it gets a new handle.
    pub fn replace_rule(&mut self, chain: &str, handle: u64, rule: &Rule) {
        self.message(uapi::NFT_MSG_NEWRULE, uapi::NLM_F_REPLACE, |w, _| {
            w.text(uapi::NFTA_RULE_CHAIN, chain);
            w.u64(uapi::NFTA_RULE_HANDLE, handle);
            rule.encode(w);
        });
    }

    /// Deletes the rule with this handle.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.message(uapi::NFT_MSG_DELRULE, 0, |w, _| {
            w.text(uapi::NFTA_RULE_CHAIN, chain);
            w.u64(uapi::NFTA_RULE_HANDLE, handle);
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        self.message(uapi::NFT_MSG_DELRULE, 0, |w, _| {
            w.text(uapi::NFTA_RULE_CHAIN, chain);
        });
    }

    /// Adds a set or map; fine if the same one is there.
    pub fn add_set(&mut self, set: &Set) {
        self.message(uapi::NFT_MSG_NEWSET, uapi::NLM_F_CREATE, |w, seq| {
            set.encode(w, seq);
        });
    }

    /// Deletes a set or map that no rule uses any more, with its elements.
    pub fn delete_set(&mut self, name: &str) {
        self.message(uapi::NFT_MSG_DELSET, 0, |w, _| {
            w.text(uapi::NFTA_SET_NAME, name);
        });
    }

    /// Deletes a set or map if it is there (since Linux 6.3).
    pub fn destroy_set(&mut self, name: &str) {
        self.message(uapi::NFT_MSG_DESTROYSET, 0, |w, _| {
            w.text(uapi::NFTA_SET_NAME, name);
        });
    }

    /// Adds elements to a set or map; fine if the same ones are there.
    pub fn add_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(uapi::NFT_MSG_NEWSETELEM, uapi::NLM_F_CREATE, set, elements);
    }

    /// Deletes elements that are in a set or map.
    pub fn delete_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(uapi::NFT_MSG_DELSETELEM, 0, set, elements);
    }

    /// Deletes elements of a set or map if they are there (since Linux 6.3).
    pub fn destroy_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements(uapi::NFT_MSG_DESTROYSETELEM, 0, set, elements);
    }

    /// Deletes all elements of a set or map.
    pub fn flush_set(&mut self, set: &str) {
        self.message(uapi::NFT_MSG_DELSETELEM, 0, |w, _| {
            w.text(uapi::NFTA_SET_ELEM_LIST_SET, set);
        });
    }

    /// As many messages as the elements need: one attribute holds at most 64 KiB.
    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.message(kind, flags, |w, _| {
                w.text(uapi::NFTA_SET_ELEM_LIST_SET, set);
                let list = w.nest(uapi::NFTA_SET_ELEM_LIST_ELEMENTS);
                while w.bytes.len() - list.0 < LIST_LIMIT
                    && let Some(element) = elements.next()
                {
                    element.encode(w);
                }
                w.close(list);
            });
        }
    }

    /// One operation; attribute 1 is always the table's name.
    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer, u32)) {
        let (kind, flags) = (
            uapi::NFNL_SUBSYS_NFTABLES << 8 | kind,
            uapi::NLM_F_REQUEST | flags,
        );
        let mark = self
            .writer
            .begin(kind, flags, self.next_seq, self.table.family.0, 0);
        self.writer.text(uapi::NFTA_TABLE_NAME, &self.table.name);
        body(&mut self.writer, self.next_seq);
        self.writer.end(mark);
        self.last = Some(mark);
        self.next_seq += 1;
    }

    /// What is to be sent, and the sequence number of the last operation, which will be acknowledged; `None` if the
    /// batch is empty.
    ///
    /// The acknowledgement is asked of the last operation because kernels before 6.10 give none to the end of a batch.
    pub(crate) fn finish(mut self) -> Option<Finished> {
        let last = self.last?;
        self.writer.add_flags(last, uapi::NLM_F_ACK);
        let end = self.writer.begin(
            uapi::NFNL_MSG_BATCH_END,
            uapi::NLM_F_REQUEST,
            self.next_seq,
            0,
            uapi::NFNL_SUBSYS_NFTABLES,
        );
        self.writer.end(end);
        Some(Finished {
            octets: self.writer.bytes,
            last_seq: self.next_seq - 1,
        })
    }
}

/// A batch as it is sent.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) octets: Vec<u8>,
    pub(crate) last_seq: u32,
}

impl Finished {
    /// What the operation with this sequence number is about; the kernel found fault with it at `offset`.
    pub(crate) fn subject(
        &self,
        seq: u32,
        offset: Option<usize>,
    ) -> Result<Option<Subject>, DecodeError> {
        let mut rest = self.octets.as_slice();
        while let Some((head, payload)) = take_message(&mut rest)? {
            let Head {
                kind,
                flags,
                seq: this,
                portid: _,
            } = head;
            if this == seq && kind != uapi::NFNL_MSG_BATCH_BEGIN {
                let subject = Subject::of(kind, flags, payload)?;
                return Ok(subject.map(|subject| match offset {
                    Some(offset) => subject.with_part_at(payload, offset),
                    None => subject,
                }));
            }
        }
        Ok(None)
    }
}

const _: () = assert!(NF_HEADER == HEADER + 4 && LIST_LIMIT + 1024 < u16::MAX as usize);
