use std::collections::BTreeMap;

use ipnet::IpNet;
use margay_ipam::Family;

use crate::allocate::{Claims, choose};
use crate::network::tests::{add, name, network, three_nodes};
use crate::network::{Inputs, ipam_page};

#[test]
fn of_overlapping_pools_the_oldest_counts_and_the_others_name_it() {
    let mut inputs = three_nodes();
    pool(&mut inputs, "later", 3, "10.1.128.0/17", "{}");
    pool(&mut inputs, "first", 2, "10.1.0.0/16", "{}");
    pool(&mut inputs, "last", 4, "10.0.0.0/15", "{}");
    pool(&mut inputs, "beside", 5, "10.2.0.0/16", "{}");
    assert_eq!(usable(&inputs, "n1"), ["10.2.0.0/16", "10.1.0.0/16"]);
    assert_eq!(
        all(&inputs, "n1").len(),
        4,
        "pods may have addresses of any"
    );
    let told = problems(&inputs);
    assert_eq!(told.keys().collect::<Vec<_>>(), ["last", "later"]);
    assert!(
        told["last"].contains("10.0.0.0/15 overlaps 10.1.0.0/16 of the older IPPool first"),
        "{told:?}"
    );
    assert!(told["later"].contains("IPPool first"), "{told:?}");
    let shown = ipam_page(&inputs, &BTreeMap::new()).pools.into_iter();
    let shown: Vec<_> = shown
        .filter_map(|pool| Some((pool.cidr.to_string(), pool.overlaps?)))
        .collect();
    let first = || "first".to_owned();
    assert_eq!(
        shown,
        [
            ("10.0.0.0/15".to_owned(), first()),
            ("10.1.128.0/17".to_owned(), first())
        ]
    );
}

#[test]
fn who_does_not_count_is_in_nobodys_way_and_counts_once_the_older_is_gone() {
    let mut inputs = three_nodes();
    pool(&mut inputs, "a", 1, "10.0.0.0/17", "{}");
    pool(&mut inputs, "b", 2, "10.0.0.0/16", "{}");
    pool(&mut inputs, "c", 3, "10.0.128.0/17", "{}");
    assert_eq!(usable(&inputs, "n1"), ["10.0.0.0/17", "10.0.128.0/17"]);
    assert_eq!(problems(&inputs).keys().collect::<Vec<_>>(), ["b"]);
    inputs.pools.remove("a");
    assert_eq!(usable(&inputs, "n1"), ["10.0.0.0/16"]);
    assert_eq!(problems(&inputs).keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn of_pools_of_one_age_the_first_by_name_counts() {
    let mut inputs = three_nodes();
    pool(&mut inputs, "b", 1, "10.0.0.0/16", "{}");
    pool(&mut inputs, "a", 1, "10.0.0.0/16", "{}");
    assert_eq!(problems(&inputs).keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn blocks_of_a_pool_that_does_not_count_stay_and_no_more_are_claimed() {
    let mut inputs = three_nodes();
    pool(
        &mut inputs,
        "old",
        1,
        "10.0.0.0/24",
        "{matchLabels: {zone: a}}",
    );
    pool(&mut inputs, "new", 2, "10.0.0.0/16", "{}");
    let block: IpNet = "10.0.7.0/26".parse().unwrap();
    inputs.claims.insert(block, name("n1"));
    let kept = network(&inputs, &name("n1")).unwrap();
    assert!(kept.blocks.contains(&block));
    let refused = choose(&inputs, &inputs.claims, &name("n1"), Family::V4).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no IPv4 pool is left for node n1: 10.0.0.0/16 overlaps the older IPPool old; look at the events of these IPPools"
    );
    let v6 = choose(&inputs, &Claims::new(), &name("n1"), Family::V6).unwrap_err();
    assert!(v6.to_string().starts_with("no enabled IPv6 pool"), "{v6}");
}

#[test]
fn a_pool_for_no_node_is_told_of() {
    let mut inputs = three_nodes();
    pool(
        &mut inputs,
        "a",
        1,
        "10.0.0.0/16",
        "{matchLabels: {kubernetes.io/hostname: n2}}",
    );
    pool(
        &mut inputs,
        "b",
        1,
        "10.1.0.0/16",
        "{matchLabels: {kubernetes.io/hostname: n7}}",
    );
    let told = problems(&inputs);
    assert_eq!(told.keys().collect::<Vec<_>>(), ["b"]);
    assert!(told["b"].starts_with("spec.nodeSelector selects no node"));
}

fn pool(inputs: &mut Inputs, name: &str, born: u8, cidr: &str, nodes: &str) {
    add(
        inputs,
        &format!(
            "apiVersion: margay.io/v1alpha1
kind: IPPool
metadata: {{name: {name}, creationTimestamp: \"2026-01-0{born}T00:00:00Z\"}}
spec: {{cidr: {cidr}, nodeSelector: {nodes}}}
"
        ),
    );
}

fn problems(inputs: &Inputs) -> BTreeMap<String, String> {
    super::problems(inputs).into_iter().collect()
}

/// Ranges as a node is told of them, and whether it may take new addresses from each.
fn all(inputs: &Inputs, node: &str) -> Vec<(String, bool)> {
    let pools = network(inputs, &name(node)).unwrap().pools.into_iter();
    pools
        .map(|pool| (pool.cidr.to_string(), pool.usable))
        .collect()
}

fn usable(inputs: &Inputs, node: &str) -> Vec<String> {
    let usable = all(inputs, node).into_iter().filter(|(_, usable)| *usable);
    usable.map(|(cidr, _)| cidr).collect()
}
