//! The ranges that pods have addresses of.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use margay_api::v1::IpPool;
use margay_ipam::Family;
use margay_policy::model::{LabelSelector, Labels, Node, NodeName};
use margay_sync::message;

use super::{Inputs, pod_cidrs, selector, selects};

/// An `IPPool` that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its range and blocks.
    pub pool: margay_ipam::pool::Pool,
    /// Masquerade what its pods send out of all pools.
    pub nat_outgoing: bool,
    /// Hand out nothing new.
    pub disabled: bool,
    /// The older pool with a part of its range, if there is one: then it hands out nothing new either.
    pub overlaps: Option<String>,
    selector: Option<LabelSelector>,
    /// Which namespaces it is for, if not for any.
    of_namespaces: Option<LabelSelector>,
}

impl Pool {
    /// Whether a node may take new addresses from it.
    pub fn is_usable_by(&self, labels: &Labels) -> bool {
        self.overlaps.is_none() && self.is_meant_for(labels)
    }

    /// Whether pods of any namespace may have addresses of it.
    pub fn is_for_any_namespace(&self) -> bool {
        self.of_namespaces.is_none()
    }

    /// Those of `known` that it selects, if it is not for any.
    pub(super) fn namespaces<'a>(
        &self,
        known: impl Iterator<Item = (&'a str, &'a Labels)>,
    ) -> Option<BTreeSet<String>> {
        let selector = self.of_namespaces.as_ref()?;
        let selected = known.filter(|(_, labels)| selects(Some(selector), labels));
        Some(selected.map(|(name, _)| name.to_owned()).collect())
    }

    fn is_meant_for(&self, labels: &Labels) -> bool {
        !self.disabled && selects(self.selector.as_ref(), labels)
    }
}

/// The pools, by name of their objects; without any object 10.244.0.0/16 and `fd00:10:244::/56`.
///
/// A pool that cannot be cut into its blocks is left out.
pub fn pools(inputs: &Inputs) -> Vec<Pool> {
    if inputs.pools.is_empty() {
        let usual = ["10.244.0.0/16", "fd00:10:244::/56"]
            .into_iter()
            .filter_map(|text| {
                let cidr: IpNet = text.parse().ok()?;
                let block_size = margay_ipam::pool::Pool::default_block_size(cidr);
                let pool = margay_ipam::pool::Pool::new(cidr, block_size).ok()?;
                Some(Pool {
                    pool,
                    nat_outgoing: false,
                    disabled: false,
                    overlaps: None,
                    selector: None,
                    of_namespaces: None,
                })
            });
        return usual.collect();
    }
    let mut overlaps = overlaps(&inputs.pools);
    let pools = inputs.pools.iter().filter_map(|(name, object)| {
        let spec = &object.spec;
        let pool = margay_ipam::pool::Pool::new(spec.cidr, spec.block_prefix()).ok()?;
        Some(Pool {
            pool,
            nat_outgoing: spec.nat_outgoing,
            disabled: spec.disabled,
            overlaps: overlaps.remove(name.as_str()).map(str::to_owned),
            selector: spec.node_selector.as_ref().map(selector),
            of_namespaces: spec.namespace_selector.as_ref().map(selector),
        })
    });
    pools.collect()
}

/// Whether some pool is for the pods of some namespaces alone.
pub fn are_for_namespaces(inputs: &Inputs) -> bool {
    let mut pools = inputs.pools.values();
    pools.any(|pool| pool.spec.namespace_selector.is_some())
}

/// The namespaces that have pods on a node, as far as it needs them; `own` are the `podCIDRs` that it uses.
pub(super) fn namespaces(inputs: &Inputs, name: &NodeName, own: &[IpNet]) -> BTreeSet<String> {
    if !own.is_empty() || !are_for_namespaces(inputs) {
        return BTreeSet::new();
    }
    let namespaces = inputs.tenants.of_node(name);
    namespaces.map(|(name, _)| name.to_owned()).collect()
}

/// The pools whose range another has a part of, and that other: of two the older counts (`creationTimestamp`, then
/// name), so that a new object takes nothing away from one in use; one that does not count is in nobody's way.
fn overlaps(pools: &BTreeMap<String, IpPool>) -> BTreeMap<&str, &str> {
    let mut by_age: Vec<_> = pools.iter().collect();
    by_age.sort_by_key(|(name, object)| {
        let born = object.metadata.creation_timestamp.as_ref();
        (born.map(|time| time.0), *name)
    });
    let mut counted: Vec<(IpNet, &str)> = Vec::new();
    let mut overlaps = BTreeMap::new();
    for (name, object) in by_age {
        let cidr = object.spec.cidr;
        let mut older = counted.iter();
        match older.find(|(other, _)| cidr.contains(other) || other.contains(&cidr)) {
            Some((_, other)) => drop(overlaps.insert(name.as_str(), *other)),
            None => counted.push((cidr, name)),
        }
    }
    overlaps
}

/// The pools of `family` that a node would take addresses from, did they not overlap older ones; each with the
/// older one's name.
pub fn overlapping(inputs: &Inputs, node: &Node, family: Family) -> Vec<(IpNet, String)> {
    let meant = pools(inputs)
        .into_iter()
        .filter(|pool| pool.pool.family() == family && pool.is_meant_for(&node.labels));
    meant
        .filter_map(|pool| Some((pool.pool.cidr(), pool.overlaps?)))
        .collect()
}

/// What pools contradict in each other or in the nodes, by name.
pub(super) fn problems(inputs: &Inputs) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (name, other) in overlaps(&inputs.pools) {
        let range = |name: &str| {
            inputs
                .pools
                .get(name)
                .map(|pool| pool.spec.cidr.to_string())
        };
        let (cidr, older) = (
            range(name).unwrap_or_default(),
            range(other).unwrap_or_default(),
        );
        problems.push((name.to_owned(), format!("spec.cidr: {cidr} overlaps {older} of the older IPPool {other}, so nothing new is taken from this pool; pods that have addresses of it keep them. Delete it, and make one with another range")));
    }
    for (name, pool) in &inputs.pools {
        let nodes = pool.spec.node_selector.as_ref().map(selector);
        let selected = |node: &Node| selects(nodes.as_ref(), &node.labels);
        if !inputs.nodes.is_empty() && !inputs.nodes.values().any(selected) {
            problems.push((
                name.clone(),
                "spec.nodeSelector selects no node, so nothing is taken from this pool: compare it with `kubectl get nodes --show-labels`".to_owned(),
            ));
        }
        let namespaces = pool.spec.namespace_selector.as_ref().map(selector);
        let mut known = inputs.tenants.known();
        if namespaces.is_some() && !known.any(|(_, labels)| selects(namespaces.as_ref(), labels)) {
            problems.push((
                name.clone(),
                "spec.namespaceSelector selects no namespace, so nothing is taken from this pool: compare it with `kubectl get namespaces --show-labels`".to_owned(),
            ));
        }
    }
    problems
}

/// All ranges that pods have addresses of, for a node; `own` are the `podCIDRs` that it uses.
pub(super) fn of_node(
    inputs: &Inputs,
    name: &NodeName,
    node: &Node,
    own: &[IpNet],
) -> Vec<message::Pool> {
    let mut all = Vec::new();
    let mut of_blocks = !inputs.pools.is_empty();
    for other in inputs.nodes.keys() {
        let cidrs = pod_cidrs(inputs, other);
        of_blocks |= cidrs.is_empty();
        all.extend_from_slice(cidrs);
    }
    let pool = |cidr: IpNet, own| message::Pool {
        cidr,
        nat_outgoing: inputs.config.nat_outgoing,
        usable: own,
        subnet: own,
        namespaces: None,
    };
    let mut ranges: Vec<message::Pool> = own.iter().map(|cidr| pool(*cidr, true)).collect();
    // Neighbours merge, so that a node does not hear of each of thousands.
    let merged = IpNet::aggregate(&all);
    ranges.extend(
        merged
            .into_iter()
            .filter(|cidr| !own.contains(cidr))
            .map(|cidr| pool(cidr, false)),
    );
    if of_blocks {
        ranges.extend(pools(inputs).into_iter().map(|pool| message::Pool {
            cidr: pool.pool.cidr(),
            nat_outgoing: pool.nat_outgoing,
            usable: own.is_empty() && pool.is_usable_by(&node.labels),
            subnet: false,
            // Who uses its `podCIDRs` takes nothing of any pool.
            namespaces: match own {
                [] => pool.namespaces(inputs.tenants.of_node(name)),
                [..] => None,
            },
        }));
    }
    ranges
}

#[cfg(test)]
mod tests;
