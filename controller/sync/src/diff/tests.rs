use proptest::prelude::*;

use super::diff;
use crate::message::{Change, NodeState};
use crate::samples;

#[test]
fn equal_states_have_no_difference() {
    let state = samples::two_pods();
    assert_eq!(diff(&state, &state), []);
}

#[test]
fn only_the_new_member_travels() {
    let (old, new) = (samples::two_pods(), samples::two_pods_and_a_member());
    let text = serde_json::to_string(&diff(&old, &new)).unwrap();
    assert_eq!(
        text,
        r#"[{"policy":{"patch-address-set":{"id":"00000000000000000000000000000001","add":["10.0.0.9"],"remove":[]}}}]"#
    );
}

proptest! {
    #[test]
    fn applied_to_the_old_state_it_gives_the_new(old in samples::state(), new in samples::state()) {
        let mut state = old.clone();
        for change in diff(&old, &new) {
            apply(&mut state, &change);
        }
        prop_assert_eq!(state, new);
    }
}

fn apply(state: &mut NodeState, change: &Change) {
    match change {
        Change::Policy(change) => state.policy.apply(change),
        Change::Network(network) => state.network.clone_from(network),
    }
}
