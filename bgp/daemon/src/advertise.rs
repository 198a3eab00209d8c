//! Router advertisements: how a peer that goes by its link as well finds us.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, info};

use crate::sys;

/// Between two of them. At least 3 s (RFC 4861 §6.2.1).
pub(crate) const PAUSE: Duration = Duration::from_secs(5);
/// Their kind (RFC 4861 §4.2).
const ROUTER_ADVERTISEMENT: u8 = 134;
/// The option with the sender's hardware address: without it nobody would note who sent it.
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Whoever takes them is on the same link (RFC 4861 §6.1.2).
const HOPS: u32 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Sends them, if it may: that takes `CAP_NET_RAW`.
#[derive(Default)]
pub(crate) enum Advertiser {
    #[default]
    New,
    Ready(Socket),
    NotAllowed,
}

impl Advertiser {
    /// Tells everybody on these links that we are a router there.
    pub(crate) fn advertise(&mut self, links: &BTreeSet<String>) {
        if matches!(self, Self::New) {
            *self = match open() {
                Ok(socket) => Self::Ready(socket),
                Err(error) => {
                    info!(%error, "no router advertisements are sent (that takes CAP_NET_RAW): peers on links without addresses cannot find us by them");
                    Self::NotAllowed
                }
            };
        }
        let Self::Ready(socket) = self else { return };
        for link in links {
            if let Err(error) = send(socket, link) {
                debug!(link, %error, "no router advertisement could be sent");
            }
        }
    }
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::RAW.nonblocking(),
        Some(Protocol::ICMPV6),
    )?;
    // Nothing is to arrive: the kernel reads others' advertisements for us.
    sys::block_icmp6(&socket)?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_multicast_loop_v6(false)?;
    Ok(socket)
}

fn send(socket: &Socket, link: &str) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(link)?;
    let hardware = nix::ifaddrs::getifaddrs()?
        .filter(|found| found.interface_name == link)
        .find_map(|found| found.address?.as_link_addr()?.addr())
        .ok_or(io::ErrorKind::NotFound)?;
    let to = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    socket.send_to(&message(hardware), &to.into()).map(drop)
}

/// Its lifetime is 0: we are nobody's default router (RFC 4861 §4.2). The kernel adds the checksum.
fn message(hardware: [u8; 6]) -> [u8; 24] {
    let mut message = [0; 24];
    message[0] = ROUTER_ADVERTISEMENT;
    message[16] = SOURCE_LINK_LAYER_ADDRESS;
    // In units of eight octets.
    message[17] = 1;
    message[18..].copy_from_slice(&hardware);
    message
}
