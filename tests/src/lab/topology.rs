//! Who has which address on the fabric: decided from the nodes' own addresses, without doing it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// AS number of the router.
pub const ROUTER_ASN: u32 = 64600;
/// Where the controller listens.
pub const CONTROLLER: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 2);
/// BGP identifier of the router.
pub const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 254);
/// The router's end of the link to the host beyond it, and the host's.
pub const BEYOND4: (Ipv4Addr, Ipv4Addr) = (
    Ipv4Addr::new(198, 19, 255, 1),
    Ipv4Addr::new(198, 19, 255, 2),
);
/// The same for IPv6.
pub const BEYOND6: (Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0xfdfe, 19, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfdfe, 19, 0, 0, 0, 0, 0, 2),
);

/// A node as the world's `Node` object describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// `metadata.name`.
    pub name: String,
    /// `InternalIP`s in the object's order.
    pub internal: Vec<IpAddr>,
    /// `ExternalIP`s in the object's order.
    pub external: Vec<IpAddr>,
}

/// The fabric: one switch that nodes, router and controller hang on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Nodes in the order given.
    pub nodes: Vec<Node>,
    /// The router's addresses, one per subnet, with the subnet's length.
    pub router: Vec<IpNet>,
    /// Addresses that the host beyond the router has.
    pub externals: BTreeSet<IpAddr>,
}

/// A node's place on the fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// Its addresses, the one to speak BGP with first: the `InternalIP`s, and one of the lab's for a
    /// family that has none (a next hop for that family's routes).
    pub addresses: Vec<IpAddr>,
    /// `ExternalIP`s that are on its link (those the host beyond the router does not have).
    pub extra: Vec<IpAddr>,
}

impl Topology {
    /// Places `nodes`; `externals` go beyond the router; `taken` addresses (pods') are not used by the lab.
    ///
    /// # Errors
    /// If two nodes share an address.
    pub fn new(
        specs: &[NodeSpec],
        externals: &BTreeSet<IpAddr>,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<Self> {
        let mut used: BTreeSet<IpAddr> = taken.union(externals).copied().collect();
        for spec in specs {
            for address in &spec.internal {
                if !used.insert(*address) && !taken.contains(address) {
                    bail!(
                        "node {}: another node or external host has the address {address}",
                        spec.name
                    );
                }
            }
        }
        let nodes: Vec<Node> = specs
            .iter()
            .zip(1..)
            .map(|(spec, number)| {
                let mut addresses = spec.internal.clone();
                if !addresses.iter().any(IpAddr::is_ipv4) {
                    addresses.push(Ipv4Addr::new(198, 18, 0, number).into());
                }
                if !addresses.iter().any(IpAddr::is_ipv6) {
                    addresses.push(Ipv6Addr::new(0xfdfe, 18, 0, 0, 0, 0, 0, number.into()).into());
                }
                let extra = spec
                    .external
                    .iter()
                    .filter(|address| !externals.contains(address))
                    .copied()
                    .collect();
                Node {
                    name: spec.name.clone(),
                    addresses,
                    extra,
                }
            })
            .collect();
        let subnets: BTreeSet<IpNet> = nodes
            .iter()
            .flat_map(|node| &node.addresses)
            .map(|a| subnet(*a))
            .collect();
        let router = subnets
            .into_iter()
            .map(|net| {
                let free = (1..=254)
                    .rev()
                    .map(|host| host_of(net, host))
                    .find(|address| !used.contains(address));
                IpNet::new_assert(free.unwrap_or_else(|| host_of(net, 254)), net.prefix_len())
            })
            .collect();
        Ok(Self {
            nodes,
            router,
            externals: externals.clone(),
        })
    }

    /// A node by its name.
    ///
    /// # Errors
    /// If there is none; which there are.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| {
                let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
                format!("no node `{name}`; there are {}", names.join(", "))
            })
    }

    /// The router's address in the subnet of `address`.
    pub fn router_for(&self, address: IpAddr) -> Option<IpAddr> {
        self.router
            .iter()
            .find(|net| net.contains(&address))
            .map(IpNet::addr)
    }

    /// `ip` commands for a node whose link to the switch is `eth0`.
    pub fn node_commands(&self, node: &Node) -> Vec<String> {
        let mut commands = vec!["link set lo up".to_owned(), "link set eth0 up".to_owned()];
        let own: BTreeSet<IpNet> = node
            .addresses
            .iter()
            .map(|address| subnet(*address))
            .collect();
        commands.extend(
            node.addresses
                .iter()
                .map(|a| add_address(*a, subnet(*a).prefix_len(), "eth0")),
        );
        commands.extend(node.extra.iter().map(|a| add_address(*a, full(*a), "eth0")));
        for other in self.nodes.iter().filter(|other| other.name != node.name) {
            let far = other
                .addresses
                .iter()
                .filter(|address| !own.contains(&subnet(**address)));
            commands.extend(far.chain(&other.extra).map(|address| on_link(*address)));
        }
        commands.push(on_link(CONTROLLER.into()));
        commands
    }

    /// `ip` commands for the controller's namespace.
    pub fn controller_commands(&self) -> Vec<String> {
        let mut commands = vec!["link set lo up".to_owned(), "link set eth0 up".to_owned()];
        commands.push(add_address(CONTROLLER.into(), 32, "eth0"));
        commands.extend(
            self.nodes
                .iter()
                .flat_map(|node| &node.addresses)
                .filter(|a| a.is_ipv4())
                .map(|a| on_link(*a)),
        );
        commands
    }

    /// `ip` commands for the router: `eth0` to the switch, `eth1` to the host beyond.
    pub fn router_commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = ["lo", "eth0", "eth1"]
            .iter()
            .map(|link| format!("link set {link} up"))
            .collect();
        commands.extend(
            self.router
                .iter()
                .map(|net| add_address(net.addr(), net.prefix_len(), "eth0")),
        );
        commands.push(add_address(BEYOND4.0.into(), 30, "eth1"));
        commands.push(add_address(BEYOND6.0.into(), 126, "eth1"));
        commands.extend(
            self.nodes
                .iter()
                .flat_map(|node| &node.extra)
                .map(|address| on_link(*address)),
        );
        commands
    }

    /// `ip` commands for the host beyond the router.
    pub fn host_commands(&self) -> Vec<String> {
        let mut commands = vec!["link set lo up".to_owned(), "link set eth0 up".to_owned()];
        commands.push(add_address(BEYOND4.1.into(), 30, "eth0"));
        commands.push(add_address(BEYOND6.1.into(), 126, "eth0"));
        commands.extend(
            self.externals
                .iter()
                .map(|a| add_address(*a, full(*a), "lo")),
        );
        for gateway in [IpAddr::from(BEYOND4.0), IpAddr::from(BEYOND6.0)] {
            // Only the external addresses are known to the nodes.
            let source = self
                .externals
                .iter()
                .find(|address| address.is_ipv4() == gateway.is_ipv4());
            let source = source.map_or_else(String::new, |address| format!(" src {address}"));
            commands.push(format!("route add default via {gateway}{source}"));
        }
        commands
    }
}

/// The command that gives `link` an address.
pub fn add_address(address: IpAddr, length: u8, link: &str) -> String {
    let nodad = if address.is_ipv6() { " nodad" } else { "" };
    format!("addr add {address}/{length} dev {link}{nodad}")
}

/// The length of a prefix that is one address.
pub fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn on_link(address: IpAddr) -> String {
    let scope = if address.is_ipv4() { " scope link" } else { "" };
    format!("route add {address}/{} dev eth0{scope}", full(address))
}

fn subnet(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new_assert(address, length).trunc()
}

fn host_of(net: IpNet, host: u8) -> IpAddr {
    match net.network() {
        IpAddr::V4(network) => Ipv4Addr::from(u32::from(network) | u32::from(host)).into(),
        IpAddr::V6(network) => Ipv6Addr::from(u128::from(network) | u128::from(host)).into(),
    }
}

#[cfg(test)]
mod tests;
