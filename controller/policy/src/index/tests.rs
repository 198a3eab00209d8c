use proptest::prelude::*;

use super::*;
use crate::generate::{self, Profile, Random};

/// What nodes know that apply every change they are told.
#[derive(Default)]
struct Replicas(BTreeMap<NodeName, NodePolicy>);

impl Replicas {
    fn apply(&mut self, updates: &Updates) {
        for (node, changes) in updates {
            assert!(!changes.is_empty(), "{node} is told nothing");
            let replica = self.0.entry(node.clone()).or_default();
            for change in changes {
                let before = replica.clone();
                replica.apply(change);
                assert_ne!(&before, replica, "{node} is told what it knows: {change:?}");
            }
        }
    }

    /// Every node knows what a fresh compile gives, and so does the index.
    fn check(&self, index: &Index) {
        for node in (1..=4).map(|number| NodeName(format!("n{number}"))) {
            let fresh = crate::compile(index.cluster(), &node);
            assert_eq!(
                index.node_policy(&node),
                fresh,
                "the index differs for {node}"
            );
            assert_eq!(
                self.0.get(&node).cloned().unwrap_or_default(),
                fresh,
                "the replica of {node} differs"
            );
        }
    }
}

fn history(seed: u64, profile: &Profile, count: usize) {
    let (mut index, mut replicas) = (Index::new(), Replicas::default());
    for event in generate::events(seed, profile, count) {
        replicas.apply(&index.update([event]));
        replicas.check(&index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn after_any_event_every_node_knows_what_a_fresh_compile_gives(seed: u64) {
        history(seed, &Profile::wild(), 60);
        history(seed, &Profile { namespaces: 1, ..Profile::kubernetes() }, 60);
    }

    #[test]
    fn several_events_at_once_come_to_the_same(seed: u64) {
        let random = &mut Random::new(seed);
        let (mut index, mut replicas) = (Index::new(), Replicas::default());
        let mut events = generate::events(seed, &Profile::wild(), 80);
        while !events.is_empty() {
            let rest = events.split_off((1 + random.below(12)).min(events.len()));
            replicas.apply(&index.update(std::mem::replace(&mut events, rest)));
            replicas.check(&index);
        }
    }

    #[test]
    fn the_order_of_arrival_leaves_no_trace(seed: u64) {
        let world = generate::cluster(seed, &Profile::wild());
        let mut one = Index::new();
        one.reset(world.clone());
        let (mut other, mut replicas) = (Index::new(), Replicas::default());
        replicas.apply(&other.reset(generate::cluster(seed.wrapping_add(1), &Profile::wild())));
        replicas.apply(&other.reset(world.clone()));
        replicas.check(&other);
        for node in world.nodes.keys() {
            prop_assert_eq!(one.node_policy(node), other.node_policy(node));
        }
        prop_assert_eq!(one.sizes(), other.sizes());
    }

    #[test]
    fn when_all_objects_are_gone_nothing_is_left(seed: u64) {
        let (mut index, mut replicas) = (Index::new(), Replicas::default());
        replicas.apply(&index.update(generate::events(seed, &Profile::wild(), 100)));
        replicas.apply(&index.reset(Cluster::default()));
        prop_assert!(replicas.0.values().all(|replica| *replica == NodePolicy::default()));
        let sizes = Sizes { pods: 0, policies: 0, address_sets: 0, service_sets: 0, rule_lists: 0, addresses: 0 };
        prop_assert_eq!(index.sizes(), sizes);
        prop_assert!(index.subjects.is_empty() && index.set_selectors.is_empty());
        prop_assert!(index.services_by_name.is_empty() && index.endpoints.is_empty());
    }
}
