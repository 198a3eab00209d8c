use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::lower::lower;
use crate::ruleset::{Ruleset, Set};
use crate::sim::{Packet, run};
use crate::testing::{State, packet, state, step};
use crate::touched::touched;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(count: u32) -> Touched {
    let address = |number| IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + number));
    Touched::Addresses((0..count).map(address).collect())
}

fn at(current: u16) -> Epochs {
    Epochs {
        current,
        past: VecDeque::new(),
    }
}

fn live(epochs: &Epochs) -> Vec<(u16, usize)> {
    epochs
        .past
        .iter()
        .map(|past| (past.epoch, past.stale.len()))
        .collect()
}

/// Whether a packet of a connection with this mark and end leaves without being judged.
fn unjudged(epochs: &Epochs, epoch: u16, end: IpAddr) -> bool {
    epoch == epochs.current
        || epochs
            .past
            .iter()
            .any(|past| past.epoch == epoch && !past.stale.contains(&end))
}

#[test]
fn loosening_begins_no_epoch() {
    let mut epochs = Epochs::default();
    assert_eq!(epochs.turn(&Touched::Nothing), Turn::default());
    assert_eq!(
        epochs.turn(&Touched::Addresses(BTreeSet::new())),
        Turn::default()
    );
    assert_eq!(epochs, Epochs::default());
}

#[test]
fn a_touched_address_is_stale_in_every_older_epoch() {
    let mut epochs = at(7);
    epochs.bump(&Touched::Addresses([address("10.0.0.1")].into()));
    epochs.bump(&Touched::Addresses([address("fd00::1")].into()));
    assert_eq!(epochs.current(), 9);
    assert_eq!(live(&epochs), [(7, 2), (8, 1)]);
    assert!(unjudged(&epochs, 8, address("10.0.0.1")));
    assert!(!unjudged(&epochs, 8, address("fd00::1")));
    assert!(
        !unjudged(&epochs, 6, address("192.0.2.1")),
        "epochs that are not live are judged again"
    );
}

#[test]
fn sixteen_epochs_are_live() {
    let mut epochs = at(1);
    for _ in 0..20 {
        epochs.bump(&addresses(1));
    }
    assert_eq!(live(&epochs).len(), 15);
    assert_eq!((epochs.past[0].epoch, epochs.current()), (6, 21));
}

#[test]
fn too_many_touched_addresses_end_the_life_of_older_epochs() {
    let mut epochs = at(1);
    epochs.bump(&addresses(200));
    assert_eq!(live(&epochs), [(1, 200)]);
    let mut other: BTreeSet<IpAddr> = (0..100).map(|n| address(&format!("192.0.2.{n}"))).collect();
    epochs.bump(&Touched::Addresses(other.clone()));
    assert_eq!(live(&epochs), [(2, 100)], "epoch 1 would have 300");
    other.extend((0..200).map(|n| address(&format!("198.51.100.{n}"))));
    epochs.bump(&Touched::Addresses(other));
    assert_eq!(live(&epochs), []);
    epochs.bump(&addresses(1));
    epochs.bump(&Touched::Everything);
    assert_eq!(live(&epochs), []);
}

#[test]
fn each_half_is_swept_before_it_is_entered_again() {
    let mut epochs = at(2046);
    assert_eq!(epochs.bump(&addresses(1)), None);
    assert_eq!(
        epochs.bump(&addresses(1)),
        Some(Sweep {
            first: 2048,
            last: 4095
        })
    );
    let mut epochs = at(4094);
    assert_eq!(epochs.bump(&addresses(1)), None);
    assert_eq!(
        epochs.bump(&addresses(1)),
        Some(Sweep {
            first: 1,
            last: 2047
        })
    );
    assert_eq!(epochs.current(), 1);
    assert_eq!(
        Sweep {
            first: 1,
            last: 2047
        }
        .cleared(mark(2047) | 5),
        Some(5)
    );
    assert_eq!(
        Sweep {
            first: 1,
            last: 2047
        }
        .cleared(mark(2048) | 5),
        None
    );
    assert_eq!(Sweep::ALL.cleared(5), None, "never judged already");
}

#[test]
fn a_connection_that_slept_through_whole_rounds_is_judged_when_it_wakes() {
    let end = address("10.0.0.0");
    let mut epochs = at(3000);
    let mut sleepers = BTreeSet::new();
    for _ in 0..9000 {
        sleepers.insert(epochs.current());
        if let Some(sweep) = epochs.bump(&addresses(1)) {
            sleepers.retain(|epoch| sweep.cleared(mark(*epoch)).is_none());
        }
        let live = epochs
            .past
            .iter()
            .map(|past| past.epoch)
            .chain([epochs.current()]);
        for epoch in live.filter(|epoch| sleepers.contains(epoch)) {
            assert!(!unjudged(&epochs, epoch, end), "{epoch} of {epochs:?}");
        }
    }
}

#[test]
fn a_table_whose_epochs_make_no_sense_starts_anew_at_an_epoch_it_does_not_stamp() {
    let mut ruleset = lower(&State::default().policy, &State::default().local);
    ruleset
        .sets
        .get_mut(names::WINDOW)
        .unwrap()
        .elements
        .clear();
    let (epochs, sweep) = Epochs::adopt(&Actual::from(&ruleset));
    assert_eq!((epochs, sweep), (at(2), Some(Sweep::ALL)));
    assert_eq!(Epochs::adopt(&Actual::default()), (at(1), Some(Sweep::ALL)));
}

fn kernel_with(epochs: Epochs) -> Ruleset {
    let mut state = State::default();
    state.local.epochs = epochs;
    lower(&state.policy, &state.local)
}

fn apply(turn: &Turn, sets: &mut std::collections::BTreeMap<String, Set>) {
    for (set, key) in &turn.remove {
        assert!(
            sets.get_mut(*set).unwrap().elements.remove(key).is_some(),
            "{set} {key:?}"
        );
    }
    for (set, key) in &turn.add {
        assert!(
            sets.get_mut(*set)
                .unwrap()
                .elements
                .insert(key.clone(), None)
                .is_none(),
            "{set} {key:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_turn_is_the_difference_of_the_sets_and_a_restart_finds_the_same_epochs(
        start in prop_oneof![1..=5u16, 2040..=2050u16, 4085..=4095u16],
        changes in vec(prop_oneof![
            20 => (0..300u32, 1..30u32).prop_map(|(first, count)| Touched::Addresses(
                (first..first + count).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect()
            )),
            1 => Just(Touched::Everything),
            1 => Just(Touched::Nothing),
        ], 0..24),
    ) {
        let mut epochs = at(start);
        let mut sets = kernel_with(epochs.clone()).sets;
        for change in &changes {
            apply(&epochs.turn(change), &mut sets);
            let ruleset = kernel_with(epochs.clone());
            prop_assert_eq!(&sets, &ruleset.sets);
        }
        let ruleset = kernel_with(epochs.clone());
        prop_assert_eq!(Epochs::adopt(&Actual::from(&ruleset)), (epochs, None));
    }

    #[test]
    fn an_established_connection_never_outlives_its_permission(
        mut state in state(),
        start in prop_oneof![Just(1), 2040..=2048u16, 4085..=4095u16],
        flows in vec(packet(), 60),
        steps in vec((step(), vec(any::<Index>(), 0..20)), 1..20),
    ) {
        state.local.epochs = at(start);
        let mut flows = flows;
        for flow in &mut flows {
            send(&lower(&state.policy, &state.local), flow)?;
        }
        for (step, talking) in &steps {
            let before = state.clone();
            state.apply(step);
            let touched = touched((&before.policy, &before.local), (&state.policy, &state.local));
            if let Some(sweep) = state.local.epochs.bump(&touched) {
                for connection in flows.iter_mut().filter_map(|flow| flow.connection.as_mut()) {
                    connection.mark = sweep.cleared(connection.mark).unwrap_or(connection.mark);
                }
            }
            let ruleset = lower(&state.policy, &state.local);
            for flow in &flows {
                send(&ruleset, &mut flow.clone())?;
            }
            // Only some connections have packets in this epoch.
            for index in talking {
                send(&ruleset, index.get_mut(&mut flows))?;
            }
        }
    }
}

/// A packet of the connection: it must fare as if it were judged now.
fn send(ruleset: &Ruleset, flow: &mut Packet) -> Result<(), TestCaseError> {
    let outcome = run(ruleset, flow);
    let mut fresh = flow.clone();
    fresh.connection.as_mut().unwrap().mark = 0;
    prop_assert_eq!(
        outcome.accepted,
        run(ruleset, &fresh).accepted,
        "{:?}\n{:?}",
        flow,
        outcome.trace
    );
    flow.connection.as_mut().unwrap().mark = outcome.mark;
    Ok(())
}
