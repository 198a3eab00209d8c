//! Filters and the policies of their own: RFC 8212, 8326, 7705, and what people do to `AS_PATH`.

use super::*;
use crate::filter::{Change, Condition, Decision, Filter, PrefixMatch, RouteSource, Rule};
use crate::settings::{
    Announcement, Details, LocalAs, NextHopMode, OldAs, OwnAs, PrivateAs, Switch,
};
use crate::wire::NextHop;

/// Routers of these AS numbers in a row, each passing everything on; node `i` announces 203.0.i.0/24.
fn row(asns: &[u32]) -> Net {
    let mut net = Net::new(5);
    for asn in asns {
        net.add_router(*asn);
    }
    for node in 1..asns.len() {
        net.peer(node - 1, node);
    }
    for node in 0..asns.len() {
        net.transit(node);
    }
    net
}

fn rule(when: Vec<Condition>, changes: Vec<Change>, then: Option<Decision>) -> Rule {
    Rule {
        when,
        changes,
        then,
    }
}

fn filter(rules: Vec<Rule>, default: Decision) -> Filter {
    Filter { rules, default }
}

fn path_of(net: &Net, node: usize, prefix: &str) -> Vec<u32> {
    let best = net.best(node, prefix).expect("a path");
    let segments = best.attrs.as_path.0.into_iter();
    segments.flat_map(|s| s.asns).map(|asn| asn.0).collect()
}

/// RFC 2918 §1: a new import policy needs no new session.
#[test]
fn an_import_filter_rejects_and_changes_and_a_new_one_takes_effect_by_route_refresh() {
    let mut net = row(&[65001, 65002]);
    net.change(1, |settings| {
        settings.announce = prefixes(&["203.0.1.0/24", "198.51.100.0/24"]);
    });
    let only = |prefix: &str| {
        let prefix = PrefixMatch::exact(prefix.parse().unwrap());
        filter(
            vec![rule(
                vec![Condition::Prefix(vec![prefix])],
                vec![Change::LocalPref(250), Change::AddCommunity(0xfde8_0007)],
                Some(Decision::Accept),
            )],
            Decision::Reject,
        )
    };
    net.set(0, 1, |peer| peer.import_filter = Some(only("203.0.1.0/24")));
    net.run_for(seconds(2));
    let resets = net.resets(0);
    let best = net.best(0, "203.0.1.0/24").unwrap();
    assert_eq!(best.attrs.local_pref, Some(250));
    assert_eq!(best.attrs.communities, [0xfde8_0007]);
    assert_eq!(next_hops(&net, 0, "198.51.100.0/24"), hops(&[]));
    assert!(net.status(0)["n1"].notes[0].contains("the import filter rejects it"));
    net.set(0, 1, |peer| {
        peer.import_filter = Some(only("198.51.100.0/24"));
    });
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "203.0.1.0/24"), hops(&[]));
    assert_eq!(next_hops(&net, 0, "198.51.100.0/24"), hops(&["192.0.2.2"]));
    net.set(0, 1, |peer| peer.import_filter = None);
    net.run_for(seconds(1));
    assert_eq!(net.best(0, "203.0.1.0/24").unwrap().attrs.local_pref, None);
    assert_eq!(net.resets(0), resets);
    assert_eq!(net.status(0)["n1"].received, 2);
}

#[test]
fn routes_kept_as_received_go_through_a_new_filter_without_asking_for_them() {
    let mut net = row(&[65001, 65002]);
    net.set(0, 1, |peer| {
        peer.keep_received = Switch::On;
        peer.import_filter = Some(Filter::reject_all());
    });
    net.run_for(seconds(2));
    let resets = net.resets(0);
    assert_eq!(net.status(0)["n1"].received, 0);
    assert_eq!(net.speaker(0).kept("n1").len(), 1);
    let told = net.updates(1);
    net.set(0, 1, |peer| peer.import_filter = Some(Filter::accept_all()));
    assert_eq!(next_hops(&net, 0, "203.0.1.0/24"), hops(&["192.0.2.2"]));
    net.set(0, 1, |peer| peer.import_filter = Some(Filter::reject_all()));
    assert_eq!(next_hops(&net, 0, "203.0.1.0/24"), hops(&[]));
    net.run_for(seconds(1));
    assert_eq!(net.updates(1), told, "nothing was sent again");
    assert_eq!((net.resets(0), net.status(0)["n1"].received), (resets, 0));
}

#[test]
fn an_export_filter_decides_what_a_peer_is_told_and_with_what() {
    let mut net = row(&[65001, 65002]);
    let own = rule(
        vec![Condition::Source(RouteSource::Own)],
        vec![
            Change::Prepend {
                asn: None,
                times: 2,
            },
            Change::Med(Some(7)),
            Change::AddLargeCommunity([65002, 1, 2]),
        ],
        Some(Decision::Accept),
    );
    net.set(1, 0, |peer| {
        peer.export_filter = Some(filter(vec![own], Decision::Reject));
    });
    net.run_for(seconds(2));
    let resets = net.resets(0);
    assert_eq!(path_of(&net, 0, "203.0.1.0/24"), [65002, 65002, 65002]);
    let attrs = net.best(0, "203.0.1.0/24").unwrap().attrs;
    assert_eq!(
        (attrs.med, attrs.large_communities),
        (Some(7), vec![[65002, 1, 2]])
    );
    assert_eq!(net.speaker(1).advertised("n0").len(), 1);
    net.set(1, 0, |peer| peer.export_filter = Some(Filter::reject_all()));
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "203.0.1.0/24"), hops(&[]));
    assert_eq!(net.status(1)["n0"].announced, 0);
    net.set(1, 0, |peer| peer.export_filter = None);
    net.run_for(seconds(1));
    assert_eq!(path_of(&net, 0, "203.0.1.0/24"), [65002]);
    assert_eq!(net.resets(0), resets);
}

/// RFC 1997: well-known communities say how far a route goes. `NO_EXPORT_SUBCONFED` is as `NO_EXPORT` where there is no
/// confederation.
#[test]
fn well_known_communities_are_obeyed() {
    for (community, outside, inside) in [
        (None, true, true),
        (Some(0xffff_ff01), false, true),
        (Some(0xffff_ff02), false, false),
        (Some(0xffff_ff03), false, true),
    ] {
        let mut net = Net::new(5);
        for asn in [65001, 65002, 65003, 65002] {
            net.add_router(asn);
        }
        for other in [0, 2, 3] {
            net.peer(1, other);
        }
        net.transit(1);
        let changes = community.map(Change::AddCommunity).into_iter().collect();
        let mark = filter(vec![rule(vec![], changes, None)], Decision::Accept);
        net.set(1, 0, |peer| peer.import_filter = Some(mark));
        net.run_for(seconds(2));
        let [here, to_other, to_own] =
            [1, 2, 3].map(|node| net.best(node, "203.0.0.0/24").is_some());
        assert!(here, "{community:x?} is no reason not to use it");
        assert_eq!((to_other, to_own), (outside, inside), "{community:x?}");
    }
}

/// RFC 4360 §6: extended communities that are not transitive stay in the AS. The others, and those of RFC 1997 and RFC 8092,
/// are carried on.
#[test]
fn communities_are_carried_as_far_as_their_kind_goes() {
    let mut net = row(&[65001, 65001, 65002]);
    let (far, near) = (
        [0, 2, 0xfd, 0xe9, 0, 0, 0, 1],
        [0x40, 4, 0xfd, 0xe9, 0, 0, 0, 1],
    );
    net.change(0, |settings| {
        let details = Details {
            communities: [7].into(),
            large_communities: [[65001, 1, 2]].into(),
            extended_communities: [far, near].into(),
            ..Details::default()
        };
        let prefix = "203.0.0.0/24".parse().unwrap();
        settings
            .announcements
            .insert(prefix, Announcement { details });
    });
    net.run_for(seconds(2));
    for (node, extended) in [(1, vec![far, near]), (2, vec![far])] {
        let attrs = net.best(node, "203.0.0.0/24").unwrap().attrs;
        assert_eq!(attrs.extended_communities, extended, "at node {node}");
        assert_eq!(attrs.communities, [7]);
        assert_eq!(attrs.large_communities, [[65001, 1, 2]]);
    }
}

/// RFC 8212 §3.
#[test]
fn without_policy_ebgp_peers_exchange_only_own_prefixes() {
    let mut net = row(&[65001, 65002, 65003]);
    net.change(1, |settings| settings.ebgp_requires_policy = Switch::On);
    net.run_for(seconds(2));
    assert_eq!(next_hops(&net, 1, "203.0.0.0/24"), hops(&[]));
    assert!(net.status(1)["n0"].notes[0].contains("RFC 8212"));
    assert_eq!(next_hops(&net, 0, "203.0.1.0/24"), hops(&["192.0.2.2"]));
    net.set(1, 0, |peer| peer.import_filter = Some(Filter::accept_all()));
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 1, "203.0.0.0/24"), hops(&["192.0.2.1"]));
    assert_eq!(
        next_hops(&net, 2, "203.0.0.0/24"),
        hops(&[]),
        "no export policy yet"
    );
    net.set(1, 2, |peer| peer.export_filter = Some(Filter::accept_all()));
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 2, "203.0.0.0/24"), hops(&["192.0.2.2"]));
}

/// RFC 8326 §4.
#[test]
fn whoever_is_about_to_leave_is_the_last_choice() {
    // Two ways from n0 to n3.
    let mut net = Net::new(6);
    for asn in [65001, 65002, 65003, 65004] {
        net.add_router(asn);
    }
    for (one, other) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        net.peer(one, other);
    }
    for node in 0..4 {
        net.transit(node);
    }
    net.run_for(seconds(2));
    let resets = net.resets(0);
    let both = hops(&["192.0.2.2", "192.0.2.3"]);
    assert_eq!(next_hops(&net, 0, "203.0.3.0/24"), both);
    net.change(1, |settings| settings.graceful_shutdown = Switch::On);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "203.0.3.0/24"), hops(&["192.0.2.3"]));
    // Its own prefix is still there, by the only way.
    let leaving = net.best(0, "203.0.1.0/24").unwrap().attrs;
    assert_eq!(
        (leaving.local_pref, leaving.communities),
        (Some(0), vec![0xffff_0000])
    );
    net.change(1, |settings| settings.graceful_shutdown = Switch::Off);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 0, "203.0.3.0/24"), both);
    assert_eq!(net.resets(0), resets);
}

#[test]
fn our_own_as_may_come_back_where_the_settings_allow_it() {
    let mut net = row(&[65001, 65002, 65001]);
    net.run_for(seconds(2));
    let resets = net.resets(2);
    assert_eq!(next_hops(&net, 2, "203.0.0.0/24"), hops(&[]));
    net.set(2, 1, |peer| peer.allow_own_as = 1);
    net.run_for(seconds(1));
    assert_eq!(path_of(&net, 2, "203.0.0.0/24"), [65002, 65001]);
    assert_eq!(net.resets(2), resets);
}

#[test]
fn sites_of_one_as_hear_of_each_other_when_the_middle_overrides_it() {
    let mut net = row(&[65001, 65002, 65001]);
    net.set(1, 2, |peer| peer.own_as = OwnAs::Override);
    net.run_for(seconds(2));
    assert_eq!(path_of(&net, 2, "203.0.0.0/24"), [65002, 65002]);
    assert_eq!(next_hops(&net, 0, "203.0.2.0/24"), hops(&[]));
}

/// RFC 7705 §3.
#[test]
fn a_peer_may_know_us_by_another_as() {
    for (real, seen, taken) in [
        (OldAs::Shown, vec![65100, 65001], vec![65100, 65002]),
        (OldAs::Hidden, vec![65100], vec![65002]),
    ] {
        let mut net = row(&[65001, 65002]);
        net.set(0, 1, |peer| {
            let asn = Asn(65100);
            peer.local_as = Some(LocalAs { asn, real });
        });
        net.run_for(seconds(2));
        assert_ne!(net.state(1, "n0"), State::Established, "65001 is expected");
        net.set(1, 0, |peer| peer.asn = Asn(65100));
        net.run_for(seconds(6));
        assert_eq!(path_of(&net, 1, "203.0.0.0/24"), seen);
        assert_eq!(path_of(&net, 0, "203.0.1.0/24"), taken);
    }
}

/// RFC 6996 §4.
#[test]
fn private_as_numbers_stay_inside() {
    for (how, expected) in [
        (PrivateAs::Keep, vec![3356, 64512, 4_200_000_000]),
        (PrivateAs::Remove, vec![3356]),
        (PrivateAs::Replace, vec![3356, 3356, 3356]),
    ] {
        let mut net = row(&[4_200_000_000, 64512, 3356, 1299]);
        net.set(2, 3, |peer| peer.private_as = how);
        net.run_for(seconds(2));
        assert_eq!(path_of(&net, 3, "203.0.0.0/24"), expected);
    }
}

/// RFC 4271 §5.1.3.
#[test]
fn the_next_hop_is_ourselves_or_stays_as_the_settings_say() {
    let mut net = row(&[65001, 65002, 65003]);
    net.run_for(seconds(2));
    let resets = net.resets(2);
    assert_eq!(next_hops(&net, 2, "203.0.0.0/24"), hops(&["192.0.2.2"]));
    net.set(1, 2, |peer| peer.next_hop = NextHopMode::Unchanged);
    net.run_for(seconds(1));
    assert_eq!(next_hops(&net, 2, "203.0.0.0/24"), hops(&["192.0.2.1"]));
    assert_eq!(next_hops(&net, 2, "203.0.1.0/24"), hops(&["192.0.2.2"]));
    let elsewhere = filter(
        vec![rule(
            vec![Condition::NextHop(vec!["192.0.2.1/32".parse().unwrap()])],
            vec![Change::NextHop(address("192.0.2.99"))],
            None,
        )],
        Decision::Accept,
    );
    net.set(1, 2, |peer| peer.export_filter = Some(elsewhere));
    net.run_for(seconds(1));
    let best = net.best(2, "203.0.0.0/24").unwrap();
    assert_eq!(best.next_hop, NextHop::V4("192.0.2.99".parse().unwrap()));
    assert_eq!(net.resets(2), resets);
}
