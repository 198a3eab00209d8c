//! Links.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use crate::batch::Batch;
use crate::connection::Connection;
use crate::error::{Doing, Error};

/// `IFLA_INET_CONF`, nested as in requests.
const INET_CONF_NESTED: u16 = 1 | 0x8000;

/// The longest note that a link can carry, in octets (`IFALIASZ`, less its end).
pub const LONGEST_ALIAS: usize = 255;

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = self.0.map(|octet| format!("{octet:02x}"));
        f.write_str(&octets.join(":"))
    }
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is meant to be up (`IFF_UP`).
    pub up: bool,
    /// Its hardware address, if it has one of six octets.
    pub mac: Option<Mac>,
    /// Index of the other end of a veth, in the other end's namespace.
    pub peer: Option<u32>,
    /// Largest packet.
    pub mtu: u32,
    /// Whether it is the loopback link.
    pub loopback: bool,
    /// A note that somebody attached to it (`IFLA_IFALIAS`); mostly empty.
    pub alias: String,
}

/// Names a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkRef {
    /// By index.
    Index(u32),
    /// By name.
    Name(String),
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl LinkRef {
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        match self {
            Self::Index(index) => message.header.index = *index,
            Self::Name(name) => message.attributes.push(LinkAttribute::IfName(name.clone())),
        }
        message
    }
}

/// A pair of links to create: one end here, the other in another namespace.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    /// Name of the end here.
    pub name: &'a str,
    /// Hardware address of the end here.
    pub mac: Mac,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: Mac,
    /// The namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
    /// Largest packet, both ends.
    pub mtu: u32,
}

impl Batch {
    /// Creates a pair of links, both down, of one queue each.
    ///
    /// Said of both ends, since a pair of which nothing is said gets a queue for each processor, of which all but one are put
    /// out of use again: for that the kernel waits until nobody can see them, twice for a pair, and holds the lock of
    /// all links of the machine meanwhile. That is most of what a link costs, and a hundred milliseconds on a busy machine.
    pub fn create_veth(&mut self, veth: &Veth<'_>) {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(veth.peer_name.to_owned()),
            LinkAttribute::Address(veth.peer_mac.0.to_vec()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
            LinkAttribute::NetNsFd(veth.peer_namespace.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(veth.name.to_owned()),
            LinkAttribute::Address(veth.mac.0.to_vec()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.push(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            Doing::CreateLink(veth.name.to_owned()),
            &[],
        );
    }

    /// Asks for a link; it comes as an answer (see [`answered_link`]).
    pub fn get_link(&mut self, link: &LinkRef) {
        let mut message = link.message();
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.push(
            RouteNetlinkMessage::GetLink(message),
            0,
            Doing::ReadLinks,
            &[],
        );
    }

    /// Takes a link up.
    pub fn set_up(&mut self, link: &LinkRef) {
        let mut message = link.message();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.push(
            RouteNetlinkMessage::SetLink(message),
            0,
            Doing::SetLink(link.to_string()),
            &[],
        );
    }

    /// Sets largest packet and hardware address.
    pub fn set_mac_and_mtu(&mut self, link: &LinkRef, mac: Mac, mtu: u32) {
        let mut message = link.message();
        message
            .attributes
            .push(LinkAttribute::Address(mac.0.to_vec()));
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.push(
            RouteNetlinkMessage::SetLink(message),
            0,
            Doing::SetLink(link.to_string()),
            &[],
        );
    }

    /// Attaches a note to a link, at most [`LONGEST_ALIAS`] octets.
    pub fn set_alias(&mut self, link: &LinkRef, alias: &str) {
        let mut message = link.message();
        message
            .attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        self.push(
            RouteNetlinkMessage::SetLink(message),
            0,
            Doing::SetLink(link.to_string()),
            &[Errno::ENODEV],
        );
    }

    /// Makes a link a bare router port: it forwards IPv4, takes and sends no redirects, answers no ARP for others,
    /// and gets no IPv6 address of its own (`IFLA_AF_SPEC`, so that /proc/sys may be read-only).
    pub fn set_router_port(&mut self, link: &LinkRef) {
        // linux/ip.h: FORWARDING 1, PROXY_ARP 3, ACCEPT_REDIRECTS 4, SEND_REDIRECTS 6, ACCEPT_SOURCE_ROUTE 9. Spelled
        // out because the crate's own type cannot say 0.
        let settings = [(1, 1_u32), (3, 0), (4, 0), (6, 0), (9, 0)];
        let mut nested = Vec::with_capacity(settings.len() * 8);
        for (kind, value) in settings {
            nested.extend_from_slice(&8_u16.to_ne_bytes());
            nested.extend_from_slice(&u16::to_ne_bytes(kind));
            nested.extend_from_slice(&value.to_ne_bytes());
        }
        let mut message = link.message();
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![
            AfSpecUnspec::Inet(vec![AfSpecInet::Other(DefaultNla::new(
                INET_CONF_NESTED,
                nested,
            ))]),
            AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]),
        ]));
        self.push(
            RouteNetlinkMessage::SetLink(message),
            0,
            Doing::SetLink(link.to_string()),
            &[],
        );
    }

    /// Deletes a link; the other end of a veth goes with it. One that is not there counts as deleted.
    pub fn delete_link(&mut self, link: &LinkRef) {
        self.push(
            RouteNetlinkMessage::DelLink(link.message()),
            0,
            Doing::DeleteLink(link.to_string()),
            &[Errno::ENODEV],
        );
    }

    /// Deletes links; the other ends of veths go with them. One that is not there counts as deleted.
    ///
    /// Deleting a link waits for whoever may still use it, tens of milliseconds. Those of a group go at once and wait together,
    /// so several are put into a group first (`IFLA_GROUP`), which nobody else should use; 0 is every link's and not allowed.
    pub fn delete_links(&mut self, links: &[LinkRef], group: u32) {
        if let [link] = links {
            self.delete_link(link);
            return;
        }
        for link in links {
            let mut message = link.message();
            message.attributes.push(LinkAttribute::Group(group));
            self.push(
                RouteNetlinkMessage::SetLink(message),
                0,
                Doing::DeleteLink(link.to_string()),
                &[Errno::ENODEV],
            );
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        self.push(
            RouteNetlinkMessage::DelLink(message),
            0,
            Doing::DeleteLink(format!("group {group}")),
            &[Errno::ENODEV],
        );
    }
}

impl Connection {
    /// A link, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub fn link(&mut self, link: &LinkRef) -> Result<Option<Link>, Error> {
        let mut batch = Batch::new();
        batch.get_link(link);
        match self.run(batch) {
            Ok(answers) => Ok(answered_link(&answers)),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// [`Error`].
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut links = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetLink(message),
            &Doing::ReadLinks,
            |answer| {
                if let RouteNetlinkMessage::NewLink(message) = answer {
                    links.push(Link::from(&message));
                }
                Ok(())
            },
        )?;
        Ok(links)
    }
}

/// The first link in the answers to a batch.
pub fn answered_link(answers: &[RouteNetlinkMessage]) -> Option<Link> {
    answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
        _ => None,
    })
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mac: None,
            peer: None,
            mtu: 0,
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            alias: String::new(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(octets) => {
                    link.mac = <[u8; 6]>::try_from(octets.as_slice()).ok().map(Mac);
                }
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                _ => {}
            }
        }
        link
    }
}
