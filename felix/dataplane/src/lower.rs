//! From policy to the ruleset.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_policy::model::{Direction, PodId};
use margay_policy::node_policy::{AddressSetId, NodePolicy, RuleListId, Service, ServiceSetId};

use crate::local::{Local, Side, Sides, address_sides, owners, sole};
use crate::names;
use crate::rooms;
use crate::ruleset::{Family, Key, KeyValue, Ruleset, Verdict};

pub(crate) mod base;
pub(crate) mod class;

/// The ruleset that enforces `policy` on this node.
///
/// A pod that is attached but that `policy` does not know is cut off. A rule that names a set that
/// `policy` does not have matches nothing; an endpoint with a list that it does not have, or that
/// has more than [`MAX_TIERS`](crate::local::MAX_TIERS), is cut off in that direction.
pub fn lower(policy: &NodePolicy, local: &Local) -> Ruleset {
    let Local {
        attachments,
        nat,
        epochs,
        rooms,
    } = local;
    let mut ruleset = base::base(epochs);
    let nat = base::nat(nat);
    ruleset.sets.extend(nat.sets);
    ruleset.chains.extend(nat.chains);

    let mut classes = BTreeSet::new();
    for (address, claims) in &owners(attachments) {
        if let Some(key) = source_key(policy, local, Some(claims), *address) {
            insert(
                &mut ruleset,
                names::pod_source(Family::of(address)),
                key,
                None,
            );
        }
        let Some(sides) = address_sides(policy, Some(claims)) else {
            continue;
        };
        for (set, verdict) in pod_elements(*address, &sides) {
            insert(
                &mut ruleset,
                set,
                vec![KeyValue::Address(*address)],
                Some(verdict),
            );
        }
        classes.extend(lists(&sides).map(|list| (list, Family::of(address))));
    }

    let mut used = BTreeSet::new();
    for (id, family) in classes {
        let list = policy
            .rule_lists
            .get(&id)
            .expect("sides name only lists that exist");
        let class = class::class(id, list, family);
        used.extend(class.sets().map(|set| (set, family)));
        ruleset.chains.extend(class.chains);
        ruleset.sets.extend(class.ranges);
    }
    // In order, set by set: a sorted sequence makes a map much faster than one insertion after another.
    let mut elements: BTreeMap<&str, Vec<(Key, Option<Verdict>)>> = BTreeMap::new();
    for (id, family) in used {
        let elements = elements.entry(id.set_name(family)).or_default();
        elements.extend(id.keys(policy, family).into_iter().map(|key| (key, None)));
    }
    for (name, elements) in elements {
        let set = ruleset
            .sets
            .get_mut(name)
            .expect("the base has every fixed set");
        set.elements = elements.into_iter().collect();
    }
    for name in rooms::sets() {
        if let Some(set) = ruleset.sets.get_mut(name) {
            set.room = Some(rooms.of(name, set.elements.len()));
        }
    }
    ruleset
}

/// A set of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetId {
    /// An address set.
    Addresses(AddressSetId),
    /// A service set.
    Services(ServiceSetId),
}

impl SetId {
    /// The kernel's set that holds its members of a family.
    pub(crate) fn set_name(self, family: Family) -> &'static str {
        match self {
            Self::Addresses(_) => names::members(family),
            Self::Services(_) => names::services(family),
        }
    }

    /// Keys of its members of a family.
    pub(crate) fn keys(self, policy: &NodePolicy, family: Family) -> Vec<Key> {
        match self {
            Self::Addresses(id) => {
                let members = policy.address_sets.get(&id).into_iter().flatten();
                members
                    .filter(|a| Family::of(a) == family)
                    .map(|a| member_key(id, *a))
                    .collect()
            }
            Self::Services(id) => {
                let members = policy.service_sets.get(&id).into_iter().flatten();
                members
                    .filter(|s| Family::of(&s.address) == family)
                    .map(|s| service_key(id, *s))
                    .collect()
            }
        }
    }
}

/// Key of a member of an address set.
pub(crate) fn member_key(id: AddressSetId, address: IpAddr) -> Key {
    vec![KeyValue::Id(id.0), KeyValue::Address(address)]
}

/// Key of a member of a service set.
pub(crate) fn service_key(id: ServiceSetId, service: Service) -> Key {
    let Service {
        address,
        protocol,
        port,
    } = service;
    vec![
        KeyValue::Id(id.0),
        KeyValue::Address(address),
        KeyValue::Protocol(protocol.number()),
        KeyValue::Port(port),
    ]
}

/// The element that lets an address's owner send with it, and be a client: only for a pod that the
/// policy knows.
pub(crate) fn source_key(
    policy: &NodePolicy,
    local: &Local,
    claims: Option<&BTreeSet<PodId>>,
    address: IpAddr,
) -> Option<Key> {
    let pod = sole(claims?).filter(|pod| policy.endpoints.contains_key(pod))?;
    let attachment = local.attachments.get(pod)?;
    Some(vec![
        KeyValue::Link(attachment.link.clone()),
        KeyValue::Address(address),
    ])
}

/// The maps' elements of an address.
pub(crate) fn pod_elements(
    address: IpAddr,
    sides: &Sides,
) -> impl Iterator<Item = (&'static str, Verdict)> + use<> {
    let family = Family::of(&address);
    let class = |direction, id| names::class_chain(direction, family, id, 0);
    let from = match sides.egress {
        Side::Closed => Some(Verdict::Drop),
        Side::Open => None,
        Side::List(id) => Some(Verdict::Jump(class(Direction::Egress, id))),
    };
    let to = match sides.ingress {
        Side::Closed => None,
        Side::Open => Some(Verdict::Goto(names::STAMP.to_owned())),
        Side::List(id) => Some(Verdict::Goto(class(Direction::Ingress, id))),
    };
    let from = from.map(|verdict| (names::from_pod(family), verdict));
    let to = to.map(|verdict| (names::to_pod(family), verdict));
    from.into_iter().chain(to)
}

/// The lists that judge an address.
pub(crate) fn lists(sides: &Sides) -> impl Iterator<Item = RuleListId> + use<> {
    let id = |side| match side {
        Side::List(id) => Some(id),
        Side::Closed | Side::Open => None,
    };
    id(sides.egress).into_iter().chain(id(sides.ingress))
}

fn insert(ruleset: &mut Ruleset, set: &str, key: Key, verdict: Option<Verdict>) {
    let set = ruleset
        .sets
        .get_mut(set)
        .expect("the base has every fixed set");
    set.elements.insert(key, verdict);
}

#[cfg(test)]
mod tests;
