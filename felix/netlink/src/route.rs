//! Routes of the main table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::address::family_of;
use crate::batch::Batch;
use crate::connection::Connection;
use crate::error::{Doing, Error};

/// `IP6_RT_PRIO_USER`.
const DEFAULT_METRIC_IPV6: u32 = 1024;

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub prefix: IpNet,
    /// Who entered it (`rtm_protocol`).
    pub protocol: u8,
    /// Its metric; `None` for the kernel's default of the family (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
    /// Where packets go.
    pub kind: RouteKind,
}

/// Where packets of a route go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// To these, shared among them. Never empty in what is sent; a route read back that we could not have made may be.
    Unicast(BTreeSet<NextHop>),
    /// Nowhere, silently.
    Blackhole,
    /// Something else that we never make.
    Other,
}

/// One way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// Through this address; `None`: the destination is on the link itself.
    pub via: Option<IpAddr>,
    /// Out of this link; `None`: the kernel finds it by the address.
    pub link: Option<u32>,
    /// Whether the address counts as reachable on the link though no network of the link holds it.
    pub onlink: bool,
}

impl NextHop {
    /// The destination is on the link itself.
    pub fn on(link: u32) -> Self {
        Self {
            via: None,
            link: Some(link),
            onlink: false,
        }
    }

    /// Through an address that the kernel finds the link for.
    pub fn via(address: IpAddr) -> Self {
        Self {
            via: Some(address),
            link: None,
            onlink: false,
        }
    }
}

impl Batch {
    /// Enters a route; one to the same destination with the same metric is replaced.
    pub fn put_route(&mut self, route: &Route) {
        self.push(
            RouteNetlinkMessage::NewRoute(message(route)),
            NLM_F_CREATE | NLM_F_REPLACE,
            Doing::PutRoute(route.prefix),
            &[],
        );
    }

    /// Deletes the route to a destination with this protocol and metric; one that is not there counts as deleted.
    pub fn delete_route(&mut self, route: &Route) {
        let mut message = header(route);
        message.header.kind = RouteType::Unspec;
        message.header.scope = RouteScope::NoWhere;
        self.push(
            RouteNetlinkMessage::DelRoute(message),
            0,
            Doing::DeleteRoute(route.prefix),
            &[Errno::ESRCH, Errno::ENOENT, Errno::ENODEV],
        );
    }
}

impl Connection {
    /// All routes of the main table with this protocol number, of both families.
    ///
    /// # Errors
    /// [`Error`].
    pub fn routes(&mut self, protocol: u8) -> Result<Vec<Route>, Error> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.header.protocol = RouteProtocol::from(protocol);
            message
                .attributes
                .push(RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()));
            let dumped = self.dump(
                RouteNetlinkMessage::GetRoute(message),
                &Doing::ReadRoutes,
                |answer| {
                    if let RouteNetlinkMessage::NewRoute(message) = answer
                        && let Some(route) = read(&message)
                        && route.protocol == protocol
                    {
                        found.push(route);
                    }
                    Ok(())
                },
            );
            match dumped {
                // A kernel without the family has no routes of it; one without the table has none in it.
                Err(error)
                    if matches!(
                        error.errno(),
                        Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::ENOENT)
                    ) => {}
                other => other?,
            }
        }
        Ok(found)
    }
}

fn header(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(route.prefix.addr());
    message.header.destination_prefix_length = route.prefix.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(route.protocol);
    if route.prefix.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(route.prefix.network().into()));
    }
    if let Some(metric) = route.metric {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

fn message(route: &Route) -> RouteMessage {
    let mut message = header(route);
    message.header.scope = RouteScope::Universe;
    match &route.kind {
        RouteKind::Blackhole | RouteKind::Other => message.header.kind = RouteType::BlackHole,
        RouteKind::Unicast(hops) => {
            message.header.kind = RouteType::Unicast;
            match hops.first() {
                Some(hop) if hops.len() == 1 => single(&mut message, hop, route.prefix),
                _ => {
                    let hops = hops
                        .iter()
                        .map(|hop| one_of_several(hop, route.prefix))
                        .collect();
                    message.attributes.push(RouteAttribute::MultiPath(hops));
                }
            }
        }
    }
    message
}

fn single(message: &mut RouteMessage, hop: &NextHop, prefix: IpNet) {
    if hop.via.is_none() {
        message.header.scope = RouteScope::Link;
    }
    if hop.onlink {
        message.header.flags |= RouteFlags::Onlink;
    }
    if let Some(link) = hop.link {
        message.attributes.push(RouteAttribute::Oif(link));
    }
    if let Some(via) = hop.via {
        message.attributes.push(gateway(via, prefix));
    }
}

/// A gateway of the other family (RFC 8950) is another attribute.
fn gateway(via: IpAddr, prefix: IpNet) -> RouteAttribute {
    match (via, prefix) {
        (IpAddr::V4(_), IpNet::V4(_)) | (IpAddr::V6(_), IpNet::V6(_)) => {
            RouteAttribute::Gateway(via.into())
        }
        (IpAddr::V6(via), IpNet::V4(_)) => RouteAttribute::Via(RouteVia::Inet6(via)),
        (IpAddr::V4(via), IpNet::V6(_)) => RouteAttribute::Via(RouteVia::Inet(via)),
    }
}

/// The address of a gateway, if that is what an attribute has.
fn of_gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => plain(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn one_of_several(hop: &NextHop, prefix: IpNet) -> RouteNextHop {
    let mut entry = RouteNextHop::default();
    if hop.onlink {
        entry.flags = RouteNextHopFlags::Onlink;
    }
    entry.interface_index = hop.link.unwrap_or(0);
    if let Some(via) = hop.via {
        entry.attributes.push(gateway(via, prefix));
    }
    entry
}

/// The value of a route message; `None` if it is of no table or family that we deal with.
fn read(message: &RouteMessage) -> Option<Route> {
    let mut destination = None;
    let mut table = u32::from(message.header.table);
    let mut metric = None;
    let mut single = NextHop {
        via: None,
        link: None,
        onlink: message.header.flags.contains(RouteFlags::Onlink),
    };
    let mut hops = BTreeSet::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = Some(plain(address)?),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = Some(*number),
            RouteAttribute::Oif(link) => single.link = Some(*link),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => {
                single.via = Some(of_gateway(attribute)?);
            }
            RouteAttribute::MultiPath(entries) => {
                for entry in entries {
                    let via = entry.attributes.iter().find_map(of_gateway);
                    hops.insert(NextHop {
                        via,
                        link: Some(entry.interface_index),
                        onlink: entry.flags.contains(RouteNextHopFlags::Onlink),
                    });
                }
            }
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let destination = match (destination, message.header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => IpAddr::from([0; 4]),
        (None, AddressFamily::Inet6) => IpAddr::from([0; 16]),
        (None, _) => return None,
    };
    if hops.is_empty() && (single.via.is_some() || single.link.is_some()) {
        hops.insert(single);
    }
    // What the kernel makes of "no metric".
    let metric = metric.filter(|metric| destination.is_ipv4() || *metric != DEFAULT_METRIC_IPV6);
    Some(Route {
        prefix: IpNet::new(destination, message.header.destination_prefix_length).ok()?,
        protocol: message.header.protocol.into(),
        metric,
        kind: match message.header.kind {
            RouteType::Unicast => RouteKind::Unicast(hops),
            RouteType::BlackHole => RouteKind::Blackhole,
            _ => RouteKind::Other,
        },
    })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
