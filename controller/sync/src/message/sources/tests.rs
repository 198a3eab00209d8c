use ipnet::IpNet;
use margay_policy::model::NodeName;

use super::*;
use crate::message::Bgp;

#[test]
fn without_pools_for_namespaces_all_usable_pools_serve_everybody() {
    let network = network(
        &[],
        vec![
            pool("10.1.0.0/16"),
            pool("10.2.0.0/16"),
            closed("10.3.0.0/16"),
            pool("fd00::/64"),
        ],
    );
    let all = sources(&[
        (Family::V4, &["10.1.0.0/16", "10.2.0.0/16"]),
        (Family::V6, &["fd00::/64"]),
    ]);
    assert_eq!(network.sources("anything"), Ok(all.clone()));
    assert_eq!(network.all_sources(), all);
}

#[test]
fn a_namespace_that_is_selected_uses_what_selects_it_alone_and_others_the_rest() {
    let network = network(
        &["bank", "shop"],
        vec![
            pool("10.1.0.0/16"),
            of("10.2.0.0/16", &["bank"]),
            of("10.3.0.0/16", &["bank"]),
            of("10.4.0.0/16", &[]),
            pool("fd00::/64"),
        ],
    );
    let bank = sources(&[
        (Family::V4, &["10.2.0.0/16", "10.3.0.0/16"]),
        (Family::V6, &["fd00::/64"]),
    ]);
    let shop = sources(&[(Family::V4, &["10.1.0.0/16"]), (Family::V6, &["fd00::/64"])]);
    assert_eq!(network.sources("bank"), Ok(bank.clone()));
    assert_eq!(network.sources("shop"), Ok(shop.clone()));
    assert_eq!(network.all_sources(), &bank | &shop);
}

#[test]
fn nobody_falls_back_to_pools_of_others() {
    let selecting = Pool {
        usable: false,
        ..of("10.2.0.0/16", &["bank"])
    };
    let network = network(&["bank", "shop"], vec![pool("10.1.0.0/16"), selecting]);
    let closed = NoSource::Closed {
        namespace: "bank".to_owned(),
        family: Family::V4,
    };
    assert_eq!(network.sources("bank"), Err(closed));
    assert_eq!(
        network.all_sources(),
        sources(&[(Family::V4, &["10.1.0.0/16"])])
    );
}

#[test]
fn a_namespace_that_nobody_knows_waits_only_where_it_matters() {
    let unknown = NoSource::Namespace("new".to_owned());
    let with = network(&[], vec![pool("10.1.0.0/16"), of("10.2.0.0/16", &[])]);
    assert_eq!(with.sources("new"), Err(unknown));
    let without = network(&[], vec![pool("10.1.0.0/16")]);
    assert!(without.sources("new").is_ok());
}

#[test]
fn where_every_pool_is_for_namespaces_others_get_nothing() {
    let network = network(&["bank", "shop"], vec![of("10.2.0.0/16", &["bank"])]);
    assert_eq!(network.sources("shop"), Err(NoSource::NoPool));
    assert_eq!(
        network.all_sources(),
        sources(&[(Family::V4, &["10.2.0.0/16"])])
    );
}

fn sources(list: &[(Family, &[&str])]) -> BTreeSet<Source> {
    let source = |(family, pools): &(Family, &[&str])| {
        Source::new(
            *family,
            pools.iter().map(|pool| pool.parse::<IpNet>().unwrap()),
        )
    };
    list.iter().map(source).collect()
}

fn pool(cidr: &str) -> Pool {
    Pool {
        cidr: cidr.parse().unwrap(),
        nat_outgoing: false,
        usable: true,
        subnet: false,
        namespaces: None,
    }
}

fn closed(cidr: &str) -> Pool {
    Pool {
        usable: false,
        ..pool(cidr)
    }
}

fn of(cidr: &str, namespaces: &[&str]) -> Pool {
    Pool {
        namespaces: Some(names(namespaces)),
        ..pool(cidr)
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn network(namespaces: &[&str], pools: Vec<Pool>) -> NodeNetwork {
    NodeNetwork {
        node: NodeName("n1".to_owned()),
        addresses: Vec::new(),
        pools,
        namespaces: names(namespaces),
        blocks: BTreeSet::new(),
        bgp: Bgp::default(),
    }
}
