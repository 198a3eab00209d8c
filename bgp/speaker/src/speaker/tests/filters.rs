//! What conditions of filters hold for, and what changes do.

use super::*;
use crate::filter::{
    AsPathPattern, Change, Condition, Decision, Filter, PrefixMatch, RouteSource, Rule,
};
use crate::settings::{Announcement, Details};
use crate::wire::{NextHop, Origin, PathAttrs};

const ROUTE: &str = "203.0.1.0/24";
const COMMUNITIES: [u32; 2] = [0xfdea_0001, 0xfdea_0002];
const LARGE: [u32; 3] = [65002, 1, 2];
const EXTENDED: [u8; 8] = [0, 2, 0xfd, 0xea, 0, 0, 0, 1];

/// What 65001 has of the route that 65002 announces, behind an import filter of these rules and this last word.
fn imported(rules: Vec<Rule>, default: Decision) -> Option<PathView> {
    let mut net = Net::new(5);
    net.add_router(65001);
    net.add_router(65002);
    net.peer(0, 1);
    net.change(1, |settings| {
        let details = Details {
            communities: COMMUNITIES.into(),
            large_communities: [LARGE].into(),
            extended_communities: [EXTENDED].into(),
            med: Some(5),
            local_pref: None,
        };
        let announcement = Announcement { details };
        let announcements = &mut settings.announcements;
        announcements.insert(ROUTE.parse().unwrap(), announcement);
    });
    net.set(0, 1, |peer| {
        peer.import_filter = Some(Filter { rules, default });
    });
    net.run_for(seconds(2));
    net.best(0, ROUTE)
}

fn rule(when: Vec<Condition>, changes: Vec<Change>, then: Option<Decision>) -> Rule {
    Rule {
        when,
        changes,
        then,
    }
}

#[test]
fn each_condition_holds_for_what_it_says_and_for_nothing_else() {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let longer = PrefixMatch {
        ge: 25,
        ..PrefixMatch::or_longer(net("203.0.0.0/16"))
    };
    let path = |text: &str| Condition::AsPath(text.parse::<AsPathPattern>().unwrap());
    let yes = || Condition::Family(Family::Ipv4);
    let no = || Condition::Family(Family::Ipv6);
    let exact = |text| PrefixMatch::exact(net(text));
    for (condition, expected) in [
        (yes(), true),
        (no(), false),
        (
            Condition::Prefix(vec![exact("203.0.9.0/24"), exact(ROUTE)]),
            true,
        ),
        (Condition::Prefix(vec![longer]), false),
        (Condition::Prefix(vec![]), false),
        (Condition::Community(vec![7, COMMUNITIES[1]]), true),
        (Condition::Community(vec![7]), false),
        (Condition::LargeCommunity(vec![LARGE]), true),
        (Condition::LargeCommunity(vec![[65002, 2, 1]]), false),
        (Condition::ExtendedCommunity(vec![EXTENDED]), true),
        (Condition::ExtendedCommunity(vec![[0; 8]]), false),
        (path("65002"), true),
        (path("65001 *"), false),
        (Condition::AsPathLength(1..=1), true),
        (Condition::AsPathLength(2..=9), false),
        (Condition::NextHop(vec![net("192.0.2.0/24")]), true),
        (Condition::NextHop(vec![net("198.51.100.0/24")]), false),
        (Condition::Source(RouteSource::External), true),
        (Condition::Source(RouteSource::Internal), false),
        (Condition::Source(RouteSource::Own), false),
        (Condition::Source(RouteSource::Aggregate), false),
        (Condition::Source(RouteSource::Peer("n1".into())), true),
        (Condition::Source(RouteSource::Peer("n2".into())), false),
        (Condition::LocalPref(100..=100), true),
        (Condition::LocalPref(0..=99), false),
        (Condition::Med(5..=5), true),
        (Condition::Med(0..=4), false),
        (Condition::AnyOf(vec![no(), yes()]), true),
        (Condition::AnyOf(vec![]), false),
        (Condition::Not(Box::new(no())), true),
        (Condition::Not(Box::new(yes())), false),
    ] {
        let text = format!("{condition:?}");
        let rules = vec![rule(vec![yes(), condition], vec![], Some(Decision::Accept))];
        let found = imported(rules, Decision::Reject).is_some();
        assert_eq!(found, expected, "{text}");
    }
    let always = vec![rule(vec![], vec![], Some(Decision::Accept))];
    assert!(imported(always, Decision::Reject).is_some());
}

#[test]
fn each_change_does_what_it_says_and_nothing_else() {
    type Expected = fn(&mut PathAttrs);
    let before = imported(vec![], Decision::Accept).unwrap();
    let cases: [(Change, Expected); 14] = [
        (Change::LocalPref(7), |attrs| attrs.local_pref = Some(7)),
        (Change::Med(Some(9)), |attrs| attrs.med = Some(9)),
        (Change::Med(None), |attrs| attrs.med = None),
        (Change::Origin(Origin::Incomplete), |attrs| {
            attrs.origin = Origin::Incomplete;
        }),
        (
            Change::Prepend {
                asn: None,
                times: 2,
            },
            |attrs| {
                attrs.as_path.0[0].asns = [65001, 65001, 65002].map(Asn).into();
            },
        ),
        (
            Change::Prepend {
                asn: Some(Asn(64999)),
                times: 1,
            },
            |attrs| {
                attrs.as_path.0[0].asns = [64999, 65002].map(Asn).into();
            },
        ),
        (Change::AddCommunity(7), |attrs| attrs.communities.push(7)),
        (Change::AddCommunity(COMMUNITIES[0]), |_| {}),
        (
            Change::RemoveCommunities {
                value: COMMUNITIES[0],
                mask: u32::MAX,
            },
            |attrs| {
                attrs.communities = vec![COMMUNITIES[1]];
            },
        ),
        (
            Change::RemoveCommunities {
                value: 0xfdea_ffff,
                mask: 0xffff_0000,
            },
            |attrs| {
                attrs.communities.clear();
            },
        ),
        (Change::AddLargeCommunity([1, 2, 3]), |attrs| {
            attrs.large_communities.push([1, 2, 3]);
        }),
        (Change::RemoveLargeCommunity(LARGE), |attrs| {
            attrs.large_communities.clear();
        }),
        (Change::AddExtendedCommunity([9; 8]), |attrs| {
            attrs.extended_communities.push([9; 8]);
        }),
        (Change::RemoveExtendedCommunity(EXTENDED), |attrs| {
            attrs.extended_communities.clear();
        }),
    ];
    for (change, expected) in cases {
        let text = format!("{change:?}");
        let after = imported(vec![rule(vec![], vec![change], None)], Decision::Accept).unwrap();
        let mut attrs = before.attrs.clone();
        expected(&mut attrs);
        assert_eq!(after.attrs, attrs, "{text}");
        assert_eq!(after.next_hop, before.next_hop, "{text}");
    }
    let elsewhere = Change::NextHop(address("192.0.2.77"));
    let after = imported(vec![rule(vec![], vec![elsewhere], None)], Decision::Accept).unwrap();
    assert_eq!(after.next_hop, NextHop::V4([192, 0, 2, 77].into()));
    assert_eq!(after.attrs, before.attrs);
}

#[test]
fn rules_go_on_until_one_decides_and_see_the_route_as_it_came() {
    let changed = Condition::Community(vec![7]);
    let rules = vec![
        rule(
            vec![],
            vec![Change::AddCommunity(7), Change::LocalPref(7)],
            None,
        ),
        // Not as an earlier rule made it.
        rule(vec![changed], vec![], Some(Decision::Reject)),
        rule(vec![], vec![Change::Med(Some(1))], Some(Decision::Accept)),
        rule(vec![], vec![Change::LocalPref(8)], Some(Decision::Reject)),
    ];
    let attrs = imported(rules, Decision::Reject).unwrap().attrs;
    assert_eq!((attrs.local_pref, attrs.med), (Some(7), Some(1)));
    assert_eq!(attrs.communities, [COMMUNITIES[0], COMMUNITIES[1], 7]);
    let undecided = || vec![rule(vec![], vec![Change::LocalPref(7)], None)];
    assert!(imported(undecided(), Decision::Reject).is_none());
    assert!(imported(undecided(), Decision::Accept).is_some());
}
