//! What we announce ourselves.

use super::*;
use crate::settings::{Aggregate, Announcement, Details, Switch};

#[test]
fn own_prefixes_are_announced_with_their_communities_and_changes_are_told() {
    let mut net = Net::mesh(2, 3);
    let with = |community: u32| Announcement {
        details: Details {
            communities: [community].into(),
            large_communities: [[64512, 1, 2]].into(),
            extended_communities: [[0, 2, 0xfd, 0xe8, 0, 0, 0, 1]].into(),
            med: Some(5),
            local_pref: Some(200),
        },
    };
    let block: IpNet = "10.1.0.0/26".parse().unwrap();
    net.change(1, |settings| {
        settings.announcements.insert(block, with(7));
    });
    net.run_for(seconds(1));
    let attrs = net.best(0, "10.1.0.0/26").unwrap().attrs;
    assert_eq!(
        (attrs.communities, attrs.med, attrs.local_pref),
        (vec![7], Some(5), Some(200))
    );
    assert_eq!(attrs.large_communities, [[64512, 1, 2]]);
    assert_eq!(attrs.extended_communities, [[0, 2, 0xfd, 0xe8, 0, 0, 0, 1]]);
    net.change(1, |settings| {
        settings.announcements.insert(block, with(8));
    });
    net.run_for(seconds(1));
    assert_eq!(net.best(0, "10.1.0.0/26").unwrap().attrs.communities, [8]);
    assert_eq!(
        net.best(0, "fd00:1::/122").unwrap().attrs.communities,
        Vec::<u32>::new()
    );
}

#[test]
fn an_aggregate_is_there_as_long_as_something_is_inside_and_may_stand_for_it() {
    let mut net = Net::mesh(2, 3);
    let router = net.add_router(65001);
    net.peer(1, router);
    net.announce(router, &[]);
    net.change(1, |settings| {
        settings.announce = prefixes(&["10.1.0.0/26", "10.1.0.64/26", "fd00:1::/122"]);
        let how = Aggregate::default();
        settings
            .aggregates
            .insert("10.1.0.0/16".parse().unwrap(), how.clone());
        settings
            .aggregates
            .insert("10.2.0.0/16".parse().unwrap(), how);
    });
    net.run_for(seconds(1));
    let known = |net: &Net, node: usize| {
        net.routes(node)
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let all = ["10.1.0.0/16", "10.1.0.0/26", "10.1.0.64/26", "fd00:1::/122"];
    assert_eq!(
        (known(&net, 0), known(&net, router)),
        (all.map(str::to_owned).into(), all.map(str::to_owned).into())
    );
    let aggregate = net.best(0, "10.1.0.0/16").unwrap().attrs;
    assert_eq!(aggregate.aggregator.unwrap().asn, Asn(64512));
    net.change(1, |settings| {
        for how in settings.aggregates.values_mut() {
            how.suppress = Switch::On;
        }
    });
    net.run_for(seconds(1));
    assert_eq!(known(&net, router), ["10.1.0.0/16", "fd00:1::/122"]);
    // A node of the same AS may have the same aggregate: it must know who has what is inside.
    assert_eq!(known(&net, 0), all);
    net.announce(1, &["fd00:1::/122"]);
    net.run_for(seconds(1));
    assert_eq!(known(&net, router), ["fd00:1::/122"]);
    assert_eq!(known(&net, 0), ["fd00:1::/122"]);
}
