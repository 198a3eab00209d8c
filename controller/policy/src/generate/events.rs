//! Random histories of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::{Profile, Random, cluster};
use crate::index::{Event, Reported};
use crate::model::{NodeName, Object, ObjectKey};

/// `count` events of a cluster that is small enough for them to meet: objects come, change, go, and
/// come back, in any order; agents report addresses.
pub fn events(seed: u64, profile: &Profile, count: usize) -> Vec<Event> {
    let random = &mut Random::new(seed);
    // Objects of the same names with other content: different worlds of one profile.
    let variants: Vec<Vec<Object>> = (0..4)
        .map(|variant| {
            let world = cluster(seed.wrapping_mul(31).wrapping_add(variant), profile);
            let nodes = world
                .nodes
                .into_iter()
                .map(|(name, node)| Object::Node(name, node));
            let namespaces = world
                .namespaces
                .into_iter()
                .map(|(name, it)| Object::Namespace(name, it));
            let pods = world.pods.into_iter().map(|(id, pod)| Object::Pod(id, pod));
            let policies = world
                .policies
                .into_iter()
                .map(|(id, policy)| Object::Policy(id, policy));
            nodes
                .chain(namespaces)
                .chain(pods)
                .chain(policies)
                .collect()
        })
        .collect();
    let mut live: BTreeSet<ObjectKey> = BTreeSet::new();
    let mut events = Vec::new();
    for _ in 0..count {
        let object = random
            .pick(&variants)
            .and_then(|objects| random.pick(objects))
            .cloned();
        let event = match (random.below(8), object) {
            (0 | 1, _) => {
                let keys: Vec<_> = live.iter().cloned().collect();
                let Some(key) = random.pick(&keys).cloned() else {
                    continue;
                };
                live.remove(&key);
                Event::Delete(key)
            }
            (2, Some(Object::Pod(..))) => report(random, &live, &variants),
            (_, Some(object)) => {
                live.insert(object.key());
                Event::Put(object)
            }
            (_, None) => continue,
        };
        events.push(event);
    }
    events
}

fn report(random: &mut Random, live: &BTreeSet<ObjectKey>, variants: &[Vec<Object>]) -> Event {
    let mut pods = BTreeMap::new();
    for object in variants.iter().flatten() {
        if let Object::Pod(id, pod) = object
            && live.contains(&object.key())
            && random.one_in(3)
        {
            let uid = if random.one_in(4) {
                String::new()
            } else {
                pod.uid.clone()
            };
            pods.insert(
                id.clone(),
                Reported {
                    uid,
                    addresses: pod.addresses.clone(),
                },
            );
        }
    }
    Event::Report(NodeName(format!("n{}", random.below(3) + 1)), pods)
}
