//! `BGPFilter` objects as rules for the speaker.

use std::collections::{BTreeMap, BTreeSet};

use margay_api::v1::BgpFilter;
use margay_api::v1::bgp::{AsPathPart, Community};
use margay_api::v1::bgpfilter::{
    FilterAction, FilterRule, PrefixMatch, RouteSource, SetAttributes,
};
use margay_api::v1::bgppeer::Family as ApiFamily;
use margay_sync::message::Family;
use margay_sync::message::bgp::{self, Change, Condition, Decision, Rule};

/// Import and export rules of these filters one after the other. A name that no filter has stops every route:
/// nobody means to let through what a missing filter would have kept out.
pub(super) fn rules(
    filters: &BTreeMap<String, BgpFilter>,
    names: &[String],
) -> (Vec<Rule>, Vec<Rule>) {
    let (mut import, mut export) = (Vec::new(), Vec::new());
    for name in names {
        match filters.get(name) {
            Some(filter) => {
                import.extend(filter.spec.import.iter().map(rule));
                export.extend(filter.spec.export.iter().map(rule));
            }
            None => {
                for rules in [&mut import, &mut export] {
                    rules.push(Rule {
                        when: Vec::new(),
                        changes: Vec::new(),
                        then: Some(Decision::Reject),
                    });
                }
            }
        }
    }
    (import, export)
}

fn rule(rule: &FilterRule) -> Rule {
    let FilterRule {
        prefixes,
        not_prefixes,
        family: of,
        source,
        communities,
        as_path,
        next_hops,
        priority,
        med,
        set,
        action,
    } = rule;
    let list = |list: &[PrefixMatch]| list.iter().map(prefix).collect::<Vec<_>>();
    let (standard, large) = split(communities);
    let when = [
        (!prefixes.is_empty()).then(|| Condition::Prefix(list(prefixes))),
        (!not_prefixes.is_empty()).then(|| Condition::NotPrefix(list(not_prefixes))),
        of.map(|of| Condition::Family(family(of))),
        source.map(|source| {
            Condition::Source(match source {
                RouteSource::Own => bgp::RouteSource::Own,
                RouteSource::Aggregate => bgp::RouteSource::Aggregate,
                RouteSource::External => bgp::RouteSource::External,
                RouteSource::Internal => bgp::RouteSource::Internal,
            })
        }),
        (!communities.is_empty()).then(|| {
            Condition::Community(standard.into_iter().collect(), large.into_iter().collect())
        }),
        as_path.as_ref().map(|pattern| {
            let parts = pattern.0.iter().map(|part| match part {
                AsPathPart::Any => None,
                AsPathPart::Range(low, high) => Some((*low, *high)),
            });
            Condition::AsPath(parts.collect())
        }),
        (!next_hops.is_empty()).then(|| Condition::NextHop(next_hops.clone())),
        priority.map(|range| Condition::LocalPref(range.min, range.max)),
        med.map(|range| Condition::Med(range.min, range.max)),
    ];
    Rule {
        when: when.into_iter().flatten().collect(),
        changes: set.as_ref().map(changes).unwrap_or_default(),
        then: match action {
            FilterAction::Accept => Some(Decision::Accept),
            FilterAction::Reject => Some(Decision::Reject),
            FilterAction::Continue => None,
        },
    }
}

fn changes(set: &SetAttributes) -> Vec<Change> {
    let SetAttributes {
        priority,
        med,
        prepend_as,
        next_hop,
        remove_communities,
        add_communities,
    } = set;
    let first = [
        priority.map(Change::LocalPref),
        med.map(Change::Med),
        prepend_as.map(Change::Prepend),
        next_hop.map(Change::NextHop),
    ];
    let removed = remove_communities.iter().map(|community| match community {
        Community::Standard(value) => Change::RemoveCommunity(*value),
        Community::Large(value) => Change::RemoveLarge(*value),
    });
    let added = add_communities.iter().map(|community| match community {
        Community::Standard(value) => Change::AddCommunity(*value),
        Community::Large(value) => Change::AddLarge(*value),
    });
    first
        .into_iter()
        .flatten()
        .chain(removed)
        .chain(added)
        .collect()
}

fn prefix(object: &PrefixMatch) -> bgp::PrefixMatch {
    let (ge, le) = object.lengths();
    bgp::PrefixMatch {
        within: object.cidr,
        ge,
        le,
    }
}

pub(super) fn family(family: ApiFamily) -> Family {
    match family {
        ApiFamily::V4 => Family::V4,
        ApiFamily::V6 => Family::V6,
    }
}

/// Standard communities and large ones.
pub(super) fn split(communities: &[Community]) -> (BTreeSet<u32>, BTreeSet<[u32; 3]>) {
    let (mut standard, mut large) = (BTreeSet::new(), BTreeSet::new());
    for community in communities {
        match community {
            Community::Standard(value) => drop(standard.insert(*value)),
            Community::Large(value) => drop(large.insert(*value)),
        }
    }
    (standard, large)
}
