//! What we announce ourselves: own prefixes, aggregates, and what is told with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Speaker;
use crate::export::AGGREGATE;
use crate::rib::SourceId;
use crate::settings::{Announcement, Details};
use crate::wire::community::NO_EXPORT;
use crate::wire::{Aggregator, NextHop, PathAttrs};

/// An own path: its attributes, and its identifier in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origination {
    attrs: PathAttrs,
    id: u32,
}

impl Speaker {
    /// Brings own prefixes in the table in line with the settings.
    pub(super) fn originate(&mut self) {
        let wanted = self.wanted();
        let old = std::mem::take(&mut self.announced);
        for (prefix, origination) in &old {
            if wanted.get(prefix).map(|new| new.id) != Some(origination.id) {
                self.rib.remove(prefix, SourceId::OWN, origination.id);
            }
        }
        for (prefix, origination) in &wanted {
            if old.get(prefix) != Some(origination) {
                let hop = NextHop::from(unspecified(prefix));
                let Origination { attrs, id } = origination;
                self.rib.announce(prefix, *id, attrs, hop);
            }
        }
        self.announced = wanted;
    }

    fn wanted(&self) -> BTreeMap<IpNet, Origination> {
        let settings = &self.settings;
        let mut wanted = BTreeMap::new();
        let inside = |aggregate: &IpNet, prefix: &IpNet| {
            aggregate.contains(prefix) && aggregate.prefix_len() < prefix.prefix_len()
        };
        let own: Vec<IpNet> = settings.announce.iter().map(IpNet::trunc).collect();
        for prefix in &own {
            let announcement = settings.announcements.get(prefix);
            let details = announcement.map(|Announcement { details }| details);
            let mut attrs = attrs(details);
            let suppressed = settings
                .aggregates
                .iter()
                .any(|(aggregate, how)| how.suppress.is_on() && inside(&aggregate.trunc(), prefix));
            if suppressed {
                // Who has the aggregate alone needs it no more. Peers of our AS do: each of them may have the same
                // aggregate, and must know where what is inside really is.
                attrs.communities.push(NO_EXPORT);
            }
            wanted.insert(*prefix, Origination { attrs, id: 0 });
        }
        for (aggregate, how) in &settings.aggregates {
            let aggregate = aggregate.trunc();
            if wanted.contains_key(&aggregate)
                || !own.iter().any(|prefix| inside(&aggregate, prefix))
            {
                continue;
            }
            let mut attrs = attrs(Some(&how.details));
            attrs.aggregator = Some(Aggregator {
                asn: settings.asn,
                address: settings.bgp_id.0,
            });
            let id = AGGREGATE;
            wanted.insert(aggregate, Origination { attrs, id });
        }
        wanted
    }
}

fn attrs(details: Option<&Details>) -> PathAttrs {
    let Some(Details {
        communities,
        large_communities,
        extended_communities,
        med,
        local_pref,
    }) = details
    else {
        return PathAttrs::default();
    };
    PathAttrs {
        communities: communities.iter().copied().collect(),
        large_communities: large_communities.iter().copied().collect(),
        extended_communities: extended_communities.iter().copied().collect(),
        med: *med,
        local_pref: *local_pref,
        ..PathAttrs::default()
    }
}

/// The unspecified address of a prefix' family.
fn unspecified(prefix: &IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
