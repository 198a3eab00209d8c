//! Names of the fixed chains and sets.

use margay_policy::model::Direction;
use margay_policy::node_policy::RuleListId;

use crate::ruleset::{ChainName, Family};

/// Drops spoofed sources.
pub const PREROUTING: &str = "prerouting";
/// Judges what passes through the node.
pub const FORWARD: &str = "forward";
/// Judges what pods send to the node itself.
pub const INPUT: &str = "input";
/// Masquerades; exists only while some pool asks for it.
pub const POSTROUTING: &str = "postrouting";
/// Drops what no Service took; exists only while ranges of Services are announced.
pub const UNUSED: &str = "unused";
/// For packets of connections that conntrack knows: who need not be judged again.
pub const KNOWN: &str = "known";
/// Judges a connection's client: drops, or returns.
pub const CLIENT: &str = "client";
/// Where every permitted connection ends: writes the epoch. Its end is the base chain's default verdict.
pub const STAMP: &str = "stamp";

/// The current epoch.
pub const EPOCH: &str = "epoch";
/// The live epochs.
pub const WINDOW: &str = "window";

/// (epoch . address): connections of that epoch and address must be judged again.
pub fn stale(family: Family) -> &'static str {
    pick(family, "stale4", "stale6")
}

/// (link . address) that pods may send with.
pub fn pod_source(family: Family) -> &'static str {
    pick(family, "pod_source4", "pod_source6")
}

/// Client address → chain that judges it.
pub fn from_pod(family: Family) -> &'static str {
    pick(family, "from_pod4", "from_pod6")
}

/// Server address → chain that judges it.
pub fn to_pod(family: Family) -> &'static str {
    pick(family, "to_pod4", "to_pod6")
}

/// (address set . address).
pub fn members(family: Family) -> &'static str {
    pick(family, "members4", "members6")
}

/// (service set . address . protocol . port).
pub fn services(family: Family) -> &'static str {
    pick(family, "services4", "services6")
}

/// Pools whose pods are masqueraded.
pub fn nat_source(family: Family) -> &'static str {
    pick(family, "nat_source4", "nat_source6")
}

/// All pools: never masqueraded on the way there.
pub fn nat_pools(family: Family) -> &'static str {
    pick(family, "nat_pools4", "nat_pools6")
}

/// Announced ranges of Services.
pub fn service_ranges(family: Family) -> &'static str {
    pick(family, "service_ranges4", "service_ranges6")
}

/// The class chain of one tier of a rule list.
pub fn class_chain(
    direction: Direction,
    family: Family,
    list: RuleListId,
    tier: usize,
) -> ChainName {
    let letter = match direction {
        Direction::Ingress => 'i',
        Direction::Egress => 'e',
    };
    format!("{letter}{}-{list}-{tier}", digit(family))
}

/// `4` or `6`.
pub(crate) fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

fn pick(family: Family, v4: &'static str, v6: &'static str) -> &'static str {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}
