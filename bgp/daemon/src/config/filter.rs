//! Filters of the file.

use std::net::IpAddr;

use ipnet::IpNet;
use margay_bgp::Filter;
use margay_bgp::filter::{AsPathPattern, Change, Condition, Decision, RouteSource, Rule};
use margay_bgp::wire::Origin;
use serde::Deserialize;
use toml::Spanned;

use super::Wrong;
use super::fields::{
    AsnField, CommunityField, ExtendedCommunityField, LargeCommunityField, PrefixField, Text,
};
use crate::Family;

/// A `[filters.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterTable {
    #[serde(default)]
    rules: Vec<RuleTable>,
    default: DecisionField,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DecisionField {
    Accept,
    Reject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleTable {
    #[serde(default)]
    when: WhenTable,
    /// What must not hold.
    #[serde(default)]
    unless: WhenTable,
    #[serde(default)]
    set: SetTable,
    then: Option<DecisionField>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WhenTable {
    prefixes: Option<Vec<PrefixField>>,
    family: Option<Family>,
    communities: Option<Vec<CommunityField>>,
    large_communities: Option<Vec<LargeCommunityField>>,
    extended_communities: Option<Vec<ExtendedCommunityField>>,
    as_path: Option<Spanned<String>>,
    as_path_length: Option<[u32; 2]>,
    next_hops: Option<Vec<Text<IpNet>>>,
    source: Option<SourceField>,
    peer: Option<String>,
    local_pref: Option<[u32; 2]>,
    med: Option<[u32; 2]>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SourceField {
    Own,
    Aggregate,
    Ebgp,
    Ibgp,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SetTable {
    local_pref: Option<u32>,
    med: Option<u32>,
    #[serde(default)]
    remove_med: bool,
    origin: Option<OriginField>,
    next_hop: Option<Text<IpAddr>>,
    prepend: Option<Spanned<u8>>,
    prepend_asn: Option<AsnField>,
    #[serde(default)]
    remove_all_communities: bool,
    #[serde(default)]
    remove_communities: Vec<CommunityField>,
    #[serde(default)]
    add_communities: Vec<CommunityField>,
    #[serde(default)]
    remove_large_communities: Vec<LargeCommunityField>,
    #[serde(default)]
    add_large_communities: Vec<LargeCommunityField>,
    #[serde(default)]
    remove_extended_communities: Vec<ExtendedCommunityField>,
    #[serde(default)]
    add_extended_communities: Vec<ExtendedCommunityField>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OriginField {
    Igp,
    Egp,
    Incomplete,
}

impl DecisionField {
    fn read(self) -> Decision {
        match self {
            Self::Accept => Decision::Accept,
            Self::Reject => Decision::Reject,
        }
    }
}

impl FilterTable {
    pub(super) fn read(self) -> Result<Filter, Wrong> {
        let rules = self.rules.into_iter().map(RuleTable::read);
        Ok(Filter {
            rules: rules.collect::<Result<_, _>>()?,
            default: self.default.read(),
        })
    }
}

impl RuleTable {
    fn read(self) -> Result<Rule, Wrong> {
        let unless = self.unless.read()?;
        let not = unless
            .into_iter()
            .map(|condition| Condition::Not(Box::new(condition)));
        Ok(Rule {
            when: self.when.read()?.into_iter().chain(not).collect(),
            changes: self.set.read()?,
            then: self.then.map(DecisionField::read),
        })
    }
}

impl WhenTable {
    fn read(self) -> Result<Vec<Condition>, Wrong> {
        let Self {
            prefixes,
            family,
            communities,
            large_communities,
            extended_communities,
            as_path,
            as_path_length,
            next_hops,
            source,
            peer,
            local_pref,
            med,
        } = self;
        let as_path = match as_path {
            None => None,
            Some(text) => Some(
                text.get_ref()
                    .parse::<AsPathPattern>()
                    .map_err(|error| Wrong::new(text.span().start, error.to_string()))?,
            ),
        };
        let range = |[low, high]: [u32; 2]| low..=high;
        let source = source.map(|source| match source {
            SourceField::Own => RouteSource::Own,
            SourceField::Aggregate => RouteSource::Aggregate,
            SourceField::Ebgp => RouteSource::External,
            SourceField::Ibgp => RouteSource::Internal,
        });
        let conditions = [
            prefixes.map(|all| Condition::Prefix(all.into_iter().map(|field| field.0).collect())),
            family.map(Condition::Family),
            communities
                .map(|all| Condition::Community(all.into_iter().map(|field| field.0).collect())),
            large_communities.map(|all| {
                Condition::LargeCommunity(all.into_iter().map(|field| field.0).collect())
            }),
            extended_communities.map(|all| {
                Condition::ExtendedCommunity(all.into_iter().map(|field| field.0).collect())
            }),
            as_path.map(Condition::AsPath),
            as_path_length.map(range).map(Condition::AsPathLength),
            next_hops.map(|within| {
                Condition::NextHop(within.into_iter().map(|prefix| prefix.0).collect())
            }),
            source.map(Condition::Source),
            peer.map(|name| Condition::Source(RouteSource::Peer(name.into()))),
            local_pref.map(range).map(Condition::LocalPref),
            med.map(range).map(Condition::Med),
        ];
        Ok(conditions.into_iter().flatten().collect())
    }
}

impl SetTable {
    fn read(self) -> Result<Vec<Change>, Wrong> {
        let Self {
            local_pref,
            med,
            remove_med,
            origin,
            next_hop,
            prepend,
            prepend_asn,
            remove_all_communities,
            remove_communities,
            add_communities,
            remove_large_communities,
            add_large_communities,
            remove_extended_communities,
            add_extended_communities,
        } = self;
        if let Some(times) = &prepend
            && !(1..=25).contains(times.get_ref())
        {
            let reason = "1 to 25 times is allowed";
            return Err(Wrong::new(times.span().start, reason));
        }
        let origin = origin.map(|origin| match origin {
            OriginField::Igp => Origin::Igp,
            OriginField::Egp => Origin::Egp,
            OriginField::Incomplete => Origin::Incomplete,
        });
        let exactly = |value| Change::RemoveCommunities {
            value,
            mask: u32::MAX,
        };
        let first = [
            local_pref.map(Change::LocalPref),
            remove_med.then_some(Change::Med(None)),
            med.map(|med| Change::Med(Some(med))),
            origin.map(Change::Origin),
            next_hop.map(|address| Change::NextHop(address.0)),
            prepend.map(|times| Change::Prepend {
                asn: prepend_asn.map(|field| field.0),
                times: times.into_inner(),
            }),
            remove_all_communities.then_some(Change::RemoveCommunities { value: 0, mask: 0 }),
        ];
        let changes = first.into_iter().flatten();
        Ok(changes
            .chain(remove_communities.into_iter().map(|field| exactly(field.0)))
            .chain(
                add_communities
                    .into_iter()
                    .map(|field| Change::AddCommunity(field.0)),
            )
            .chain(
                remove_large_communities
                    .into_iter()
                    .map(|field| Change::RemoveLargeCommunity(field.0)),
            )
            .chain(
                add_large_communities
                    .into_iter()
                    .map(|field| Change::AddLargeCommunity(field.0)),
            )
            .chain(
                remove_extended_communities
                    .into_iter()
                    .map(|field| Change::RemoveExtendedCommunity(field.0)),
            )
            .chain(
                add_extended_communities
                    .into_iter()
                    .map(|field| Change::AddExtendedCommunity(field.0)),
            )
            .collect())
    }
}
