//! Netlink messages and attributes as octets: writing them into one buffer, reading them off a slice.

use crate::error::DecodeError;
use crate::uapi::{NLA_F_NESTED, NLA_TYPE_MASK};

/// Octets of a `nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Octets of a `nlmsghdr` with the `nfgenmsg` behind it.
pub(crate) const NF_HEADER: usize = HEADER + 4;

/// Where an unfinished message or nested attribute began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(pub(crate) usize);

/// A growing buffer of netlink messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

/// What a message's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) portid: u32,
}

impl Writer {
    /// Begins a netfilter message; `resource` is the subsystem in batch markers, else 0.
    pub(crate) fn begin(
        &mut self,
        kind: u16,
        flags: u16,
        seq: u32,
        family: u8,
        resource: u16,
    ) -> Mark {
        let mark = Mark(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        mark
    }

    /// Ends a message: its length is known now.
    pub(crate) fn end(&mut self, mark: Mark) {
        let length =
            u32::try_from(self.bytes.len() - mark.0).expect("a message stays far below 4 GiB");
        self.bytes[mark.0..mark.0 + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// One attribute, padded. Values are names, keys and numbers, far below 64 KiB.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("attribute values are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A name, with its terminating zero.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let length = u16::try_from(value.len() + 5).expect("names are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// A number in network order, as everywhere in nf_tables.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// A long number in network order.
    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// Begins an attribute that holds attributes.
    pub(crate) fn nest(&mut self, kind: u16) -> Mark {
        let mark = Mark(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        mark
    }

    /// Ends what [`Self::nest`] began. Lists of elements are cut before they reach 64 KiB.
    pub(crate) fn close(&mut self, mark: Mark) {
        let length = u16::try_from(self.bytes.len() - mark.0)
            .expect("nested attributes are cut below 64 KiB");
        self.bytes[mark.0..mark.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Sets more flags in the header of a message that is written already.
    pub(crate) fn add_flags(&mut self, mark: Mark, flags: u16) {
        let at = mark.0 + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Takes one message off the front of `buffer`: its header and what follows the header. `None` at the end.
///
/// # Errors
/// [`DecodeError::Length`] if the message says it is shorter than a header or longer than the buffer.
pub(crate) fn take_message<'a>(
    buffer: &mut &'a [u8],
) -> Result<Option<(Head, &'a [u8])>, DecodeError> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Err(DecodeError::Length {
            what: "netlink header",
            says: HEADER,
            has: buffer.len(),
        });
    };
    let [
        l0,
        l1,
        l2,
        l3,
        k0,
        k1,
        f0,
        f1,
        s0,
        s1,
        s2,
        s3,
        p0,
        p1,
        p2,
        p3,
    ] = *header;
    let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    if length < HEADER || length > buffer.len() {
        return Err(DecodeError::Length {
            what: "netlink message",
            says: length,
            has: buffer.len(),
        });
    }
    let head = Head {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        seq: u32::from_ne_bytes([s0, s1, s2, s3]),
        portid: u32::from_ne_bytes([p0, p1, p2, p3]),
    };
    let payload = &buffer[HEADER..length];
    *buffer = &buffer[length.next_multiple_of(4).min(buffer.len())..];
    Ok(Some((head, payload)))
}

/// Takes the `nfgenmsg` off a payload: the family, and the attributes behind it.
///
/// # Errors
/// [`DecodeError::Length`] if there is less than a header.
pub(crate) fn take_family(payload: &[u8]) -> Result<(u8, Attrs<'_>), DecodeError> {
    match payload.split_at_checked(4) {
        Some((header, rest)) => Ok((header[0], Attrs(rest))),
        None => Err(DecodeError::Length {
            what: "netfilter header",
            says: 4,
            has: payload.len(),
        }),
    }
}

/// Attributes of a message or of a nested attribute, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attrs<'a>(pub(crate) &'a [u8]);

impl<'a> IntoIterator for Attrs<'a> {
    type Item = Result<Attr<'a>, DecodeError>;
    type IntoIter = AttrIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        AttrIter(self.0)
    }
}

/// Takes attributes off the front. After a malformed one there is nothing more.
#[derive(Debug)]
pub(crate) struct AttrIter<'a>(&'a [u8]);

impl<'a> Iterator for AttrIter<'a> {
    type Item = Result<Attr<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, k0, k1, ..] = *self.0 else {
            let rest = std::mem::take(&mut self.0);
            return (!rest.is_empty()).then_some(Err(DecodeError::Length {
                what: "attribute header",
                says: 4,
                has: rest.len(),
            }));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        if length < 4 || length > self.0.len() {
            let has = std::mem::take(&mut self.0).len();
            return Some(Err(DecodeError::Length {
                what: "attribute",
                says: length,
                has,
            }));
        }
        let attr = Attr {
            kind: u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK,
            value: &self.0[4..length],
        };
        self.0 = &self.0[length.next_multiple_of(4).min(self.0.len())..];
        Some(Ok(attr))
    }
}

impl<'a> Attrs<'a> {
    /// The first attribute of this kind.
    ///
    /// # Errors
    /// [`DecodeError::Length`] of a malformed attribute before it.
    pub(crate) fn find(self, kind: u16) -> Result<Option<Attr<'a>>, DecodeError> {
        for attr in self {
            let attr = attr?;
            if attr.kind == kind {
                return Ok(Some(attr));
            }
        }
        Ok(None)
    }

    /// The first attribute of this kind, which must be there.
    ///
    /// # Errors
    /// As [`Self::find`], and [`DecodeError::Missing`].
    pub(crate) fn need(self, kind: u16, what: &'static str) -> Result<Attr<'a>, DecodeError> {
        self.find(kind)?.ok_or(DecodeError::Missing { what })
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attr<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

impl<'a> Attr<'a> {
    /// A number of `N` octets.
    fn octets<const N: usize>(self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.value.try_into().map_err(|_| DecodeError::Length {
            what,
            says: N,
            has: self.value.len(),
        })
    }

    /// One octet.
    ///
    /// # Errors
    /// [`DecodeError::Length`] if it has another length; so the others.
    pub(crate) fn u8(self, what: &'static str) -> Result<u8, DecodeError> {
        self.octets::<1>(what).map(|[octet]| octet)
    }

    /// A number in network order.
    pub(crate) fn u32(self, what: &'static str) -> Result<u32, DecodeError> {
        self.octets(what).map(u32::from_be_bytes)
    }

    /// A number in the machine's order.
    pub(crate) fn host_u32(self, what: &'static str) -> Result<u32, DecodeError> {
        self.octets(what).map(u32::from_ne_bytes)
    }

    /// A long number in network order.
    pub(crate) fn u64(self, what: &'static str) -> Result<u64, DecodeError> {
        self.octets(what).map(u64::from_be_bytes)
    }

    /// A name, with or without its terminating zero.
    ///
    /// # Errors
    /// [`DecodeError::Text`] if it is no UTF-8.
    pub(crate) fn text(self, what: &'static str) -> Result<&'a str, DecodeError> {
        let end = self
            .value
            .iter()
            .position(|octet| *octet == 0)
            .unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).map_err(|_| DecodeError::Text { what })
    }

    /// The attributes inside.
    pub(crate) fn nested(self) -> Attrs<'a> {
        Attrs(self.value)
    }
}
