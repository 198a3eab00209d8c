use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::lower::lower;
use crate::rooms::Rooms;
use crate::testing::{State, Step, kernel, state, step};

fn perform(planner: &mut Planner, step: &Step) -> Plan {
    match step {
        Step::Policy(changes) => planner.apply(changes),
        Step::Attach(pod, attachment) => planner.attach(pod, attachment.clone()),
        Step::Detach(pod) => planner.detach(pod),
        Step::Nat(nat) => planner.set_nat(nat.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_change_gives_what_lowering_all_anew_and_comparing_gives(
        start in state(),
        steps in vec(step(), 1..30),
        least in 1..9_u32,
    ) {
        let mut now = start;
        now.local.rooms = Rooms::at_least(least);
        let mut planner = Planner::new(now.policy.clone(), now.local.clone());
        prop_assert_eq!(planner.ruleset(), &lower(&now.policy, &now.local));
        now.local.rooms.settle(planner.ruleset());
        let mut actual = Actual::from(planner.ruleset());
        for step in &steps {
            let old = now.clone();
            now.apply(step);
            let touched = touched((&old.policy, &old.local), (&now.policy, &now.local));
            let sweep = now.local.epochs.bump(&touched);
            let lowered = lower(&now.policy, &now.local);
            now.local.rooms.settle(&lowered);

            let plan = perform(&mut planner, step);
            prop_assert_eq!(planner.policy(), &now.policy);
            prop_assert_eq!(planner.local(), &now.local, "after {:?}", step);
            prop_assert_eq!(plan.sweep, sweep);
            let desired = lower(&now.policy, &now.local);
            prop_assert_eq!(planner.ruleset(), &desired);
            prop_assert_eq!(&plan.operations, &diff(&actual, &desired));
            prop_assert_eq!(kernel::apply(&mut actual, &plan.operations), Ok(()));
        }
    }

    #[test]
    fn another_policy_replaces_all(start in state(), other in state()) {
        let mut planner = Planner::new(start.policy.clone(), start.local.clone());
        let mut actual = Actual::from(planner.ruleset());
        let plan = planner.replace(other.policy.clone());
        prop_assert_eq!(kernel::apply(&mut actual, &plan.operations), Ok(()));
        prop_assert_eq!(planner.ruleset(), &lower(&other.policy, planner.local()));
        prop_assert_eq!(actual, Actual::from(planner.ruleset()));
    }
}

#[test]
fn rejudging_leaves_only_the_new_epoch_alive() {
    let State { policy, local } = State::default();
    let mut planner = Planner::new(policy, local);
    let mut actual = Actual::from(planner.ruleset());
    let plan = planner.rejudge();
    kernel::apply(&mut actual, &plan.operations).unwrap();
    assert_eq!(actual, Actual::from(planner.ruleset()));
    assert_eq!(planner.ruleset().sets[names::WINDOW].elements.len(), 1);
    assert_eq!(planner.local().epochs.current(), 2);
}
