use std::collections::BTreeSet;

use margay_ipam::Family;

use crate::allocate::{Claims, choose};
use crate::network::tests::{add, name, network, three_nodes};
use crate::network::{Facts, Inputs, problems};

const CONFIG: &str = "apiVersion: margay.io/v1alpha1
kind: NetworkConfig
metadata: {name: default}
";

#[test]
fn a_service_range_that_takes_pods_or_nodes_addresses_away_is_told_of_and_not_announced() {
    let mut inputs = three_nodes();
    add(
        &mut inputs,
        &format!(
            "{CONFIG}spec: {{bgp: {{serviceRanges: [10.96.0.0/12, 192.0.2.0/24, 10.2.3.0/24, 10.200.0.0/20, 2001:db8::/64]}}}}
---
apiVersion: margay.io/v1alpha1
kind: IPPool
metadata: {{name: pods}}
spec: {{cidr: 10.2.0.0/16}}
"
        ),
    );
    inputs
        .claims
        .insert("10.200.1.0/26".parse().unwrap(), name("n2"));
    let announced = network(&inputs, &name("n1")).unwrap().bgp.services;
    let announced: Vec<String> = announced.iter().map(ToString::to_string).collect();
    assert_eq!(announced, ["10.96.0.0/12"]);
    let told = told(&inputs);
    for (n, words) in [
        "spec.bgp.serviceRanges[1]: 192.0.2.0/24 overlaps 192.0.2.1, the address of node n1",
        "spec.bgp.serviceRanges[2]: 10.2.3.0/24 overlaps the pool 10.2.0.0/16 of pods",
        "spec.bgp.serviceRanges[3]: 10.200.0.0/20 overlaps 10.200.1.0/26, where pods of node n2",
        "spec.bgp.serviceRanges[4]: 2001:db8::/64 overlaps 2001:db8::1",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(told[n].starts_with(words), "{}", told[n]);
    }
    assert_eq!(told.len(), 4);
}

#[test]
fn a_pool_that_comes_does_not_give_the_pod_cidrs_to_services() {
    let mut inputs = three_nodes();
    let facts = Facts {
        pod_cidrs: vec!["10.9.0.0/24".parse().unwrap()],
        ..Facts::default()
    };
    inputs.facts.insert(name("n1"), facts);
    add(
        &mut inputs,
        &format!(
            "{CONFIG}spec: {{bgp: {{serviceRanges: [10.9.0.0/16]}}}}
---
apiVersion: margay.io/v1alpha1
kind: IPPool
metadata: {{name: nobodys}}
spec: {{cidr: 10.2.0.0/16}}
"
        ),
    );
    // Running pods have addresses there, though new ones will not.
    let announced = network(&inputs, &name("n1")).unwrap().bgp.services;
    assert!(announced.is_empty(), "{announced:?}");
    let told = told(&inputs);
    assert!(told[0].contains("overlaps 10.9.0.0/24"), "{told:?}");
}

#[test]
fn pod_cidrs_that_nodes_do_not_have_are_told_of() {
    let mut inputs = three_nodes();
    add(&mut inputs, &format!("{CONFIG}spec: {{ipam: PodCIDRs}}"));
    let told_of = |inputs: &Inputs| told(inputs).join("\n");
    assert!(told_of(&inputs).contains("no spec.podCIDRs: n1, n2, n3; their pods get no"));
    for node in ["n1", "n3"] {
        let facts = Facts {
            pod_cidrs: vec!["10.9.0.0/24".parse().unwrap()],
            ..Facts::default()
        };
        inputs.facts.insert(name(node), facts);
    }
    assert!(told_of(&inputs).contains("no spec.podCIDRs: n2; their pods get no"));
    let refused = |inputs: &Inputs, node| {
        let claimed = choose(
            inputs,
            &Claims::new(),
            &name(node),
            Family::V4,
            &BTreeSet::new(),
        );
        claimed.err().map(|error| error.to_string())
    };
    for mode in [inputs.config.ipam, None] {
        inputs.config.ipam = mode;
        let words = refused(&inputs, "n2").unwrap();
        assert!(words.starts_with("node n2 has no spec.podCIDRs"), "{words}");
        let words = refused(&inputs, "n1").unwrap();
        assert!(words.starts_with("node n1 takes its addresses from its podCIDRs"));
    }
    assert_eq!(told(&inputs), Vec::<String>::new());
    inputs.facts.clear();
    assert_eq!(
        refused(&inputs, "n2"),
        None,
        "nobody has any: blocks of the usual pools"
    );
}

/// What the owner of the `NetworkConfig` is told.
fn told(inputs: &Inputs) -> Vec<String> {
    let problems = problems(inputs).into_iter();
    let ours =
        problems.filter(|(kind, name, _)| (*kind, name.as_str()) == ("NetworkConfig", "default"));
    ours.map(|(_, _, note)| note).collect()
}
