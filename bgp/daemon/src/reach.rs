//! How next hops are reached, as the kernel's routes say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use margay_bgp::Reach;
use netlink_sys::constants::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::sync::mpsc;
use tracing::debug;

use crate::driver::Io;
use crate::sys;

/// Groups of `linux/rtnetlink.h` that tell of changes.
const LINKS: u32 = 1;
const IPV4_ROUTES: u32 = 7;
const IPV6_ROUTES: u32 = 11;
/// Between two looks at the routes while these change all the time.
const PAUSE: Duration = Duration::from_millis(50);
/// Longer than any answer.
const ANSWER: usize = 8192;
/// Of `struct nlmsghdr` and `struct rtmsg`.
const HEADER: usize = 16;
const ROUTE: usize = 12;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
/// Answer with the route that is met, not with what one packet would do.
const RTM_F_FIB_MATCH: u32 = 0x2000;
const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;

/// Asks the kernel.
pub(crate) struct Kernel {
    socket: Socket,
}

impl Kernel {
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// How packets to `address` go. A default route is no way: it is there whatever happens to the network behind it.
    pub(crate) fn reach(&self, address: IpAddr) -> Reach {
        let mut answer = Vec::with_capacity(ANSWER);
        // The kernel answers while it is asked.
        let asked = self.socket.send(&question(address), 0);
        let answered = asked.and_then(|_| self.socket.recv(&mut answer, 0));
        match answered {
            Ok(_) => read_answer(&answer),
            Err(error) => {
                debug!(%address, %error, "the kernel does not say how an address is reached");
                Reach::Unreachable
            }
        }
    }
}

/// Tells the driver whenever routes or links change, until it is gone.
///
/// # Errors
/// The kernel's; it tells no more then.
pub(crate) async fn watch(events: mpsc::Sender<Io>) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    for group in [LINKS, IPV4_ROUTES, IPV6_ROUTES] {
        socket.add_membership(group)?;
    }
    let socket = sys::readable(socket)?;
    // What changed before this moment nobody has told.
    while events.send(Io::RoutesChanged).await.is_ok() {
        // The first change is told at once, and those that come with it together.
        tokio::time::sleep(PAUSE).await;
        let mut ready = socket.readable().await?;
        let mut news = Vec::with_capacity(ANSWER);
        loop {
            news.clear();
            match ready.try_io(|socket| socket.get_ref().recv(&mut news, 0)) {
                Ok(Ok(_)) => {}
                // More came than the kernel could keep: something changed.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
    }
    Ok(())
}

fn question(address: IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let family = u8::try_from(family).expect("address families are small numbers");
    let bits = u8::try_from(octets.len() * 8).expect("at most 128");
    let attribute = u16::try_from(4 + octets.len()).expect("an address is short");
    let mut message = Vec::with_capacity(HEADER + ROUTE + 4 + octets.len());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&RTM_GETROUTE.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[family, bits, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
    message.extend_from_slice(&attribute.to_ne_bytes());
    message.extend_from_slice(&RTA_DST.to_ne_bytes());
    message.extend_from_slice(&octets);
    let length = u32::try_from(message.len()).expect("a question is short");
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// What an answer says; an error message, and anything else that is no route, says that there is no way.
fn read_answer(octets: &[u8]) -> Reach {
    route(octets).unwrap_or(Reach::Unreachable)
}

fn route(octets: &[u8]) -> Option<Reach> {
    let length = usize::try_from(u32::from_ne_bytes(octets.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(octets.get(4..6)?.try_into().ok()?);
    let message = octets.get(HEADER..length)?;
    let (route, attributes) = message.split_at_checked(ROUTE)?;
    let (to, kind_of_route) = (*route.get(1)?, *route.get(7)?);
    let flags = u32::from_ne_bytes(route.get(8..12)?.try_into().ok()?);
    let local = kind_of_route == RTN_LOCAL;
    if kind != RTM_NEWROUTE
        || !(local || kind_of_route == RTN_UNICAST)
        || to == 0
        || flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0
    {
        return None;
    }
    let mut metric = 0;
    let mut gateways = BTreeSet::new();
    let mut parts = None;
    for (kind, value) in split(attributes) {
        match kind {
            RTA_PRIORITY => metric = u32::from_ne_bytes(value.try_into().ok()?),
            RTA_MULTIPATH => parts = Some(value),
            _ => gateways.extend(gateway(kind, value)),
        }
    }
    if let Some(parts) = parts {
        gateways = several(parts)?;
    }
    Some(Reach::Via { metric, gateways })
}

/// The gateways of a route with several ways; `None` if all of these are down. One of them may need no gateway; the
/// others are as good.
fn several(mut octets: &[u8]) -> Option<BTreeSet<IpAddr>> {
    let mut gateways = BTreeSet::new();
    let mut alive = false;
    // `struct rtnexthop`: length, flags, hops, link.
    while let [low, high, flags, ..] = *octets {
        let length = usize::from(u16::from_ne_bytes([low, high])).max(8);
        let part = octets.get(8..length).unwrap_or_default();
        if u32::from(flags) & (RTNH_F_DEAD | RTNH_F_LINKDOWN) == 0 {
            alive = true;
            gateways.extend(split(part).filter_map(|(kind, value)| gateway(kind, value)));
        }
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    alive.then_some(gateways)
}

fn gateway(kind: u16, value: &[u8]) -> Option<IpAddr> {
    let address = match kind {
        RTA_GATEWAY => value,
        // `struct rtvia`: the family, then the address.
        RTA_VIA => value.get(2..)?,
        _ => return None,
    };
    if let Ok(octets) = <[u8; 4]>::try_from(address) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(address).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

/// The attributes (`struct rtattr`) in a row of them.
fn split(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = octets.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = rest.get(..length.checked_sub(4)?)?;
        octets = rest
            .get(value.len().next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, value))
    })
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
                Some(kernel) => kernel.reach(*address),
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
