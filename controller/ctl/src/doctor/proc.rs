//! Facts from `/proc`, as the calling thread's network namespace shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use margay_sync::status::NodeStatus;

/// A setting below `/proc/sys`, trimmed; `None` if there is none.
pub(super) fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// A setting that is a number.
pub(super) fn sysctl_number(name: &str) -> Option<u64> {
    sysctl(name)?.parse().ok()
}

/// A file below `/proc/net` of this thread (`/proc/net` itself is the main thread's).
pub(super) fn net(name: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
}

/// A link of the node that carries routes: neither loopback nor a pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uplink {
    /// Its name.
    pub(super) name: String,
    /// BGP peers that it leads to.
    pub(super) peers: BTreeSet<IpAddr>,
}

/// The links that lead to BGP peers; all that carry routes while no peers are known.
pub(super) fn uplinks(status: Option<&NodeStatus>) -> Vec<Uplink> {
    let mut routes = parse_routes4(&net("route"));
    routes.extend(parse_routes6(&net("ipv6_route")));
    let peers = status
        .iter()
        .flat_map(|status| status.peers.values())
        .map(|peer| peer.address);
    choose(&routes, peers)
}

fn choose(routes: &[(IpNet, String)], peers: impl Iterator<Item = IpAddr>) -> Vec<Uplink> {
    let mut links: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for (_, link) in routes {
        if link != "lo" && !link.starts_with("mgy") {
            links.entry(link).or_default();
        }
    }
    for peer in peers {
        let best = routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&peer))
            .max_by_key(|(prefix, _)| prefix.prefix_len());
        if let Some(peers) = best.and_then(|(_, link)| links.get_mut(link.as_str())) {
            peers.insert(peer);
        }
    }
    if links.values().any(|peers| !peers.is_empty()) {
        links.retain(|_, peers| !peers.is_empty());
    }
    links
        .into_iter()
        .map(|(name, peers)| Uplink {
            name: name.to_owned(),
            peers,
        })
        .collect()
}

/// `/proc/net/route`: link, destination and mask in hex, host byte order; flag 0x200 is a reject.
fn parse_routes4(text: &str) -> Vec<(IpNet, String)> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
        if hex(3)? & 0x200 != 0 {
            return None;
        }
        let address = Ipv4Addr::from(hex(1)?.to_ne_bytes());
        let mask = Ipv4Addr::from(hex(7)?.to_ne_bytes());
        let prefix = IpNet::with_netmask(address.into(), mask.into()).ok()?;
        Some((prefix, (*fields.first()?).to_owned()))
    };
    text.lines().skip(1).filter_map(parse).collect()
}

/// `/proc/net/ipv6_route`: destination and its length in hex first, flags and link last.
///
/// Left out: local and multicast addresses, `fe80::/10`, rejects (flag 0x200).
fn parse_routes6(text: &str) -> Vec<(IpNet, String)> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, length, _, _, _, _, _, _, flags, link] = fields.as_slice() else {
            return None;
        };
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        let length = u8::from_str_radix(length, 16).ok()?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let own = flags & 0x8000_0000 != 0 || flags & 0x200 != 0;
        if own || address.is_multicast() || address.is_unicast_link_local() {
            return None;
        }
        Some((IpNet::new(address.into(), length).ok()?, (*link).to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// Names of all links, from `/proc/net/dev`.
pub(super) fn links() -> Vec<String> {
    parse_links(&net("dev"))
}

fn parse_links(text: &str) -> Vec<String> {
    text.lines()
        .skip(2)
        .filter_map(|line| Some(line.rsplit_once(':')?.0.trim().to_owned()))
        .collect()
}

/// Numbers of the processes in this network namespace, with their names.
pub(super) fn processes() -> Vec<(u32, String)> {
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    let mut all: Vec<(u32, String)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok() == own)
        .filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some((pid, name.trim().to_owned()))
        })
        .collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests;
