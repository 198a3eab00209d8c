//! What a change of policy may have forbidden.
//!
//! Every connection that the old policy permits and the new one forbids must have a touched address
//! at one end; the rest of this page says why that holds. Touching too much is always correct.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_policy::model::{Direction, Protocol};
use margay_policy::node_policy::{NodePolicy, RuleList, RuleListId, Service};

use crate::epochs::Touched;
use crate::local::{Local, Side, Sides, address_sides, owners};
use crate::lower::class::{class, only_allows};
use crate::lower::{SetId, source_key};
use crate::ruleset::{Family, Key};

/// Compares two states of a node.
///
/// A connection is permitted if its client's side and its server's side both permit it, each judged
/// by what that address is on this node: no pod of ours, closed, open, or under a list. So it is
/// enough to look at each address and direction alone:
/// - **the same as before, not a list**: permits the same;
/// - **open now**: permits everything on this side;
/// - **under a list before and now**, equal lists, or both with one tier and nothing but allow rules,
///   the new one with all rules of the old: what the new one forbids and the old one permitted is
///   due to a set that lost (or, with deny or pass rules, gained) the other end. That address is touched;
/// - **everything else** (isolated now, another list, closed, a pod that came or went): the address
///   itself is touched. That a pod came or went counts because packets of its connections may have
///   been forwarded while the address was nobody's here. So is an address that its pod may no longer
///   send with on the link where it might.
///
/// Masquerading decides no verdict.
pub fn touched(old: (&NodePolicy, &Local), new: (&NodePolicy, &Local)) -> Touched {
    let old_owners = owners(&old.1.attachments);
    let new_owners = owners(&new.1.attachments);
    let mut touch = Touch::default();
    let mut staying = BTreeSet::new();
    for address in old_owners
        .keys()
        .chain(new_owners.keys())
        .copied()
        .collect::<BTreeSet<IpAddr>>()
    {
        let claims = (old_owners.get(&address), new_owners.get(&address));
        let before = address_sides(old.0, claims.0);
        let after = address_sides(new.0, claims.1);
        touch.source(
            address,
            source_key(old.0, old.1, claims.0, address).as_ref(),
            source_key(new.0, new.1, claims.1, address).as_ref(),
        );
        for list in touch.address(
            address,
            (before, after),
            |id| old.0.rule_lists.get(&id),
            |id| new.0.rule_lists.get(&id),
        ) {
            staying.insert((list, Family::of(&address)));
        }
    }
    let mut changes = BTreeMap::new();
    for (id, family) in staying {
        let list = &old.0.rule_lists[&id];
        for set in class(id, list, family).sets() {
            let change = changes
                .entry(set)
                .or_insert_with(|| SetChange::between(set, old.0, new.0));
            touch.set(change, only_allows(list), family);
        }
    }
    touch.done()
}

/// Collects what is touched.
#[derive(Debug, Default)]
pub(crate) struct Touch {
    addresses: BTreeSet<IpAddr>,
}

impl Touch {
    /// One address; gives the old lists that stay in force for it, so that their sets matter.
    pub(crate) fn address<'a>(
        &mut self,
        address: IpAddr,
        (before, after): (Option<Sides>, Option<Sides>),
        old_list: impl Fn(RuleListId) -> Option<&'a RuleList>,
        new_list: impl Fn(RuleListId) -> Option<&'a RuleList>,
    ) -> Vec<RuleListId> {
        let mut staying = Vec::new();
        for direction in [Direction::Egress, Direction::Ingress] {
            let side = |sides: Option<Sides>| sides.map(|sides| sides.side(direction));
            match (side(before), side(after)) {
                (_, Some(Side::Open)) | (None, None) | (Some(Side::Closed), Some(Side::Closed)) => {
                }
                (Some(Side::List(old)), Some(Side::List(new)))
                    if permits_as_much(old_list(old), new_list(new)) =>
                {
                    staying.push(old);
                }
                (_, Some(Side::Closed | Side::List(_)) | None) => {
                    self.addresses.insert(address);
                }
            }
        }
        staying
    }

    /// The element by which a client is known to be on its link.
    pub(crate) fn source(&mut self, address: IpAddr, before: Option<&Key>, after: Option<&Key>) {
        if before.is_some() && before != after {
            self.addresses.insert(address);
        }
    }

    /// A set changed that a list in force looks into.
    pub(crate) fn set(&mut self, change: &SetChange, only_allows: bool, family: Family) {
        let SetChange { added, removed } = change;
        let of_family = |address: &IpAddr| Family::of(address) == family;
        self.addresses
            .extend(removed.iter().map(|member| member.0).filter(of_family));
        if !only_allows {
            self.addresses
                .extend(added.iter().map(|member| member.0).filter(of_family));
        }
    }

    pub(crate) fn done(self) -> Touched {
        if self.addresses.is_empty() {
            Touched::Nothing
        } else {
            Touched::Addresses(self.addresses)
        }
    }
}

/// Members that a set gained and lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetChange {
    added: BTreeSet<Member>,
    removed: BTreeSet<Member>,
}

/// An address; in a service set with protocol and port.
type Member = (IpAddr, Option<(Protocol, u16)>);

/// The member that a service is.
pub(crate) fn service_member(service: &Service) -> Member {
    (service.address, Some((service.protocol, service.port)))
}

/// Whether a member came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Gained,
    Lost,
}

impl SetChange {
    /// One more change, after those before.
    pub(crate) fn one(&mut self, member: Member, kind: Membership) {
        let (to, from) = match kind {
            Membership::Gained => (&mut self.added, &mut self.removed),
            Membership::Lost => (&mut self.removed, &mut self.added),
        };
        if !from.remove(&member) {
            to.insert(member);
        }
    }

    fn between(set: SetId, old: &NodePolicy, new: &NodePolicy) -> Self {
        match set {
            SetId::Addresses(id) => {
                let none = BTreeSet::new();
                let old = old.address_sets.get(&id).unwrap_or(&none);
                let new = new.address_sets.get(&id).unwrap_or(&none);
                Self {
                    added: new
                        .difference(old)
                        .map(|address| (*address, None))
                        .collect(),
                    removed: old
                        .difference(new)
                        .map(|address| (*address, None))
                        .collect(),
                }
            }
            SetId::Services(id) => {
                let none = BTreeSet::new();
                let old = old.service_sets.get(&id).unwrap_or(&none);
                let new = new.service_sets.get(&id).unwrap_or(&none);
                Self {
                    added: new.difference(old).map(service_member).collect(),
                    removed: old.difference(new).map(service_member).collect(),
                }
            }
        }
    }
}

/// Whether `new` permits whatever `old` permits, as far as that can be told without the sets.
fn permits_as_much(old: Option<&RuleList>, new: Option<&RuleList>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return false;
    };
    if old == new {
        return true;
    }
    let ([old_tier], [new_tier]) = (old.tiers.as_slice(), new.tiers.as_slice()) else {
        return false;
    };
    only_allows(old)
        && only_allows(new)
        && old_tier.end == new_tier.end
        && old_tier
            .rules
            .iter()
            .all(|old| new_tier.rules.iter().any(|new| old.matches == new.matches))
}

#[cfg(test)]
mod tests;
