use margay_policy::node_policy::{AddressSetId, RuleListId};
use proptest::prelude::*;

use super::{Replica, ReplicaError};
use crate::diff::diff;
use crate::message::{Message, NodeState, Revision};
use crate::samples;

#[test]
fn a_snapshot_then_deltas_then_in_sync() {
    let mut replica = Replica::default();
    let (old, new) = (samples::two_pods(), samples::two_pods_and_a_member());
    let all = replica.handle(snapshot(3, &old)).unwrap();
    assert_eq!(all, diff(&NodeState::default(), &old));
    let changes = replica.handle(delta(3, 4, &old, &new)).unwrap();
    assert_eq!(changes, diff(&old, &new));
    assert!(!replica.in_sync());
    replica
        .handle(Message::InSync {
            revision: revision(4),
        })
        .unwrap();
    assert!(replica.in_sync());
    assert_eq!(
        (replica.state(), replica.revision()),
        (&new, Some(&revision(4)))
    );
}

#[test]
fn a_second_snapshot_tells_only_the_difference() {
    let (old, new) = (samples::two_pods(), samples::two_pods_and_a_member());
    let mut replica = Replica::resume(old.clone(), revision(3));
    let other = Revision {
        run: "later".to_owned(),
        count: 1,
    };
    let message = Message::Snapshot {
        revision: other.clone(),
        state: Box::new(new.clone()),
    };
    assert_eq!(replica.handle(message), Ok(diff(&old, &new)));
    assert_eq!(replica.revision(), Some(&other));
}

#[test]
fn a_state_is_the_same_in_another_run_if_its_digest_is() {
    let state = samples::two_pods();
    let mut replica = Replica::resume(state.clone(), revision(3));
    assert_eq!(replica.state().digest(), state.digest());
    assert_ne!(
        state.digest(),
        samples::two_pods_and_a_member().digest(),
        "states that differ"
    );
    let other = Revision {
        run: "other".to_owned(),
        count: 1,
    };
    let same = Message::Same {
        revision: other.clone(),
    };
    assert_eq!(replica.handle(same.clone()), Ok(Vec::new()));
    assert_eq!(
        (replica.state(), replica.revision()),
        (&state, Some(&other))
    );
    refused(Replica::default(), same, "no state to change yet");
}

#[test]
fn nothing_can_change_before_the_snapshot() {
    let state = samples::two_pods();
    refused(
        Replica::default(),
        delta(0, 1, &NodeState::default(), &state),
        "no state to change yet",
    );
    refused(
        Replica::default(),
        Message::InSync {
            revision: revision(0),
        },
        "did not begin with a snapshot",
    );
}

#[test]
fn gaps_repeats_and_other_runs_are_refused() {
    let (old, new) = (samples::two_pods(), samples::two_pods_and_a_member());
    let replica = Replica::resume(old.clone(), revision(3));
    let gap = "builds upon revision 5, the state here is at revision 3";
    refused(replica.clone(), delta(5, 6, &old, &new), gap);
    refused(
        replica.clone(),
        delta(2, 3, &old, &new),
        "builds upon revision 2",
    );
    refused(
        replica.clone(),
        delta(3, 3, &old, &new),
        "from revision 3 back to 3",
    );
    refused(
        replica.clone(),
        Message::InSync {
            revision: revision(9),
        },
        "builds upon revision 9",
    );
    let elsewhere = Revision {
        run: "later".to_owned(),
        count: 4,
    };
    let changes = diff(&old, &new);
    let message = Message::Delta {
        since: 3,
        revision: elsewhere,
        changes,
    };
    refused(
        replica,
        message,
        "belongs to run later of the controller, the state here to run r",
    );
}

#[test]
fn what_refers_to_nothing_is_refused() {
    let whole = samples::two_pods();
    let empty = Replica::resume(NodeState::default(), revision(3));
    let mut without_set = whole.clone();
    without_set.policy.address_sets.remove(&AddressSetId(1));
    let mut without_list = whole.clone();
    without_list.policy.rule_lists.remove(&RuleListId(1));
    let default = NodeState::default();
    for (state, reason) in [
        (
            &without_set,
            "rule list 00000000000000000000000000000001 refers to address set",
        ),
        (&without_list, "pod default/a refers to rule list"),
    ] {
        refused(Replica::default(), snapshot(1, state), reason);
        refused(empty.clone(), delta(3, 4, &default, state), reason);
    }
    let Message::Delta {
        since,
        revision,
        mut changes,
    } = delta(3, 4, &default, &whole)
    else {
        unreachable!()
    };
    changes.reverse();
    refused(
        empty,
        Message::Delta {
            since,
            revision,
            changes,
        },
        "pod default/a refers to rule list",
    );
}

proptest! {
    #[test]
    fn deltas_on_a_replica_give_the_snapshot(states in prop::collection::vec(samples::state(), 1..8)) {
        let mut replica = Replica::default();
        replica.handle(snapshot(0, &states[0])).unwrap();
        let mut count = 0;
        for pair in states.windows(2) {
            prop_assert!(replica.handle(delta(count, count + 1, &pair[0], &pair[1])).is_ok());
            count += 1;
        }
        let mut fresh = Replica::default();
        fresh.handle(snapshot(count, states.last().unwrap())).unwrap();
        prop_assert_eq!(replica, fresh);
    }
}

fn refused(mut replica: Replica, message: Message, reason: &str) {
    let before = replica.clone();
    let error: ReplicaError = replica.handle(message).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(replica, before);
}

fn revision(count: u64) -> Revision {
    Revision {
        run: "r".to_owned(),
        count,
    }
}

fn snapshot(count: u64, state: &NodeState) -> Message {
    Message::Snapshot {
        revision: revision(count),
        state: Box::new(state.clone()),
    }
}

fn delta(since: u64, count: u64, old: &NodeState, new: &NodeState) -> Message {
    Message::Delta {
        since,
        revision: revision(count),
        changes: diff(old, new),
    }
}
