use proptest::prelude::*;

use super::squash;
use crate::diff::diff;
use crate::message::{Change, NodeState};
use crate::samples;

#[test]
fn a_member_that_came_and_went_leaves_one_small_change() {
    let (old, new) = (samples::two_pods(), samples::two_pods_and_a_member());
    let changes = [diff(&old, &new), diff(&new, &old), diff(&old, &new)].concat();
    assert_eq!(squash(&changes), diff(&old, &new));
}

#[test]
fn members_of_a_set_that_was_deleted_in_between_do_not_survive() {
    let old = samples::two_pods_and_a_member();
    let empty = NodeState::default();
    let new = samples::two_pods();
    let changes = [diff(&old, &empty), diff(&empty, &new)].concat();
    let mut state = old;
    for change in squash(&changes) {
        apply(&mut state, &change);
    }
    assert_eq!(state, new);
}

proptest! {
    #[test]
    fn squashed_is_as_good_as_unsquashed(states in prop::collection::vec(samples::state(), 2..8)) {
        let mut changes: Vec<Change> = Vec::new();
        for pair in states.windows(2) {
            changes.extend(diff(&pair[0], &pair[1]));
        }
        let mut state = states[0].clone();
        for change in squash(&changes) {
            apply(&mut state, &change);
        }
        prop_assert_eq!(&state, states.last().unwrap());
        prop_assert_eq!(squash(&squash(&changes)), squash(&changes));
    }
}

fn apply(state: &mut NodeState, change: &Change) {
    match change {
        Change::Policy(change) => state.policy.apply(change),
        Change::Network(network) => state.network.clone_from(network),
    }
}
