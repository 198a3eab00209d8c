//! Connections that the kernel tracks (ctnetlink): deleting those of an address, clearing bits of their marks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use nix::errno::Errno;

use crate::error::{DecodeError, Error};
use crate::socket::Socket;
use crate::uapi;
use crate::wire::{Attrs, Writer, take_family};

/// The connection table of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

/// Requests that are sent at once: their errors must fit into the receive buffer.
const AT_ONCE: usize = 256;

impl Conntrack {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Socket::open().map(|socket| Self { socket })
    }

    /// Deletes the connections that have one of these addresses at either end, as the client or the server sees it
    /// (original and reply tuple); how many.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::RefusedWhole`] or [`Error::Decode`].
    pub fn delete(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, Error> {
        let found = self.find(|entry| {
            Ok(tuple_has(entry, uapi::CTA_TUPLE_ORIG, addresses)?
                || tuple_has(entry, uapi::CTA_TUPLE_REPLY, addresses)?)
        })?;
        self.each(&found, uapi::IPCTNL_MSG_CT_DELETE, |_| ())
    }

    /// Sets the bits of `mask` to zero in the marks of those connections whose bits of `mask` are in `range`; how many.
    ///
    /// The other bits stay as they are at that moment, also if somebody else writes them meanwhile.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub fn clear_marks(&mut self, mask: u32, range: RangeInclusive<u32>) -> Result<usize, Error> {
        let found = self.find(|entry| {
            let bits = entry
                .find(uapi::CTA_MARK)?
                .map(|mark| mark.u32("mark"))
                .transpose()?
                .unwrap_or(0)
                & mask;
            Ok(bits != 0 && range.contains(&bits))
        })?;
        self.each(&found, uapi::IPCTNL_MSG_CT_NEW, |w| {
            w.u32(uapi::CTA_MARK, 0);
            w.u32(uapi::CTA_MARK_MASK, mask);
        })
    }

    /// The connections that a test picks, both families.
    fn find(
        &mut self,
        pick: impl Fn(Attrs<'_>) -> Result<bool, DecodeError>,
    ) -> Result<Vec<Connection>, Error> {
        const SEQ: u32 = 1;
        let mut writer = Writer::default();
        let mark = writer.begin(
            uapi::NFNL_SUBSYS_CTNETLINK << 8 | uapi::IPCTNL_MSG_CT_GET,
            uapi::NLM_F_REQUEST | uapi::NLM_F_DUMP,
            SEQ,
            0,
            0,
        );
        writer.end(mark);
        let mut found = Vec::new();
        self.socket.exchange(
            "connections",
            &writer,
            SEQ,
            |_, payload| {
                let (family, attrs) = take_family(payload)?;
                if pick(attrs)? {
                    found.push(Connection::decode(family, attrs)?);
                }
                Ok(())
            },
            |_| false,
        )?;
        Ok(found)
    }

    /// Sends a request about each connection. Those that are gone meanwhile are as good as done.
    fn each(
        &mut self,
        found: &[Connection],
        kind: u16,
        body: impl Fn(&mut Writer),
    ) -> Result<usize, Error> {
        for some in found.chunks(AT_ONCE) {
            let mut writer = Writer::default();
            for (seq, connection) in (0..).zip(some) {
                let last = seq as usize + 1 == some.len();
                let flags = if last {
                    uapi::NLM_F_REQUEST | uapi::NLM_F_ACK
                } else {
                    uapi::NLM_F_REQUEST
                };
                let mark = writer.begin(
                    uapi::NFNL_SUBSYS_CTNETLINK << 8 | kind,
                    flags,
                    seq,
                    connection.family,
                    0,
                );
                let tuple = writer.nest(uapi::CTA_TUPLE_ORIG);
                writer.bytes.extend_from_slice(&connection.original);
                writer.close(tuple);
                if let Some(zone) = &connection.zone {
                    writer.attr(uapi::CTA_ZONE, zone);
                }
                if kind == uapi::IPCTNL_MSG_CT_DELETE {
                    // not the next connection between the same ends
                    writer.attr(uapi::CTA_ID, &connection.id);
                }
                body(&mut writer);
                writer.end(mark);
            }
            let last_seq = u32::try_from(some.len() - 1).expect("at most AT_ONCE");
            let gone = |errno| matches!(errno, Errno::ENOENT);
            self.socket.exchange(
                "change of connections",
                &writer,
                last_seq,
                |_, _| Ok(()),
                gone,
            )?;
        }
        Ok(found.len())
    }
}

/// What names a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Connection {
    family: u8,
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Vec<u8>,
}

impl Connection {
    fn decode(family: u8, attrs: Attrs<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            family,
            original: attrs
                .need(uapi::CTA_TUPLE_ORIG, "original tuple")?
                .value
                .to_vec(),
            zone: attrs.find(uapi::CTA_ZONE)?.map(|zone| zone.value.to_vec()),
            id: attrs
                .need(uapi::CTA_ID, "id of a connection")?
                .value
                .to_vec(),
        })
    }
}

/// Whether one of the addresses is in a tuple.
fn tuple_has(
    entry: Attrs<'_>,
    tuple: u16,
    addresses: &BTreeSet<IpAddr>,
) -> Result<bool, DecodeError> {
    let Some(tuple) = entry.find(tuple)? else {
        return Ok(false);
    };
    for attr in tuple
        .nested()
        .need(uapi::CTA_TUPLE_IP, "addresses of a connection")?
        .nested()
    {
        let attr = attr?;
        let address = match attr.kind {
            uapi::CTA_IP_V4_SRC | uapi::CTA_IP_V4_DST => {
                <[u8; 4]>::try_from(attr.value).map(IpAddr::from).ok()
            }
            uapi::CTA_IP_V6_SRC | uapi::CTA_IP_V6_DST => {
                <[u8; 16]>::try_from(attr.value).map(IpAddr::from).ok()
            }
            _ => None,
        };
        if address.is_some_and(|address| addresses.contains(&address)) {
            return Ok(true);
        }
    }
    Ok(false)
}
