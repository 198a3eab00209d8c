use margay_policy::generate::{Profile, cluster};

use super::*;
use crate::{convert, load};

fn read(files: &Files) -> Cluster {
    let mut cluster = Cluster::default();
    for text in [&files.cluster, &files.policies] {
        for document in load::documents("world.yaml", text) {
            cluster.apply(convert::object(&document.unwrap().object).unwrap());
        }
    }
    cluster
}

#[test]
fn a_generated_cluster_survives_the_way_through_yaml() {
    for seed in 0..200 {
        let world = cluster(seed, &Profile::kubernetes());
        let files = to_yaml(&world).unwrap();
        assert_eq!(read(&files), world, "seed {seed}");
    }
}

#[test]
fn what_no_network_policy_can_say_is_refused() {
    let mut wild = (0..20).map(|seed| {
        cluster(
            seed,
            &Profile {
                policies: 20,
                ..Profile::wild()
            },
        )
    });
    assert!(wild.all(|world| matches!(to_yaml(&world), Err(YamlError::Policy(_)))));
}

#[test]
fn words_that_yaml_takes_for_something_else_stay_words() {
    let mut world = cluster(1, &Profile::kubernetes());
    let words = [
        "y",
        "no",
        "true",
        "null",
        "~",
        "1",
        "0x10",
        "1e3",
        "010",
        "-",
        "1.5",
        ".nan",
        "on",
        "a b",
        "#",
        "2026-01-01",
    ];
    let labels = words
        .iter()
        .enumerate()
        .map(|(index, word)| (format!("l{index}"), (*word).to_owned()));
    world.namespaces.values_mut().next().unwrap().labels = labels.collect();
    assert_eq!(read(&to_yaml(&world).unwrap()), world);
}
