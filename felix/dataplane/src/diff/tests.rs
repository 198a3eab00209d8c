use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::lower::lower;
use crate::names;
use crate::testing::{State, kernel, state};

#[test]
fn nothing_differs_from_itself() {
    let ruleset = lower(&State::default().policy, &State::default().local);
    assert_eq!(diff(&Actual::from(&ruleset), &ruleset), []);
}

#[test]
fn a_foreign_rule_has_its_chain_filled_again() {
    let ruleset = lower(&State::default().policy, &State::default().local);
    let mut actual = Actual::from(&ruleset);
    actual
        .chains
        .get_mut(names::STAMP)
        .unwrap()
        .rules
        .insert(0, ActualRule::Foreign);
    let stamp = names::STAMP.to_owned();
    let rule = ruleset.chains[names::STAMP].rules[0].clone();
    assert_eq!(
        diff(&actual, &ruleset),
        [
            Operation::FlushChain {
                chain: stamp.clone()
            },
            Operation::AddRule { chain: stamp, rule }
        ]
    );
}

#[test]
fn a_set_of_another_type_is_made_anew_with_the_rules_that_look_into_it() {
    let ruleset = lower(&State::default().policy, &State::default().local);
    let mut actual = Actual::from(&ruleset);
    actual.sets.insert(
        names::from_pod(crate::ruleset::Family::V4).to_owned(),
        ActualSet::Foreign,
    );
    let operations = diff(&actual, &ruleset);
    kernel::apply(&mut actual, &operations).unwrap();
    assert_eq!(actual, Actual::from(&ruleset));
}

/// What others may do to our table.
#[derive(Clone, Debug)]
enum Damage {
    DropSetElement(Index, Index),
    ForeignSet(Index),
    UnknownSet,
    ForeignRule(Index, Index),
    DropRule(Index, Index),
    UnknownChain,
    ForeignHook(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<(Index, Index)>().prop_map(|(set, element)| Damage::DropSetElement(set, element)),
        any::<Index>().prop_map(Damage::ForeignSet),
        Just(Damage::UnknownSet),
        any::<(Index, Index)>().prop_map(|(chain, rule)| Damage::ForeignRule(chain, rule)),
        any::<(Index, Index)>().prop_map(|(chain, rule)| Damage::DropRule(chain, rule)),
        Just(Damage::UnknownChain),
        any::<Index>().prop_map(Damage::ForeignHook),
    ]
}

fn inflict(actual: &mut Actual, damage: &Damage) {
    let chains: Vec<_> = actual.chains.keys().cloned().collect();
    let sets: Vec<_> = actual.sets.keys().cloned().collect();
    match damage {
        Damage::DropSetElement(set, element) => {
            if let Some(ActualSet::Known(set)) = actual.sets.get_mut(set.get(&sets))
                && !set.elements.is_empty()
            {
                let key = element
                    .get(&set.elements.keys().cloned().collect::<Vec<_>>())
                    .clone();
                set.elements.remove(&key);
            }
        }
        Damage::ForeignSet(set) => {
            actual
                .sets
                .insert(set.get(&sets).clone(), ActualSet::Foreign);
        }
        Damage::UnknownSet => {
            actual.sets.insert("theirs".to_owned(), ActualSet::Foreign);
        }
        Damage::ForeignRule(chain, rule) => {
            let rules = &mut actual.chains.get_mut(chain.get(&chains)).unwrap().rules;
            rules.insert(rule.index(rules.len() + 1), ActualRule::Foreign);
        }
        Damage::DropRule(chain, rule) => {
            let rules = &mut actual.chains.get_mut(chain.get(&chains)).unwrap().rules;
            if !rules.is_empty() {
                rules.remove(rule.index(rules.len()));
            }
        }
        Damage::UnknownChain => {
            let rules = vec![ActualRule::Foreign];
            let chain = ActualChain {
                base: ActualBase::Foreign,
                rules,
            };
            actual.chains.insert("theirs".to_owned(), chain);
        }
        Damage::ForeignHook(chain) => {
            let base = [names::FORWARD, names::INPUT, names::PREROUTING];
            let chain = base[chain.index(base.len())];
            if let Some(chain) = actual.chains.get_mut(chain) {
                chain.base = ActualBase::Foreign;
            }
        }
    }
}

proptest! {
    #[test]
    fn the_operations_lead_from_any_state_to_any_other(
        old in state(),
        new in state(),
        damages in proptest::collection::vec(damage(), 0..4),
    ) {
        let mut actual = Actual::from(&lower(&old.policy, &old.local));
        for damage in &damages {
            inflict(&mut actual, damage);
        }
        let desired = lower(&new.policy, &new.local);
        let operations = diff(&actual, &desired);
        prop_assert_eq!(kernel::apply(&mut actual, &operations), Ok(()));
        prop_assert_eq!(&actual, &Actual::from(&desired));
        prop_assert_eq!(diff(&actual, &desired), vec![]);
    }

    #[test]
    fn every_ruleset_loads_into_an_empty_table(state in state()) {
        prop_assert_eq!(kernel::load(&lower(&state.policy, &state.local)), Ok(()));
    }
}
