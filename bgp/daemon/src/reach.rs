//! How next hops are reached, as the kernel's routes say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_bgp::Reach;
use netlink_packet_core::Parseable as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};
use tracing::debug;

use crate::kernel::Kernel;

/// Of `linux/rtnetlink.h`.
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

/// How packets to `address` go. A default route is no way: it is there whatever happens to the network behind it.
fn reach(kernel: &Kernel, address: IpAddr) -> Reach {
    match kernel.ask(RTM_GETROUTE, &question(address)) {
        Ok((kind, answer)) => read_answer(kind, &answer),
        Err(error) => {
            debug!(%address, %error, "the kernel does not say how an address is reached");
            Reach::Unreachable
        }
    }
}

/// For the route that is met, not for what one packet would do.
fn question(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, bits) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.flags = RouteFlags::FibMatch;
    let destination = RouteAttribute::Destination(address.into());
    message.attributes.push(destination);
    message
}

/// What an answer says; anything that is no route says that there is no way.
fn read_answer(kind: u16, octets: &[u8]) -> Reach {
    let message = (kind == RTM_NEWROUTE).then(|| RouteMessage::parse(octets));
    let route = message
        .and_then(Result::ok)
        .and_then(|message| way(&message));
    route.unwrap_or(Reach::Unreachable)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "attributes that we do not read"
)]
fn way(message: &RouteMessage) -> Option<Reach> {
    let header = &message.header;
    let leads = matches!(header.kind, RouteType::Local | RouteType::Unicast);
    let down = header
        .flags
        .intersects(RouteFlags::Dead | RouteFlags::Linkdown);
    if !leads || down || header.destination_prefix_length == 0 {
        return None;
    }
    let mut metric = 0;
    let mut gateways = BTreeSet::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(ways) => {
                let is_down = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                let alive = |way: &&RouteNextHop| !way.flags.intersects(is_down);
                let alive: Vec<_> = ways.iter().filter(alive).collect();
                if alive.is_empty() {
                    return None;
                }
                // One of them may need no gateway; the others are as good.
                let attributes = alive.iter().flat_map(|way| &way.attributes);
                gateways.extend(attributes.filter_map(gateway));
            }
            other => gateways.extend(gateway(other)),
        }
    }
    Some(Reach::Via { metric, gateways })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "attributes that we do not read"
)]
fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some((*v6).into()),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    }
}

/// The next hops that routes have, and what the kernel says of them.
#[derive(Default)]
pub(crate) struct Tracker {
    kernel: Option<Kernel>,
    known: BTreeMap<IpAddr, Option<Reach>>,
}

impl Tracker {
    pub(crate) fn track(&mut self, address: IpAddr) {
        self.known.insert(address, None);
    }

    pub(crate) fn forget(&mut self, address: IpAddr) {
        self.known.remove(&address);
    }

    /// Asks the kernel about those of which nothing is known yet, or about `all`; gives back what is new.
    pub(crate) fn ask(&mut self, all: bool) -> BTreeMap<IpAddr, Reach> {
        if self.kernel.is_none() {
            self.kernel = Kernel::open()
                .inspect_err(|error| debug!(%error, "cannot ask the kernel for routes"))
                .ok();
        }
        let mut news = BTreeMap::new();
        for (address, known) in &mut self.known {
            if !all && known.is_some() {
                continue;
            }
            let reach = match &self.kernel {
                Some(kernel) => reach(kernel, *address),
                None => Reach::Unreachable,
            };
            if known.as_ref() != Some(&reach) {
                *known = Some(reach.clone());
                news.insert(*address, reach);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests;
