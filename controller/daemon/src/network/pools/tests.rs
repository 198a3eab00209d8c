use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use margay_ipam::Family;

use crate::allocate::{Claims, choose};
use crate::network::tests::{add, name, network, three_nodes};
use crate::network::{Inputs, Tenants, ipam_page};

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
    let any = BTreeSet::new();
    let refused = choose(&inputs, &inputs.claims, &name("n1"), Family::V4, &any).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no IPv4 pool is left for node n1: 10.0.0.0/16 overlaps the older IPPool old; look at the events of these IPPools"
    );
    let v6 = choose(&inputs, &Claims::new(), &name("n1"), Family::V6, &any).unwrap_err();
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

#[test]
fn a_pool_of_namespaces_is_for_their_pods_alone() {
    let mut inputs = three_nodes();
    pool(&mut inputs, "any", 1, "10.1.0.0/16", "{}");
    tenant_pool(
        &mut inputs,
        "bank",
        "10.2.0.0/16",
        "{matchLabels: {team: bank}}",
    );
    let told = problems(&inputs);
    assert!(
        told["bank"].starts_with("spec.namespaceSelector selects no namespace"),
        "{told:?}"
    );
    live(&mut inputs, "n1", "bank", "bank");
    live(&mut inputs, "n1", "shop", "shop");
    live(&mut inputs, "n2", "shop", "shop");
    assert_eq!(problems(&inputs), BTreeMap::new());
    let pools_of = |inputs: &Inputs, node: &str, namespace: &str| -> Vec<String> {
        let network = network(inputs, &name(node)).unwrap();
        let sources = network.sources(namespace).unwrap().into_iter();
        sources
            .flat_map(|source| source.pools().clone())
            .map(|pool| pool.to_string())
            .collect()
    };
    assert_eq!(pools_of(&inputs, "n1", "bank"), ["10.2.0.0/16"]);
    assert_eq!(pools_of(&inputs, "n1", "shop"), ["10.1.0.0/16"]);
    // A node hears of its own namespaces.
    let heard = |node: &str| network(&inputs, &name(node)).unwrap().namespaces;
    assert_eq!(heard("n1"), ["bank".to_owned(), "shop".to_owned()].into());
    assert_eq!(heard("n2"), ["shop".to_owned()].into());
    assert_eq!(heard("n3"), BTreeSet::new());
    let shown = ipam_page(&inputs, &BTreeMap::new()).pools.into_iter();
    let shown: Vec<_> = shown.map(|pool| pool.namespaces).collect();
    assert_eq!(shown, [None, Some(["bank".to_owned()].into())]);

    let block = |of: &[&str]| {
        let of = of.iter().map(|cidr| cidr.parse().unwrap()).collect();
        choose(&inputs, &Claims::new(), &name("n1"), Family::V4, &of).unwrap()
    };
    let inside = |cidr: &str, block: IpNet| cidr.parse::<IpNet>().unwrap().contains(&block);
    assert!(inside("10.1.0.0/16", block(&[])));
    assert!(inside("10.2.0.0/16", block(&["10.2.0.0/16"])));
}

#[test]
fn where_podcidrs_are_used_pools_of_namespaces_mean_nothing() {
    let mut inputs = three_nodes();
    tenant_pool(
        &mut inputs,
        "bank",
        "10.2.0.0/16",
        "{matchLabels: {team: bank}}",
    );
    live(&mut inputs, "n1", "bank", "bank");
    add(
        &mut inputs,
        "apiVersion: margay.io/v1alpha1\nkind: NetworkConfig\nmetadata: {name: default}\nspec: {ipam: PodCIDRs}\n",
    );
    let own: IpNet = "10.200.1.0/24".parse().unwrap();
    inputs.facts.entry(name("n1")).or_default().pod_cidrs = vec![own];
    let network = network(&inputs, &name("n1")).unwrap();
    assert_eq!(network.namespaces, BTreeSet::new());
    let sources = network.sources("bank").unwrap().into_iter();
    let pools: Vec<_> = sources.flat_map(|source| source.pools().clone()).collect();
    assert_eq!(pools, [own]);
}

#[test]
fn what_is_known_of_namespaces_is_what_there_is() {
    let mut inputs = Inputs::default();
    let tenants = Arc::make_mut(&mut inputs.tenants);
    let (n1, n2) = (name("n1"), name("n2"));
    let labels = BTreeMap::new();
    assert_eq!(tenants.pod("shop", None, Some(&n1)), [n1.clone()].into());
    assert_eq!(tenants.pod("shop", None, Some(&n1)), BTreeSet::new());
    assert_eq!(
        tenants.of_node(&n1).count(),
        0,
        "nobody knows the namespace"
    );
    assert_eq!(
        tenants.namespace("shop", Some(&labels)),
        [n1.clone()].into()
    );
    assert_eq!(tenants.namespace("shop", Some(&labels)), BTreeSet::new());
    let names: Vec<&str> = tenants.of_node(&n1).map(|(name, _)| name).collect();
    assert_eq!(names, ["shop"]);
    assert_eq!(
        tenants.pod("shop", Some(&n1), Some(&n2)),
        [n2.clone()].into(),
        "n1 has another pod of it"
    );
    assert_eq!(tenants.pod("shop", Some(&n1), None), [n1.clone()].into());
    assert_eq!(tenants.pod("shop", Some(&n2), None), [n2].into());
    assert_eq!(tenants.namespace("shop", None), BTreeSet::new());
    assert_eq!(*tenants, Tenants::default());
}

/// A namespace of a team has a pod on a node.
fn live(inputs: &mut Inputs, node: &str, namespace: &str, team: &str) {
    let tenants = Arc::make_mut(&mut inputs.tenants);
    let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
    tenants.namespace(namespace, Some(&labels));
    tenants.pod(namespace, None, Some(&name(node)));
}

fn tenant_pool(inputs: &mut Inputs, name: &str, cidr: &str, namespaces: &str) {
    add(
        inputs,
        &format!(
            "apiVersion: margay.io/v1alpha1
kind: IPPool
metadata: {{name: {name}}}
spec: {{cidr: {cidr}, namespaceSelector: {namespaces}}}
"
        ),
    );
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
