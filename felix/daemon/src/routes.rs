//! The routes that felix wants and those it knows the kernel has. Decides; does nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use margay_bgpd::{PeerName, RouteChange};
use margay_netlink::{NextHop, Route, RouteKind};
use margay_sync::status::RouteStatus;

/// Our route protocol number: what carries it is ours, and nothing else is.
pub(crate) const PROTOCOL: u8 = 180;
/// The metric of our routes. Others' routes to the same destination have another one, so that none replaces the other;
/// the kernel prefers those with none, such as that of a connected network.
const METRIC: u32 = 180;

/// All routes, by source, and the kernel's.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Pods' addresses: the link, by name and index.
    pods: BTreeMap<IpNet, (String, u32)>,
    /// Own blocks: what no pod has is nobody's.
    blocks: BTreeSet<IpNet>,
    /// Announced aggregates of these: what nobody has told of is nobody's.
    aggregates: BTreeSet<IpNet>,
    /// From BGP.
    learned: BTreeMap<IpNet, Learned>,
    /// In the kernel since before our start, from BGP most probably: kept until BGP has told everything.
    inherited: BTreeSet<IpNet>,
    /// What the kernel has, as far as we know; by destination and metric.
    kernel: BTreeMap<(IpNet, Option<u32>), Route>,
}

/// A route that a peer told of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Learned {
    next_hops: BTreeSet<NextHop>,
    peer: Option<PeerName>,
}

/// What to do in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Operations {
    /// To enter or replace.
    pub(crate) put: Vec<Route>,
    /// To delete.
    pub(crate) delete: Vec<Route>,
}

impl Table {
    /// A pod's addresses are reached through a link.
    pub(crate) fn add_pod(
        &mut self,
        link: &str,
        index: u32,
        addresses: &BTreeSet<IpAddr>,
    ) -> BTreeSet<IpNet> {
        let prefixes: BTreeSet<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
        for prefix in &prefixes {
            self.pods.insert(*prefix, (link.to_owned(), index));
        }
        prefixes
    }

    /// A link is gone; the kernel has dropped its routes, or will.
    pub(crate) fn remove_link(&mut self, link: &str) -> BTreeSet<IpNet> {
        let of_link = self.pods.iter().filter(|(_, (name, _))| name == link);
        let prefixes: BTreeSet<IpNet> = of_link.map(|(prefix, _)| *prefix).collect();
        for prefix in &prefixes {
            self.pods.remove(prefix);
        }
        prefixes
    }

    /// The node's blocks and aggregates; the prefixes that this concerns.
    pub(crate) fn set_own(
        &mut self,
        blocks: BTreeSet<IpNet>,
        aggregates: BTreeSet<IpNet>,
    ) -> BTreeSet<IpNet> {
        let of_blocks = self.blocks.symmetric_difference(&blocks);
        let of_aggregates = self.aggregates.symmetric_difference(&aggregates);
        let concerned = of_blocks.chain(of_aggregates).copied().collect();
        (self.blocks, self.aggregates) = (blocks, aggregates);
        concerned
    }

    /// BGP's best routes changed; the prefixes that this concerns.
    pub(crate) fn learn(&mut self, changes: Vec<RouteChange>) -> BTreeSet<IpNet> {
        let mut concerned = BTreeSet::new();
        for RouteChange {
            prefix,
            next_hops,
            links,
            peer,
        } in changes
        {
            concerned.insert(prefix);
            if next_hops.is_empty() {
                self.learned.remove(&prefix);
            } else {
                self.inherited.remove(&prefix);
                let next_hops = next_hops.into_iter().map(|via| NextHop {
                    link: links.get(&via).copied(),
                    ..NextHop::via(via)
                });
                let next_hops = next_hops.collect();
                self.learned.insert(prefix, Learned { next_hops, peer });
            }
        }
        concerned
    }

    /// BGP has told everything: what is only inherited goes.
    pub(crate) fn sweep(&mut self) -> BTreeSet<IpNet> {
        std::mem::take(&mut self.inherited)
    }

    /// Takes what the kernel has at the start; routes that nothing explains yet are inherited.
    pub(crate) fn adopt(&mut self, routes: Vec<Route>) {
        for route in &routes {
            if self.wanted(route.prefix).is_none() && matches!(route.kind, RouteKind::Unicast(_)) {
                self.inherited.insert(route.prefix);
            }
        }
        self.set_kernel(routes);
    }

    /// Takes what the kernel has, and says which of our routes were not as we knew them: destinations, sorted.
    pub(crate) fn observe(&mut self, routes: Vec<Route>) -> Vec<IpNet> {
        let before = std::mem::take(&mut self.kernel);
        self.set_kernel(routes);
        let gone_or_changed = before
            .iter()
            .filter(|(key, route)| {
                !self
                    .kernel
                    .get(*key)
                    .is_some_and(|now| same(&route.kind, &now.kind))
            })
            .map(|(key, _)| key.0);
        let come = self
            .kernel
            .keys()
            .filter(|key| !before.contains_key(*key))
            .map(|key| key.0);
        let mut differ: Vec<IpNet> = gone_or_changed.chain(come).collect();
        differ.sort();
        differ.dedup();
        differ
    }

    /// What the kernel did: it has this route now.
    pub(crate) fn done(&mut self, route: Route) {
        self.kernel.insert((route.prefix, route.metric), route);
    }

    /// What the kernel did: it has no such route any more.
    pub(crate) fn gone(&mut self, route: &Route) {
        self.kernel.remove(&(route.prefix, route.metric));
    }

    /// What is to be done about these destinations.
    pub(crate) fn operations(&self, prefixes: &BTreeSet<IpNet>) -> Operations {
        let mut operations = Operations::default();
        for prefix in prefixes {
            let wanted = self.wanted(*prefix);
            let mut there = false;
            let range = (*prefix, None)..=(*prefix, Some(u32::MAX));
            for (_, route) in self.kernel.range(range) {
                match &wanted {
                    _ if route.metric == Some(METRIC) && self.inherited.contains(prefix) => {
                        there = true;
                    }
                    Some(wanted) if route.metric == wanted.metric => {
                        there = same(&wanted.kind, &route.kind);
                    }
                    _ => operations.delete.push(route.clone()),
                }
            }
            if let (Some(wanted), false) = (wanted, there) {
                operations.put.push(wanted);
            }
        }
        operations
    }

    /// All destinations that we want or have.
    pub(crate) fn prefixes(&self) -> BTreeSet<IpNet> {
        let kernel = self.kernel.keys().map(|(prefix, _)| prefix);
        self.pods
            .keys()
            .chain(&self.blocks)
            .chain(&self.aggregates)
            .chain(self.learned.keys())
            .chain(kernel)
            .copied()
            .collect()
    }

    /// Whether a destination is one of ours.
    pub(crate) fn concerns(&self, prefix: &IpNet) -> bool {
        self.pods.contains_key(prefix)
            || self.blocks.contains(prefix)
            || self.aggregates.contains(prefix)
            || self.learned.contains_key(prefix)
    }

    /// Number of routes in the kernel.
    pub(crate) fn len(&self) -> usize {
        self.kernel.len()
    }

    /// The route that we want to a destination: a pod's link before what is our own before what BGP tells.
    fn wanted(&self, prefix: IpNet) -> Option<Route> {
        let kind = if let Some((_, index)) = self.pods.get(&prefix) {
            RouteKind::Unicast([NextHop::on(*index)].into())
        } else if self.blocks.contains(&prefix) || self.aggregates.contains(&prefix) {
            RouteKind::Blackhole
        } else {
            let learned = self.learned.get(&prefix)?;
            RouteKind::Unicast(learned.next_hops.clone())
        };
        Some(Route {
            prefix,
            protocol: PROTOCOL,
            metric: Some(METRIC),
            kind,
        })
    }

    /// For people.
    pub(crate) fn show(&self) -> Vec<RouteStatus> {
        self.prefixes()
            .into_iter()
            .filter_map(|prefix| {
                let (next_hops, source) = if let Some((link, _)) = self.pods.get(&prefix) {
                    (BTreeSet::new(), format!("pod {link}"))
                } else if self.blocks.contains(&prefix) {
                    (BTreeSet::new(), "block".to_owned())
                } else if self.aggregates.contains(&prefix) {
                    (BTreeSet::new(), "aggregate".to_owned())
                } else if let Some(learned) = self.learned.get(&prefix) {
                    let peer = learned.peer.as_ref().map_or("", PeerName::as_str);
                    let hops = learned.next_hops.iter().filter_map(|hop| hop.via);
                    (hops.collect(), format!("bgp {peer}"))
                } else if self.inherited.contains(&prefix) {
                    let route = self.kernel.get(&(prefix, Some(METRIC)))?;
                    (hops(&route.kind), "kept over the restart".to_owned())
                } else {
                    return None;
                };
                Some(RouteStatus {
                    prefix,
                    next_hops,
                    source,
                })
            })
            .collect()
    }

    fn set_kernel(&mut self, routes: Vec<Route>) {
        self.kernel = routes
            .into_iter()
            .map(|route| ((route.prefix, route.metric), route))
            .collect();
    }
}

fn hops(kind: &RouteKind) -> BTreeSet<IpAddr> {
    match kind {
        RouteKind::Unicast(hops) => hops.iter().filter_map(|hop| hop.via).collect(),
        RouteKind::Blackhole | RouteKind::Other => BTreeSet::new(),
    }
}

/// Whether two kinds lead the same way. Where we named only an address the kernel adds the link.
fn same(wanted: &RouteKind, kernel: &RouteKind) -> bool {
    match (wanted, kernel) {
        (RouteKind::Unicast(wanted), RouteKind::Unicast(kernel)) => {
            wanted.len() == kernel.len()
                && wanted.iter().zip(kernel).all(|(wanted, kernel)| {
                    wanted.via == kernel.via && (wanted.via.is_some() || wanted.link == kernel.link)
                })
        }
        (wanted, kernel) => wanted == kernel,
    }
}

#[cfg(test)]
mod tests;
