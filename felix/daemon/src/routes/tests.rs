use super::*;

#[test]
fn pods_blocks_and_bgp_make_routes_and_their_end_removes_them() {
    let mut table = Table::default();
    let mut concerned = table.add_pod("mgy1", 7, &[ip("10.1.0.3")].into());
    concerned.extend(table.set_own([net("10.1.0.0/26")].into(), BTreeSet::new()));
    concerned.extend(table.learn(vec![change("10.2.0.0/26", &["192.0.2.2", "192.0.2.3"])]));
    let operations = run(&mut table, &concerned);
    let hops = [ip("192.0.2.2"), ip("192.0.2.3")].map(NextHop::via).into();
    assert_eq!(
        operations.put,
        [
            route("10.1.0.0/26", RouteKind::Blackhole),
            route("10.1.0.3/32", RouteKind::Unicast([NextHop::on(7)].into())),
            route("10.2.0.0/26", RouteKind::Unicast(hops)),
        ]
    );
    assert_eq!(run(&mut table, &concerned), Operations::default());
    let mut concerned = table.remove_link("mgy1");
    concerned.extend(table.set_own(BTreeSet::new(), BTreeSet::new()));
    concerned.extend(table.learn(vec![change("10.2.0.0/26", &[])]));
    assert_eq!(run(&mut table, &concerned).delete.len(), 3);
    assert_eq!(table.len(), 0);
}

#[test]
fn what_nobody_has_of_an_announced_aggregate_ends_here() {
    let mut table = Table::default();
    let mut concerned = table.learn(vec![change("10.1.0.64/26", &["192.0.2.2"])]);
    let blocks = BTreeSet::from([net("10.1.0.0/26")]);
    concerned.extend(table.set_own(blocks.clone(), [net("10.1.0.0/16")].into()));
    let hops = RouteKind::Unicast([NextHop::via(ip("192.0.2.2"))].into());
    assert_eq!(
        run(&mut table, &concerned).put,
        [
            route("10.1.0.0/16", RouteKind::Blackhole),
            route("10.1.0.0/26", RouteKind::Blackhole),
            route("10.1.0.64/26", hops),
        ]
    );
    let concerned = table.set_own(blocks, BTreeSet::new());
    assert_eq!(
        run(&mut table, &concerned).delete,
        [route("10.1.0.0/16", RouteKind::Blackhole)]
    );
}

#[test]
fn routes_of_before_a_restart_stay_until_bgp_has_told_everything() {
    let mut table = Table::default();
    table.set_own([net("10.1.0.0/26")].into(), BTreeSet::new());
    let via = |hop: &str| {
        RouteKind::Unicast(
            [NextHop {
                via: Some(ip(hop)),
                link: Some(2),
                onlink: false,
            }]
            .into(),
        )
    };
    table.adopt(vec![
        route("10.1.0.0/26", RouteKind::Blackhole),
        route("10.2.0.0/26", via("192.0.2.2")),
        route("10.3.0.0/26", via("192.0.2.3")),
        route("10.4.0.0/26", RouteKind::Blackhole),
    ]);
    let all = table.prefixes();
    let operations = run(&mut table, &all);
    assert_eq!(operations.put, []);
    assert_eq!(
        operations.delete,
        [route("10.4.0.0/26", RouteKind::Blackhole)],
        "an old block"
    );
    // Told again, as before: nothing is touched.
    let concerned = table.learn(vec![change("10.2.0.0/26", &["192.0.2.2"])]);
    assert_eq!(run(&mut table, &concerned), Operations::default());
    let concerned = table.sweep();
    assert_eq!(
        run(&mut table, &concerned).delete,
        [route("10.3.0.0/26", via("192.0.2.3"))]
    );
}

#[test]
fn what_others_changed_is_found_and_put_right() {
    let mut table = Table::default();
    let mut concerned = table.set_own(
        [net("10.1.0.0/26"), net("10.2.0.0/26")].into(),
        BTreeSet::new(),
    );
    concerned.extend(table.learn(vec![change("10.3.0.0/26", &["192.0.2.2"])]));
    run(&mut table, &concerned);
    let changed = RouteKind::Unicast([NextHop::via(ip("192.0.2.9"))].into());
    let differ = table.observe(vec![
        route("10.1.0.0/26", RouteKind::Blackhole),
        route("10.3.0.0/26", changed),
        route("10.9.0.0/26", RouteKind::Blackhole),
    ]);
    assert_eq!(
        differ,
        [net("10.2.0.0/26"), net("10.3.0.0/26"), net("10.9.0.0/26")]
    );
    let operations = run(&mut table, &differ.into_iter().collect());
    assert_eq!(operations.put.len(), 2);
    assert_eq!(
        operations.delete,
        [route("10.9.0.0/26", RouteKind::Blackhole)]
    );
}

/// Plans and pretends that the kernel did it.
fn run(table: &mut Table, prefixes: &BTreeSet<IpNet>) -> Operations {
    let operations = table.operations(prefixes);
    for route in &operations.delete {
        table.gone(route);
    }
    for route in &operations.put {
        table.done(route.clone());
    }
    operations
}

fn change(prefix: &str, hops: &[&str]) -> RouteChange {
    RouteChange {
        prefix: net(prefix),
        next_hops: hops.iter().copied().map(ip).collect(),
        links: BTreeMap::new(),
        peer: Some("p".into()),
    }
}

fn route(prefix: &str, kind: RouteKind) -> Route {
    Route {
        prefix: net(prefix),
        protocol: PROTOCOL,
        metric: Some(METRIC),
        kind,
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
