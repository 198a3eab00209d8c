use proptest::prelude::*;

use super::*;
use crate::generate::{self, Profile, Random};
use crate::model::{
    Action, LabelSelector, Labels, NamespaceScope, PeerSelector, Pod, Policy, PolicyKind,
    Requirement, Rule, Tier,
};

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

/// Three nodes with a pod each in namespace a, `app` set to the name; nodes 1 and 2 let `app: peer` in.
fn small() -> Index {
    let mut index = Index::new();
    let label = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
    let selector = |value: &str| LabelSelector {
        requirements: BTreeSet::from([Requirement::In(
            "app".to_owned(),
            BTreeSet::from([value.to_owned()]),
        )]),
    };
    let named = |value: &str| PodSelector {
        namespaces: NamespaceScope::Named("a".to_owned()),
        pods: selector(value),
    };
    for number in 1..=3 {
        let pod = Pod {
            uid: format!("u{number}"),
            created: String::new(),
            labels: label(&format!("p{number}")),
            node: Some(NodeName(format!("n{number}"))),
            host_network: false,
            finished: false,
            addresses: BTreeSet::from([address(number)]),
            reported: BTreeSet::new(),
            ports: Vec::new(),
        };
        index.apply(Object::Pod(pod_id(number), pod));
        if number < 3 {
            let id = PolicyId {
                name: format!("np{number}"),
                namespace: "a".to_owned(),
                kind: PolicyKind::NetworkPolicy,
            };
            let rule = Rule {
                action: Action::Allow,
                peers: Some(vec![PeerSelector::Pods(named("peer"))]),
                ports: None,
            };
            let subject = named(&format!("p{number}"));
            let policy = Policy {
                tier: Tier::default_tier(),
                order: 1000,
                subject,
                ingress: Some(vec![rule]),
                egress: None,
            };
            index.apply(Object::Policy(id, policy));
        }
    }
    index
}

fn pod_id(number: u8) -> PodId {
    PodId::new("a", format!("p{number}"))
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn pod(index: &Index, number: u8) -> Pod {
    index.cluster().pods[&pod_id(number)].clone()
}

#[test]
fn a_label_is_told_to_the_nodes_whose_rules_look_for_it_and_only_the_change() {
    let mut index = small();
    let mut peer = pod(&index, 3);
    peer.labels.insert("app".to_owned(), "peer".to_owned());
    let updates = index.apply(Object::Pod(pod_id(3), peer.clone()));
    assert_eq!(
        updates
            .keys()
            .map(|node| node.0.as_str())
            .collect::<Vec<_>>(),
        ["n1", "n2"]
    );
    for changes in updates.values() {
        let [PolicyChange::PatchAddressSet { add, remove, .. }] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(
            (add, remove),
            (&BTreeSet::from([address(3)]), &BTreeSet::new())
        );
    }
    assert_eq!(
        index.apply(Object::Pod(pod_id(3), peer)),
        Updates::new(),
        "nothing changed"
    );
}

#[test]
fn a_node_without_pods_that_use_it_is_not_told_of_a_policy() {
    let mut index = small();
    let id = PolicyId {
        name: "np2".to_owned(),
        namespace: "a".to_owned(),
        kind: PolicyKind::NetworkPolicy,
    };
    let mut policy = index.cluster().policies[&id].clone();
    policy.egress = Some(Vec::new());
    let updates = index.apply(Object::Policy(id, policy));
    let [(node, changes)] = updates.iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(node.0, "n2");
    let kinds: Vec<_> = changes
        .iter()
        .map(|change| match change {
            PolicyChange::PutRuleList { .. } => "list",
            PolicyChange::PutEndpoint { .. } => "endpoint",
            PolicyChange::PatchAddressSet { .. }
            | PolicyChange::DeleteAddressSet { .. }
            | PolicyChange::PatchServiceSet { .. }
            | PolicyChange::DeleteServiceSet { .. }
            | PolicyChange::DeleteRuleList { .. }
            | PolicyChange::DeleteEndpoint { .. } => "other",
        })
        .collect();
    assert_eq!(kinds, ["list", "endpoint"]);
}

#[test]
fn a_pod_that_lost_its_address_to_a_newer_one_keeps_its_rules_without_it() {
    let mut index = small();
    let mut thief = pod(&index, 3);
    thief.created = "2026-01-02T00:00:00Z".to_owned();
    thief.addresses.insert(address(1));
    thief.labels.insert("app".to_owned(), "peer".to_owned());
    index.apply(Object::Pod(pod_id(3), thief));
    let policy = index.node_policy(&NodeName("n1".to_owned()));
    let loser = &policy.endpoints[&pod_id(1)];
    assert!(loser.addresses.is_empty() && loser.ingress.is_some());
    assert_eq!(
        policy.address_sets.values().next().unwrap(),
        &BTreeSet::from([address(1), address(3)])
    );
    index.delete(&ObjectKey::Pod(pod_id(3)));
    assert_eq!(
        index.node_policy(&NodeName("n1".to_owned())).endpoints[&pod_id(1)].addresses,
        BTreeSet::from([address(1)])
    );
}

#[test]
fn what_an_agent_reports_is_in_the_sets_of_others_until_the_object_says_it() {
    let mut index = small();
    let mut peer = pod(&index, 3);
    peer.addresses.clear();
    peer.labels.insert("app".to_owned(), "peer".to_owned());
    index.apply(Object::Pod(pod_id(3), peer.clone()));
    let members = |index: &Index| {
        index
            .node_policy(&NodeName("n1".to_owned()))
            .address_sets
            .into_values()
            .next()
            .unwrap()
    };
    assert!(members(&index).is_empty());

    let report = |node: &str, uid: &str| {
        let reported = Reported {
            uid: uid.to_owned(),
            addresses: BTreeSet::from([address(33)]),
        };
        Event::Report(
            NodeName(node.to_owned()),
            BTreeMap::from([(pod_id(3), reported)]),
        )
    };
    assert_eq!(
        index.update([report("n3", "of-another-pod")]),
        Updates::new()
    );
    assert_eq!(
        index.update([report("n2", "u3")]),
        Updates::new(),
        "only its own node speaks for a pod"
    );
    let updates = index.update([report("n3", "u3")]);
    assert_eq!(
        updates.len(),
        2,
        "its own node does not hear what it said: {updates:?}"
    );
    assert_eq!(members(&index), BTreeSet::from([address(33)]));

    peer.addresses = BTreeSet::from([address(3)]);
    index.apply(Object::Pod(pod_id(3), peer.clone()));
    assert_eq!(members(&index), BTreeSet::from([address(3)]));
    peer.addresses.clear();
    index.apply(Object::Pod(pod_id(3), peer));
    assert_eq!(members(&index), BTreeSet::from([address(33)]));
    index.update([Event::Report(NodeName("n3".to_owned()), BTreeMap::new())]);
    assert!(members(&index).is_empty());
}
