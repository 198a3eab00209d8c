//! The specification of a [`NodePolicy`]: from all objects at once, without memory.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::canonical;
use crate::model::{Cluster, Direction, NodeName, Pod, PodId, Policy, PolicyId};
use crate::node_policy::{
    AddressSetId, Endpoint, Match, NodePolicy, Peer, RuleList, ServiceSetId, TierRules,
};
use crate::rules::PolicyRules;
use crate::selector::{self, Selection};

#[cfg(test)]
mod tests;

/// Everything that policy means for the pods of `node`.
///
/// Total and pure: equal clusters give equal results, also byte for byte.
pub fn compile(cluster: &Cluster, node: &NodeName) -> NodePolicy {
    let owners = owners(cluster);
    let owned = |id: &PodId, pod: &Pod| -> BTreeSet<IpAddr> {
        pod.claims()
            .iter()
            .filter(|address| owners.get(*address) == Some(&id))
            .copied()
            .collect()
    };
    let mut policies: Vec<_> = cluster.policies.iter().collect();
    policies.sort_by(|a, b| order(*a, *b));
    let policies: Vec<_> = policies
        .into_iter()
        .map(|(id, policy)| (policy, PolicyRules::new(id, policy)))
        .collect();

    let mut result = NodePolicy::default();
    for (id, pod) in &cluster.pods {
        if pod.node.as_ref() != Some(node) || !pod.is_workload() {
            continue;
        }
        let labels = selector::namespace_labels(&cluster.namespaces, id);
        let selecting: Vec<_> = policies
            .iter()
            .map(|(policy, rules)| {
                (
                    *policy,
                    rules,
                    selector::pod_matches(&policy.subject, &id.namespace, labels, pod),
                )
            })
            .filter(|(_, _, selection)| *selection != Selection::No)
            .collect();
        let mut list = |direction| {
            let list = rule_list(direction, pod, &selecting)?;
            let id = canonical::rule_list_id(&list);
            result.rule_lists.insert(id, list);
            Some(id)
        };
        let (ingress, egress) = (list(Direction::Ingress), list(Direction::Egress));
        let owned = owned(id, pod);
        let addresses = pod.addresses.intersection(&owned).copied().collect();
        result.endpoints.insert(
            id.clone(),
            Endpoint {
                uid: pod.uid.clone(),
                addresses,
                ingress,
                egress,
            },
        );
    }

    let (sets, services) = used(result.rule_lists.values());
    let definitions = || policies.iter().map(|(_, rules)| rules);
    for set in sets {
        let Some(selector) = definitions().find_map(|rules| rules.sets.get(&set)) else {
            continue;
        };
        let taken = selector::selected(cluster, selector);
        let taken = taken.filter(|(_, _, selection)| *selection == Selection::Yes);
        let members = taken.flat_map(|(id, pod, _)| owned(id, pod)).collect();
        result.address_sets.insert(set, members);
    }
    let pods = cluster
        .pods
        .iter()
        .filter(|(_, pod)| !services.is_empty() && !pod.ports.is_empty());
    let pods: Vec<_> = pods
        .map(|(id, pod)| {
            (
                id,
                pod,
                selector::namespace_labels(&cluster.namespaces, id),
                owned(id, pod),
            )
        })
        .collect();
    for set in services {
        let Some(definition) = definitions().find_map(|rules| rules.services.get(&set)) else {
            continue;
        };
        let members = pods
            .iter()
            .flat_map(|(id, pod, labels, owned)| definition.members(id, pod, *labels, owned));
        result.service_sets.insert(set, members.collect());
    }
    result
}

/// Which workload owns each address: the newest that claims it (DESIGN §3.2 row 15).
fn owners(cluster: &Cluster) -> HashMap<IpAddr, &PodId> {
    let mut owners: HashMap<IpAddr, &PodId> = HashMap::new();
    for (id, pod) in &cluster.pods {
        for address in pod.claims() {
            let newest = owners
                .get(address)
                .is_none_or(|owner| pod.age(id) > cluster.pods[*owner].age(owner));
            if newest {
                owners.insert(*address, id);
            }
        }
    }
    owners
}

/// The order in which policies are judged: by tier, order, id.
pub(crate) fn order(a: (&PolicyId, &Policy), b: (&PolicyId, &Policy)) -> std::cmp::Ordering {
    (&a.1.tier, a.1.order, a.0).cmp(&(&b.1.tier, b.1.order, b.0))
}

/// The list of a pod that these policies select, given in order; `None` if none covers the direction.
pub(crate) fn rule_list(
    direction: Direction,
    pod: &Pod,
    selecting: &[(&Policy, &PolicyRules, Selection)],
) -> Option<RuleList> {
    let mut tiers: Vec<(&crate::model::Tier, TierRules)> = Vec::new();
    for (policy, rules, selection) in selecting {
        if !rules.covers(direction) {
            continue;
        }
        let mut rules = rules.for_subject(direction, *selection, &pod.ports);
        match tiers.last_mut() {
            Some((tier, last)) if *tier == &policy.tier => last.rules.append(&mut rules),
            Some(_) | None => {
                let tier = &policy.tier;
                tiers.push((
                    tier,
                    TierRules {
                        name: tier.name.clone(),
                        rules,
                        end: tier.end,
                    },
                ));
            }
        }
    }
    let tiers: Vec<TierRules> = tiers.into_iter().map(|(_, rules)| rules).collect();
    (!tiers.is_empty()).then_some(RuleList { direction, tiers })
}

/// The sets that rule lists use.
pub(crate) fn used<'a>(
    lists: impl IntoIterator<Item = &'a RuleList>,
) -> (BTreeSet<AddressSetId>, BTreeSet<ServiceSetId>) {
    let (mut sets, mut services) = (BTreeSet::new(), BTreeSet::new());
    let tiers = lists.into_iter().flat_map(|list| &list.tiers);
    for rule in tiers.flat_map(|tier| &tier.rules) {
        match &rule.matches {
            Match::Traffic {
                peer: Peer::Set(id),
                ..
            } => drop(sets.insert(*id)),
            Match::Traffic {
                peer: Peer::Any | Peer::Cidrs(_),
                ..
            } => {}
            Match::Service(id) => drop(services.insert(*id)),
        }
    }
    (sets, services)
}
