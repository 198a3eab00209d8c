//! The pod's side of its link, through a socket that was opened inside its namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use ipnet::IpNet;
use margay_cni::Attached;
use margay_cni::result::{Interface, Ip, Route as Shown};
use margay_netlink::link::answered_link;
use margay_netlink::{
    Batch, Connection, Error, Link, LinkRef, Mac, NextHop, Route, RouteKind, Veth,
};

use super::receive::Descriptors;
use crate::host::PodLink;
use crate::journal::Record;
use crate::names::{self, HOST_MAC};

/// Where pods send IPv4 packets to. Nobody has this address: a permanent neighbour stands for it.
pub(crate) const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Where pods send IPv6 packets to.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Protocol of the routes in a pod: `static`, as if its administrator had set them.
pub(crate) const POD_PROTOCOL: u8 = 4;

/// Creates the pair of links, both ends still down, and tells the host's end.
pub(crate) fn create(
    record: &Record,
    mtu: u32,
    descriptors: &Descriptors,
) -> Result<(Link, Mac), Error> {
    let mut host = Connection::open()?;
    let name = LinkRef::Name(record.link.clone());
    let pod_mac = names::pod_mac(&record.attachment);
    let mut batch = Batch::new();
    // The name is a hash of the attachment: whatever has it is a leftover of this one.
    batch.delete_link(&name);
    batch.create_veth(&Veth {
        name: &record.link,
        mac: HOST_MAC,
        peer_name: &record.attachment.interface,
        peer_mac: pod_mac,
        peer_namespace: descriptors.namespace.as_fd(),
        mtu,
    });
    batch.get_link(&name);
    let answers = host.run(batch)?;
    let link = answered_link(&answers).ok_or(Error::Lost)?;
    Ok((link, pod_mac))
}

/// The pod's addresses, its link up, its routes and its one neighbour.
pub(crate) fn furnish(record: &Record, link: &Link, pod: &mut Connection) -> Result<(), Error> {
    let index = match link.peer {
        Some(index) => index,
        None => by_name(pod, &record.attachment.interface)?.index,
    };
    let mut batch = Batch::new();
    batch.set_up(&LinkRef::Name("lo".to_owned()));
    for address in &record.addresses {
        batch.add_address(index, *address);
    }
    batch.set_up(&LinkRef::Index(index));
    for gateway in gateways(record) {
        batch.put_neighbour(index, gateway, HOST_MAC);
        for route in routes(gateway, index) {
            batch.put_route(&route);
        }
    }
    pod.run(batch).map(drop)
}

/// Waits until the kernel lets packets out of the pod's link: asking for a link makes it finish what the change of carrier
/// has begun.
pub(crate) fn settle(link: &Link, pod: &mut Connection) -> Result<(), Error> {
    match link.peer {
        Some(index) => pod.link(&LinkRef::Index(index)).map(drop),
        None => Ok(()),
    }
}

fn by_name(pod: &mut Connection, name: &str) -> Result<Link, Error> {
    pod.link(&LinkRef::Name(name.to_owned()))?
        .ok_or(Error::Lost)
}

/// One gateway for each family that the pod has addresses of.
pub(crate) fn gateways(record: &Record) -> Vec<IpAddr> {
    let four = record.addresses.iter().any(IpAddr::is_ipv4);
    let six = record.addresses.iter().any(IpAddr::is_ipv6);
    let four = four.then_some(IpAddr::V4(GATEWAY4));
    four.into_iter()
        .chain(six.then_some(IpAddr::V6(GATEWAY6)))
        .collect()
}

/// The gateway is on the link, and everything is behind it.
pub(crate) fn routes(gateway: IpAddr, index: u32) -> [Route; 2] {
    let hop = NextHop {
        via: Some(gateway),
        link: Some(index),
        onlink: false,
    };
    let route = |prefix, hop| Route {
        prefix,
        protocol: POD_PROTOCOL,
        metric: None,
        kind: RouteKind::Unicast([hop].into()),
    };
    [
        route(IpNet::from(gateway), NextHop::on(index)),
        route(everything(gateway), hop),
    ]
}

fn everything(gateway: IpAddr) -> IpNet {
    let any: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new_assert(any, 0)
}

/// What the host's thread has to know.
pub(crate) fn host_end(record: &Record, link: &Link, pod_mac: Mac) -> PodLink {
    PodLink {
        name: record.link.clone(),
        index: link.index,
        pod_mac,
        addresses: record.addresses.clone(),
    }
}

/// The result of ADD.
pub(crate) fn result(record: &Record, mtu: u32, sandbox: &str) -> Attached {
    let gateway = |address: &IpAddr| match address {
        IpAddr::V4(_) => IpAddr::V4(GATEWAY4),
        IpAddr::V6(_) => IpAddr::V6(GATEWAY6),
    };
    Attached {
        interfaces: vec![
            Interface {
                name: record.link.clone(),
                mac: HOST_MAC.to_string(),
                mtu: Some(mtu),
                sandbox: String::new(),
            },
            Interface {
                name: record.attachment.interface.clone(),
                mac: names::pod_mac(&record.attachment).to_string(),
                mtu: Some(mtu),
                sandbox: sandbox.to_owned(),
            },
        ],
        ips: record
            .addresses
            .iter()
            .map(|address| Ip {
                address: IpNet::from(*address),
                gateway: Some(gateway(address)),
                interface: Some(1),
            })
            .collect(),
        routes: gateways(record)
            .into_iter()
            .map(|gateway| Shown {
                dst: everything(gateway),
                gw: Some(gateway),
            })
            .collect(),
        dns: None,
    }
}
