use std::collections::{BTreeMap, BTreeSet};

use margay_api::v1::Topology;
use margay_policy::model::{Node, NodeName};

use super::*;

#[test]
fn both_ends_of_every_pair_mean_the_same() {
    for topology in [
        Topology::Mesh,
        Topology::Reflectors,
        Topology::Auto,
        Topology::None,
    ] {
        for count in [1, 2, 7, 130] {
            let inputs = cluster(count, 3, topology);
            let pairs = Pairs::of(&inputs);
            for name in inputs.nodes.keys() {
                for (other, role) in pairs.others(&inputs, name) {
                    let back = pairs.others(&inputs, other)[name];
                    let fits = match role {
                        Role::Ordinary
                            if topology == Topology::Mesh
                                || count <= 100 && topology == Topology::Auto =>
                        {
                            back == Role::Ordinary
                        }
                        Role::Ordinary => back == Role::Client,
                        Role::Client => back == Role::Ordinary,
                        Role::Fellow => back == Role::Fellow,
                    };
                    assert!(fits, "{name} {other} {role:?} {back:?}");
                }
            }
        }
    }
}

#[test]
fn with_reflectors_every_node_hears_of_every_other() {
    for count in [1, 2, 3, 10, 60] {
        let inputs = cluster(count, 3, Topology::Reflectors);
        let pairs = Pairs::of(&inputs);
        for origin in inputs.nodes.keys() {
            assert_eq!(
                heard(&inputs, &pairs, origin).len(),
                count,
                "{count} {origin}"
            );
        }
    }
    let inputs = cluster(60, 3, Topology::Reflectors);
    let pairs = Pairs::of(&inputs);
    assert_eq!(pairs.reflectors.len(), 6, "two of each zone");
    let most = inputs
        .nodes
        .keys()
        .filter(|name| !pairs.reflectors.contains_key(name));
    for name in most {
        assert_eq!(pairs.others(&inputs, name).len(), 2, "{name}");
    }
}

#[test]
fn auto_is_a_mesh_until_the_cluster_is_large() {
    let sessions = |count| {
        let inputs = cluster(count, 1, Topology::Auto);
        let pairs = Pairs::of(&inputs);
        let all = inputs
            .nodes
            .keys()
            .map(|name| pairs.others(&inputs, name).len());
        all.sum::<usize>() / 2
    };
    assert_eq!(sessions(100), 100 * 99 / 2);
    assert_eq!(sessions(101), 99 * 2 + 1);
}

#[test]
fn labelled_nodes_are_the_reflectors_of_all_and_few_elections_change_with_a_node() {
    let mut inputs = cluster(30, 3, Topology::Reflectors);
    let elected = |inputs: &Inputs| -> BTreeSet<NodeName> {
        Pairs::of(inputs)
            .reflectors
            .keys()
            .map(|name| (*name).clone())
            .collect()
    };
    let before = elected(&inputs);
    let (name, node) = made(30, 3);
    inputs.nodes.insert(name, node);
    let after = elected(&inputs);
    assert!(
        before.difference(&after).count() <= 1,
        "{before:?} {after:?}"
    );
    let one = NodeName("n003".to_owned());
    let labels = &mut inputs.nodes.get_mut(&one).unwrap().labels;
    labels.insert(REFLECTOR.to_owned(), "true".to_owned());
    assert_eq!(elected(&inputs), BTreeSet::from([one]));
    let pairs = Pairs::of(&inputs);
    for origin in inputs.nodes.keys() {
        assert_eq!(heard(&inputs, &pairs, origin).len(), 31, "{origin}");
    }
}

#[test]
fn a_cluster_id_is_an_address_or_left_to_the_node() {
    let of = |text: &str| cluster_id(&BTreeMap::from([(REFLECTOR.to_owned(), text.to_owned())]));
    assert_eq!(cluster_id(&BTreeMap::new()), Ok(None));
    assert_eq!((of("true"), of("")), (Ok(None), Ok(None)));
    assert_eq!(of("10.0.0.1"), Ok(Some("10.0.0.1".parse().unwrap())));
    assert_eq!((of("0.0.0.0").is_err(), of("yes").is_err()), (true, true));
}

/// Who hears of the prefixes of `origin`, as RFC 4456 has it.
fn heard<'a>(
    inputs: &'a Inputs,
    pairs: &Pairs<'a>,
    origin: &'a NodeName,
) -> BTreeSet<&'a NodeName> {
    let mut heard = BTreeSet::from([origin]);
    let mut told: Vec<(&NodeName, Option<Role>)> = vec![(origin, None)];
    while let Some((name, from)) = told.pop() {
        for (other, role) in pairs.others(inputs, name) {
            // What we are to the other is what it takes our routes for.
            let passes = match from {
                None | Some(Role::Client) => true,
                Some(Role::Ordinary | Role::Fellow) => role == Role::Client,
            };
            let back = pairs.others(inputs, other)[name];
            if passes && heard.insert(other) {
                told.push((other, Some(back)));
            }
        }
    }
    heard
}

fn cluster(count: usize, zones: usize, topology: Topology) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.config.bgp.topology = topology;
    inputs.nodes = (0..count).map(|number| made(number, zones)).collect();
    inputs
}

fn made(number: usize, zones: usize) -> (NodeName, Node) {
    let zone = format!("z{}", number % zones);
    let labels = BTreeMap::from([(ZONE.to_owned(), zone)]);
    let addresses = vec![];
    (
        NodeName(format!("n{number:03}")),
        Node { labels, addresses },
    )
}
