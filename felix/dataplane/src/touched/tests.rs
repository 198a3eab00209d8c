use margay_policy::model::{Action, PodId, TierEnd};
use margay_policy::node_policy::{
    AddressSetId, Match, Peer, PolicyChange, Ports, Rule, ServiceSetId, TierRules,
};

use super::*;
use crate::testing::{attach, endpoint, origin};

const SET: AddressSetId = AddressSetId(7);

/// One pod, 10.0.0.1, under ingress list 1, which asks for members of a set.
fn isolated(action: Action) -> (NodePolicy, Local) {
    let mut policy = NodePolicy::default();
    let mut local = Local::default();
    policy.address_sets.insert(SET, addresses(&["10.0.0.8"]));
    policy
        .rule_lists
        .insert(RuleListId(1), list(&[Peer::Set(SET)], action));
    policy.endpoints.insert(pod(), endpoint(Some(1), None));
    attach(&mut local, &pod(), "mgy0", &["10.0.0.1"]);
    (policy, local)
}

fn list(peers: &[Peer], action: Action) -> RuleList {
    let rule = |(rule, peer): (usize, &Peer)| Rule {
        matches: Match::Traffic {
            peer: peer.clone(),
            ports: Ports::Any,
        },
        action,
        origin: origin(Direction::Ingress, rule),
    };
    let rules = peers.iter().enumerate().map(rule).collect();
    let tier = TierRules {
        name: "t".to_owned(),
        rules,
        end: TierEnd::Deny,
    };
    RuleList {
        direction: Direction::Ingress,
        tiers: vec![tier],
    }
}

fn pod() -> PodId {
    PodId::new("ns", "p")
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn some(texts: &[&str]) -> Touched {
    Touched::Addresses(addresses(texts))
}

fn after(action: Action, changes: &[PolicyChange]) -> Touched {
    let (old, local) = isolated(action);
    let mut new = old.clone();
    for change in changes {
        new.apply(change);
    }
    touched((&old, &local), (&new, &local))
}

fn patch(add: &[&str], remove: &[&str]) -> PolicyChange {
    PolicyChange::PatchAddressSet {
        id: SET,
        add: addresses(add),
        remove: addresses(remove),
    }
}

fn put(id: u128, peers: &[Peer]) -> [PolicyChange; 2] {
    let list = list(peers, Action::Allow);
    [
        PolicyChange::PutRuleList {
            id: RuleListId(id),
            list,
        },
        PolicyChange::PutEndpoint {
            pod: pod(),
            endpoint: endpoint(Some(id), None),
        },
    ]
}

#[test]
fn a_set_of_peers_touches_whom_it_loses() {
    assert_eq!(
        after(Action::Allow, &[patch(&["10.0.0.9"], &["10.0.0.8"])]),
        some(&["10.0.0.8"])
    );
    assert_eq!(
        after(Action::Allow, &[patch(&["10.0.0.9"], &[])]),
        Touched::Nothing
    );
    assert_eq!(
        after(Action::Allow, &[patch(&[], &["10.0.0.9"])]),
        Touched::Nothing,
        "was no member"
    );
}

#[test]
fn with_deny_and_pass_a_new_member_is_touched_too() {
    for action in [Action::Deny, Action::Pass] {
        assert_eq!(
            after(action, &[patch(&["10.0.0.9"], &[])]),
            some(&["10.0.0.9"])
        );
    }
}

#[test]
fn a_set_that_no_list_in_force_looks_into_touches_nobody() {
    let other = PolicyChange::PatchAddressSet {
        id: AddressSetId(8),
        add: BTreeSet::new(),
        remove: addresses(&["10.0.0.8"]),
    };
    let other_family = patch(&[], &["fd00::8"]);
    let service = PolicyChange::DeleteServiceSet {
        id: ServiceSetId(1),
    };
    assert_eq!(
        after(Action::Allow, &[other, other_family, service]),
        Touched::Nothing
    );
}

#[test]
fn one_more_rule_touches_nobody_and_one_less_the_pod() {
    let more = put(2, &[Peer::Cidrs(Vec::new()), Peer::Set(SET)]);
    assert_eq!(after(Action::Allow, &more), Touched::Nothing);
    let mut lost = more.to_vec();
    lost.push(patch(&[], &["10.0.0.8"]));
    assert_eq!(
        after(Action::Allow, &lost),
        some(&["10.0.0.8"]),
        "its set still lost a member"
    );
    assert_eq!(
        after(Action::Allow, &put(2, &[Peer::Any])),
        some(&["10.0.0.1"]),
        "not seen to be looser"
    );
    assert_eq!(after(Action::Allow, &put(2, &[])), some(&["10.0.0.1"]));
}

#[test]
fn a_pod_that_gets_free_touches_nobody_and_one_that_gets_isolated_itself() {
    let free = PolicyChange::PutEndpoint {
        pod: pod(),
        endpoint: endpoint(None, None),
    };
    assert_eq!(
        after(Action::Allow, std::slice::from_ref(&free)),
        Touched::Nothing
    );
    let (isolated, local) = isolated(Action::Allow);
    let mut open = isolated.clone();
    open.apply(&free);
    assert_eq!(
        touched((&open, &local), (&isolated, &local)),
        some(&["10.0.0.1"])
    );
}

#[test]
fn a_pod_that_comes_or_goes_is_touched_unless_it_comes_open() {
    let (policy, local) = isolated(Action::Allow);
    let nobody = Local::default();
    assert_eq!(
        touched((&policy, &nobody), (&policy, &local)),
        some(&["10.0.0.1"])
    );
    assert_eq!(
        touched((&policy, &local), (&policy, &nobody)),
        some(&["10.0.0.1"])
    );
    let mut open = policy.clone();
    open.endpoints.insert(pod(), endpoint(None, None));
    assert_eq!(touched((&open, &nobody), (&open, &local)), Touched::Nothing);
    let forgotten = PolicyChange::DeleteEndpoint { pod: pod() };
    assert_eq!(after(Action::Allow, &[forgotten]), some(&["10.0.0.1"]));
}

#[test]
fn another_link_touches_the_pod_and_other_pools_nobody() {
    let (policy, local) = isolated(Action::Allow);
    let mut moved = local.clone();
    attach(&mut moved, &pod(), "mgy1", &["10.0.0.1"]);
    assert_eq!(
        touched((&policy, &local), (&policy, &moved)),
        some(&["10.0.0.1"])
    );
    let mut other = local.clone();
    other.nat.sources.insert("10.0.0.0/8".parse().unwrap());
    assert_eq!(
        touched((&policy, &local), (&policy, &other)),
        Touched::Nothing
    );
}
