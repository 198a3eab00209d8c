//! The controller's words in those of the speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use ipnet::IpNet;
use margay_bgp::filter::{
    AsPathPattern, AsToken, Change, Condition, Decision, PrefixMatch, RouteSource, Rule,
};
use margay_bgp::settings::{
    AddPath, Aggregate, Announcement, Details as Attributes, LimitAction, LocalAs, NextHopMode,
    OldAs, OwnAs, PrefixLimit, PrivateAs, Reflection, RestartSettings,
};
use margay_bgp::{Filter, Switch};
use margay_bgpd::{
    Asn, BfdSettings, Dial, Export, Family, HoldTime, Password, PeerSettings, Transport, Ttl,
};
use margay_sync::message::bgp::{self, Bgp, BgpPeer, Details};
use margay_sync::message::{self};

/// A peer's settings. `password` is what could be had of the one that it is to have.
pub(super) fn peer(
    peer: &BgpPeer,
    own: &[IpAddr],
    password: Result<Option<Password>, String>,
) -> (PeerSettings, Transport) {
    let BgpPeer {
        address,
        port,
        asn,
        hold_time,
        node: _,
        details,
    } = peer;
    let Details {
        source,
        interface,
        password: _,
        passive,
        families,
        export,
        next_hop,
        reflector_client,
        distance,
        bfd,
        local_as,
        allow_own_as,
        as_override,
        private_as,
        add_path,
        restart,
        limits,
        import,
        export_rules,
        shutdown,
        graceful_shutdown,
    } = details;
    let (password, unsigned) = match password {
        Ok(password) => (password, None),
        // Without a signature the session would be open to anybody.
        Err(why) => (None, Some(format!("it is to have a password, but {why}"))),
    };
    let mut export_rules: Vec<Rule> = export_rules.iter().map(rule).collect();
    if *export == bgp::Export::Internal {
        // Reflectors pass on what nodes announce; what a router told one node is no business of another's.
        export_rules.insert(0, foreign());
    }
    let settings = PeerSettings {
        port: *port,
        hold_time: HoldTime::from_secs(*hold_time),
        source: source_of(*source, *address, own),
        dial: if *passive {
            Dial::Passive
        } else {
            Dial::Active
        },
        families: of_families(families),
        export: match export {
            bgp::Export::Own => Export::Own,
            bgp::Export::Internal | bgp::Export::All => Export::All,
        },
        import_filter: filter(import.iter().map(rule).collect()),
        export_filter: filter(export_rules),
        shut_down: shutdown.clone().or(unsigned),
        restart: restart_settings(restart),
        add_path: AddPath {
            receive: add_path.receive.into(),
            send: add_path.send,
        },
        reflection: if *reflector_client {
            Reflection::Client
        } else {
            Reflection::Ordinary
        },
        next_hop: next_hop_mode(*next_hop),
        allow_own_as: *allow_own_as,
        local_as: local_as.map(shown_as),
        own_as: if *as_override {
            OwnAs::Override
        } else {
            OwnAs::Keep
        },
        private_as: private(*private_as),
        prefix_limits: prefix_limits(limits),
        graceful_shutdown: Switch::from(*graceful_shutdown),
        ..PeerSettings::new(*address, Asn(*asn))
    };
    let transport = Transport {
        password,
        // A BGPPeer has no word for it.
        ao: None,
        ttl: ttl(*distance),
        interface: interface.clone(),
        bfd: bfd.and_then(watched),
    };
    (settings, transport)
}

fn next_hop_mode(next_hop: bgp::NextHop) -> NextHopMode {
    match next_hop {
        bgp::NextHop::Auto => NextHopMode::Auto,
        bgp::NextHop::Own => NextHopMode::Own,
        bgp::NextHop::Keep => NextHopMode::Unchanged,
    }
}

fn shown_as(bgp::LocalAs { asn, hide_real }: bgp::LocalAs) -> LocalAs {
    LocalAs {
        asn: Asn(asn),
        real: if hide_real {
            OldAs::Hidden
        } else {
            OldAs::Shown
        },
    }
}

fn private(private_as: bgp::PrivateAs) -> PrivateAs {
    match private_as {
        bgp::PrivateAs::Keep => PrivateAs::Keep,
        bgp::PrivateAs::Remove => PrivateAs::Remove,
        bgp::PrivateAs::Replace => PrivateAs::Replace,
    }
}

fn ttl(distance: bgp::Distance) -> Ttl {
    match distance {
        bgp::Distance::Any => Ttl::Any,
        bgp::Distance::Hops(hops) => NonZeroU8::new(hops).map_or(Ttl::Any, Ttl::Hops),
        bgp::Distance::Security(hops) => NonZeroU8::new(hops).map_or(Ttl::Any, Ttl::Security),
    }
}

fn watched(
    bgp::Bfd {
        interval,
        multiplier,
    }: bgp::Bfd,
) -> Option<BfdSettings> {
    Some(BfdSettings {
        interval: Duration::from_millis(interval.into()),
        multiplier: NonZeroU8::new(multiplier)?,
    })
}

/// The peer knows us by the address that is in our Node object, so dial from that. An address of a link is reached
/// from the one that we have there.
fn source_of(source: bgp::Source, peer: IpAddr, own: &[IpAddr]) -> Option<IpAddr> {
    let link_local =
        matches!(peer, IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_unspecified());
    match source {
        bgp::Source::Node if !link_local => own
            .iter()
            .find(|own| own.is_ipv4() == peer.is_ipv4())
            .copied(),
        bgp::Source::Node | bgp::Source::Any => None,
    }
}

fn restart_settings(restart: &bgp::Restart) -> RestartSettings {
    let bgp::Restart {
        enabled,
        time,
        notification,
        long_lived,
    } = restart;
    RestartSettings {
        graceful: Switch::from(*enabled),
        time: *time,
        notification: Switch::from(*notification),
        long_lived: long_lived.map(|seconds| Duration::from_secs(seconds.into())),
    }
}

fn prefix_limits(limits: &BTreeMap<message::Family, bgp::Limit>) -> BTreeMap<Family, PrefixLimit> {
    let limits = limits.iter().map(|(family, limit)| {
        let bgp::Limit {
            max,
            warn_percent,
            action,
        } = limit;
        let action = match action {
            bgp::LimitAction::Warn => LimitAction::Warn,
            bgp::LimitAction::Block => LimitAction::Block,
            bgp::LimitAction::TearDown(restart) => LimitAction::TearDown {
                restart: restart.map(|seconds| Duration::from_secs(seconds.into())),
            },
        };
        (
            of_family(*family),
            PrefixLimit {
                max: *max,
                warn_percent: *warn_percent,
                action,
            },
        )
    });
    limits.collect()
}

fn of_families(families: &BTreeSet<message::Family>) -> BTreeSet<Family> {
    if families.is_empty() {
        return Family::ALL.into();
    }
    families.iter().copied().map(of_family).collect()
}

fn of_family(family: message::Family) -> Family {
    match family {
        message::Family::V4 => Family::Ipv4,
        message::Family::V6 => Family::Ipv6,
    }
}

fn filter(rules: Vec<Rule>) -> Option<Filter> {
    (!rules.is_empty()).then_some(Filter {
        rules,
        default: Decision::Accept,
    })
}

/// Rejects what peers of another AS told us.
fn foreign() -> Rule {
    Rule {
        when: vec![Condition::Source(RouteSource::External)],
        changes: Vec::new(),
        then: Some(Decision::Reject),
    }
}

fn rule(rule: &bgp::Rule) -> Rule {
    let bgp::Rule {
        when,
        changes,
        then,
    } = rule;
    Rule {
        when: when.iter().map(condition).collect(),
        changes: changes.iter().map(change).collect(),
        then: then.map(|decision| match decision {
            bgp::Decision::Accept => Decision::Accept,
            bgp::Decision::Reject => Decision::Reject,
        }),
    }
}

fn condition(condition: &bgp::Condition) -> Condition {
    let prefixes = |list: &[bgp::PrefixMatch]| {
        let list = list.iter().map(|one| PrefixMatch {
            within: one.within,
            ge: one.ge,
            le: one.le,
        });
        Condition::Prefix(list.collect())
    };
    match condition {
        bgp::Condition::Prefix(list) => prefixes(list),
        bgp::Condition::NotPrefix(list) => Condition::Not(Box::new(prefixes(list))),
        bgp::Condition::Family(family) => Condition::Family(of_family(*family)),
        bgp::Condition::Source(source) => Condition::Source(match source {
            bgp::RouteSource::Own => RouteSource::Own,
            bgp::RouteSource::Aggregate => RouteSource::Aggregate,
            bgp::RouteSource::External => RouteSource::External,
            bgp::RouteSource::Internal => RouteSource::Internal,
        }),
        bgp::Condition::Community(standard, large) => communities(standard, large),
        bgp::Condition::AsPath(parts) => Condition::AsPath(AsPathPattern(
            parts
                .iter()
                .map(|part| match part {
                    None => AsToken::Any,
                    Some((low, high)) => AsToken::Range(Asn(*low), Asn(*high)),
                })
                .collect(),
        )),
        bgp::Condition::NextHop(prefixes) => Condition::NextHop(prefixes.clone()),
        bgp::Condition::LocalPref(least, most) => Condition::LocalPref(*least..=*most),
        bgp::Condition::Med(least, most) => Condition::Med(*least..=*most),
    }
}

/// One of either kind: the speaker has a condition for each, and all conditions of a rule must hold.
fn communities(standard: &[u32], large: &[[u32; 3]]) -> Condition {
    let standard = Condition::Community(standard.to_vec());
    let large = Condition::LargeCommunity(large.to_vec());
    match (&standard, &large) {
        (_, Condition::LargeCommunity(none)) if none.is_empty() => standard,
        (Condition::Community(none), _) if none.is_empty() => large,
        _ => Condition::AnyOf(vec![standard, large]),
    }
}

fn change(change: &bgp::Change) -> Change {
    match change {
        bgp::Change::LocalPref(value) => Change::LocalPref(*value),
        bgp::Change::Med(value) => Change::Med(Some(*value)),
        bgp::Change::Prepend(times) => Change::Prepend {
            asn: None,
            times: *times,
        },
        bgp::Change::NextHop(address) => Change::NextHop(*address),
        bgp::Change::RemoveCommunity(value) => Change::RemoveCommunities {
            value: *value,
            mask: u32::MAX,
        },
        bgp::Change::RemoveLarge(value) => Change::RemoveLargeCommunity(*value),
        bgp::Change::AddCommunity(value) => Change::AddCommunity(*value),
        bgp::Change::AddLarge(value) => Change::AddLargeCommunity(*value),
    }
}

/// What own prefixes are announced with, where that is something.
pub(super) fn announcements(
    announced: &BTreeSet<IpNet>,
    bgp: &Bgp,
) -> BTreeMap<IpNet, Announcement> {
    let mut announcements: BTreeMap<IpNet, Announcement> = BTreeMap::new();
    for prefix in announced {
        for bgp::Communities {
            within: _,
            standard,
            large,
        } in bgp.communities.iter().filter(|c| c.within.contains(prefix))
        {
            let details = &mut announcements.entry(*prefix).or_default().details;
            details.communities.extend(standard);
            details.large_communities.extend(large);
        }
    }
    announcements
}

/// The aggregates.
pub(super) fn aggregates(bgp: &Bgp) -> BTreeMap<IpNet, Aggregate> {
    let aggregates = bgp.aggregates.iter().map(|(prefix, aggregate)| {
        let bgp::Aggregate {
            suppress,
            standard,
            large,
        } = aggregate;
        let details = Attributes {
            communities: standard.clone(),
            large_communities: large.clone(),
            ..Attributes::default()
        };
        (
            *prefix,
            Aggregate {
                suppress: Switch::from(*suppress),
                details,
            },
        )
    });
    aggregates.collect()
}

#[cfg(test)]
mod tests;
