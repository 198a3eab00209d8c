//! Peers that are told of by a link alone: whoever is the router there.
//!
//! A router says so itself, in its router advertisements and in the neighbour advertisements that every kernel with
//! forwarding on sends (RFC 4861 §4.2, §4.4). The kernel notes it in its neighbour table, whatever `accept_ra` is, and
//! reading that takes no rights.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use margay_bgp::PeerName;
use netlink_packet_core::Parseable as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use tracing::{debug, info};

use crate::Settings;
use crate::kernel::Kernel;

/// Of `linux/rtnetlink.h`.
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

/// Why the address of an unnumbered peer is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    NoLink(String),
    NoRouter(String),
    Several(String, BTreeSet<Ipv6Addr>),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink(link) => write!(f, "there is no interface {link}"),
            Self::NoRouter(link) => write!(f, "no router has been seen on {link} yet"),
            Self::Several(link, routers) => {
                let routers: Vec<_> = routers.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "there are several routers on {link}: {}",
                    routers.join(", ")
                )
            }
        }
    }
}

impl Unknown {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoLink(_) => "name the link to the peer as `ip link` does",
            Self::NoRouter(_) => {
                "is the link up, and does the peer send router advertisements there? \
                 `ip -6 neigh` marks it `router`"
            }
            Self::Several(..) => "say which one by its address: give the peer a link-local address",
        }
    }
}

/// Who is the router on which link.
#[derive(Default)]
pub(crate) struct Unnumbered {
    kernel: Option<Kernel>,
    /// What was found, by link.
    routers: BTreeMap<String, Result<Ipv6Addr, Unknown>>,
}

/// The link of an unnumbered peer.
fn link<'a>(settings: &'a Settings, name: &PeerName) -> Option<&'a String> {
    let peer = settings.speaker.peers.get(name)?;
    let link = settings.transport.get(name)?.interface.as_ref()?;
    peer.address.is_unspecified().then_some(link)
}

impl Unnumbered {
    /// The links of unnumbered peers.
    pub(crate) fn links(settings: &Settings) -> BTreeSet<String> {
        let names = settings.speaker.peers.keys();
        names
            .filter_map(|name| link(settings, name).cloned())
            .collect()
    }

    /// Looks who is there; whether that is news.
    pub(crate) fn look(&mut self, links: &BTreeSet<String>) -> bool {
        let index = |link: &String| nix::net::if_::if_nametoindex(link.as_str()).ok();
        let routers = self.neighbours(&links.iter().filter_map(index).collect());
        let mut found = BTreeMap::new();
        for link in links {
            let routers = index(link).map(|index| routers.get(&index).cloned().unwrap_or_default());
            let known = self.routers.get(link).and_then(|known| known.as_ref().ok());
            let router = choose(link, routers, known.copied());
            if self.routers.get(link) != Some(&router) {
                match &router {
                    Ok(address) => info!(link, %address, "the router on a link is known"),
                    Err(unknown) => debug!(link, %unknown, "the router on a link is not known"),
                }
            }
            found.insert(link.clone(), router);
        }
        let news = found != self.routers;
        self.routers = found;
        news
    }

    /// The settings with the addresses that are known.
    pub(crate) fn resolve(&self, settings: &Settings) -> Settings {
        let mut resolved = settings.clone();
        for (name, peer) in &mut resolved.speaker.peers {
            let router = link(settings, name).and_then(|link| self.routers.get(link));
            if let Some(Ok(router)) = router {
                peer.address = IpAddr::V6(*router);
            }
        }
        resolved
    }

    /// Why a peer has no address.
    pub(crate) fn unknown(&self, settings: &Settings, name: &PeerName) -> Option<&Unknown> {
        self.routers.get(link(settings, name)?)?.as_ref().err()
    }

    /// Routers by the number of their link, of these links.
    fn neighbours(&mut self, links: &BTreeSet<u32>) -> BTreeMap<u32, BTreeSet<Ipv6Addr>> {
        if self.kernel.is_none() {
            self.kernel = Kernel::open()
                .inspect_err(|error| debug!(%error, "cannot ask the kernel for neighbours"))
                .ok();
        }
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Inet6;
        let answers = self
            .kernel
            .as_ref()
            .map(|kernel| kernel.dump(RTM_GETNEIGH, &question));
        let mut routers: BTreeMap<u32, BTreeSet<Ipv6Addr>> = BTreeMap::new();
        match answers {
            Some(Ok(answers)) => {
                for Neighbour {
                    link,
                    address,
                    standing,
                } in answers.iter().filter_map(|answer| neighbour(answer))
                {
                    match standing {
                        _ if !links.contains(&link) => {}
                        Standing::Router => drop(routers.entry(link).or_default().insert(address)),
                        Standing::Unheard => self.get_to_know(link, address),
                        Standing::Other => {}
                    }
                }
            }
            Some(Err(error)) => debug!(%error, "the kernel does not tell its neighbours"),
            None => {}
        }
        routers
    }

    /// Has the kernel ask a neighbour for its hardware address: its answer says whether it is a router. Takes
    /// `CAP_NET_ADMIN`.
    fn get_to_know(&self, link: u32, address: Ipv6Addr) {
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Inet6;
        question.header.ifindex = link;
        question.header.flags = NeighbourFlags::Use;
        let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet6(address));
        question.attributes.push(destination);
        let asked = self
            .kernel
            .as_ref()
            .map(|kernel| kernel.tell(RTM_NEWNEIGH, &question));
        if let Some(Err(error)) = asked {
            debug!(link, %address, %error, "the kernel does not ask a neighbour who it is");
        }
    }
}

/// Somebody on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    link: u32,
    address: Ipv6Addr,
    standing: Standing,
}

/// What the kernel has heard of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is a router, and there.
    Router,
    /// Something came from it, but not its hardware address: BIRD's router advertisements have none.
    Unheard,
    /// It is gone, or no router.
    Other,
}

/// The link-local neighbour that a message (`struct ndmsg` and attributes) tells of.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "states and attributes that mean nothing here"
)]
fn neighbour(octets: &[u8]) -> Option<Neighbour> {
    let message = NeighbourMessage::parse(octets).ok()?;
    let header = &message.header;
    let standing = match header.state {
        NeighbourState::None => Standing::Unheard,
        NeighbourState::Failed | NeighbourState::Incomplete => Standing::Other,
        _ if header.flags.contains(NeighbourFlags::Router) => Standing::Router,
        _ => Standing::Other,
    };
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            address.is_unicast_link_local().then_some(Neighbour {
                link: header.ifindex,
                address: *address,
                standing,
            })
        }
        _ => None,
    })
}

/// Of the routers on a link (`None`: there is no such link) the peer. One that is known stays for as long as nobody else
/// is there: its entry may be gone while nobody needs it.
fn choose(
    link: &str,
    routers: Option<BTreeSet<Ipv6Addr>>,
    known: Option<Ipv6Addr>,
) -> Result<Ipv6Addr, Unknown> {
    let Some(routers) = routers else {
        return Err(Unknown::NoLink(link.to_owned()));
    };
    let mut all = routers.iter();
    match (known, all.next(), all.next()) {
        (Some(known), None, _) => Ok(known),
        (Some(known), Some(_), _) if routers.contains(&known) => Ok(known),
        (_, Some(only), None) => Ok(*only),
        (None, None, _) => Err(Unknown::NoRouter(link.to_owned())),
        (_, Some(_), Some(_)) => Err(Unknown::Several(link.to_owned(), routers)),
    }
}

#[cfg(test)]
mod tests;
