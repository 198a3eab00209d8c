//! Addresses of links.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::batch::Batch;
use crate::connection::Connection;
use crate::error::{Doing, Error};

pub(crate) fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Prefix length of a single address.
pub(crate) fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl Batch {
    /// Gives a link a single address (/32 or /128), usable at once: no duplicate address detection.
    pub fn add_address(&mut self, link: u32, address: IpAddr) {
        let mut message = AddressMessage::default();
        message.header.family = family_of(address);
        message.header.prefix_len = bits_of(address);
        message.header.index = link;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        if address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.push(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            Doing::AddAddress(address, link),
            &[],
        );
    }
}

impl Connection {
    /// All addresses of the namespace, with the index of their link.
    ///
    /// # Errors
    /// [`Error`].
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpAddr)>, Error> {
        let mut found = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            &Doing::ReadAddresses,
            |answer| {
                if let RouteNetlinkMessage::NewAddress(message) = answer {
                    // On point-to-point links `Address` is the other end, so `Local` comes first.
                    let local = message
                        .attributes
                        .iter()
                        .find_map(|attribute| match attribute {
                            AddressAttribute::Local(address) => Some(*address),
                            _ => None,
                        });
                    let address = message
                        .attributes
                        .iter()
                        .find_map(|attribute| match attribute {
                            AddressAttribute::Address(address) => Some(*address),
                            _ => None,
                        });
                    if let Some(address) = local.or(address) {
                        found.push((message.header.index, address));
                    }
                }
                Ok(())
            },
        )?;
        Ok(found)
    }
}
