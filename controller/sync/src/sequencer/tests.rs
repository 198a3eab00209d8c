use proptest::prelude::*;

use super::{Missed, Sequencer};
use crate::diff::diff;
use crate::message::{Message, NodeState, Revision};
use crate::replica::Replica;
use crate::samples;

#[test]
fn a_reader_that_is_up_to_date_misses_nothing() {
    let sequencer = Sequencer::new(revision(5), 100);
    assert_eq!(sequencer.missed(Some(&revision(5))), Missed::Nothing);
}

#[test]
fn readers_of_another_run_or_an_unknown_place_need_everything() {
    let mut sequencer = Sequencer::new(revision(5), 100);
    sequencer.record(9, diff(&NodeState::default(), &samples::two_pods()));
    let elsewhere = Revision {
        run: "other".to_owned(),
        count: 5,
    };
    for place in [
        None,
        Some(&elsewhere),
        Some(&revision(4)),
        Some(&revision(6)),
        Some(&revision(10)),
    ] {
        assert_eq!(sequencer.missed(place), Missed::Everything, "{place:?}");
    }
    assert!(matches!(
        sequencer.missed(Some(&revision(5))),
        Missed::Changes { since: 5, .. }
    ));
}

#[test]
fn the_log_is_bounded() {
    let (a, b) = (samples::two_pods(), samples::two_pods_and_a_member());
    let mut sequencer = Sequencer::new(revision(0), 10);
    for count in 1..100 {
        let (old, new) = if count % 2 == 1 { (&a, &b) } else { (&b, &a) };
        sequencer.record(count, diff(old, new));
        assert!(sequencer.weight() <= 10 && sequencer.log.len() <= 5);
    }
    assert_eq!(sequencer.missed(Some(&revision(93))), Missed::Everything);
    assert_eq!(
        sequencer.missed(Some(&revision(0))),
        Missed::Everything,
        "where it began"
    );
    assert!(matches!(
        sequencer.missed(Some(&revision(94))),
        Missed::Changes { since: 94, .. }
    ));
    let missed = sequencer.missed(Some(&revision(95)));
    let Missed::Changes { changes, .. } = missed else {
        panic!("{missed:?}")
    };
    assert_eq!(changes.len(), 1, "merged");
}

#[test]
fn a_reader_that_keeps_up_gets_a_delta_however_large() {
    let mut sequencer = Sequencer::new(revision(5), 1);
    sequencer.record(9, diff(&NodeState::default(), &samples::two_pods()));
    assert!(matches!(
        sequencer.missed(Some(&revision(5))),
        Missed::Changes { since: 5, .. }
    ));
}

#[test]
fn no_change_is_no_revision() {
    let mut sequencer = Sequencer::new(revision(5), 100);
    sequencer.record(6, Vec::new());
    assert_eq!(sequencer.revision(), &revision(5));
}

#[test]
fn changes_between_counts_are_seen() {
    let mut sequencer = Sequencer::new(revision(5), 100);
    sequencer.record(9, diff(&NodeState::default(), &samples::two_pods()));
    assert!(sequencer.changed_between(5, 9) && sequencer.changed_between(8, 12));
    assert!(!sequencer.changed_between(9, 12) && !sequencer.changed_between(5, 8));
    assert!(
        sequencer.changed_between(2, 5),
        "not remembered: assume the worst"
    );
}

proptest! {
    /// Readers that come, fall behind and resume anywhere end with what a snapshot says.
    #[test]
    fn resuming_at_any_revision_gives_the_snapshot(
        states in prop::collection::vec(samples::state(), 1..12),
        limit in prop_oneof![Just(8_usize), Just(1_000)],
    ) {
        let mut sequencer = Sequencer::new(revision(0), limit);
        let mut readers: Vec<Replica> = Vec::new();
        let mut state = NodeState::default();
        for (step, next) in states.iter().enumerate() {
            let count = sequencer.revision().count + 1 + u64::try_from(step % 3).unwrap();
            sequencer.record(count, diff(&state, next));
            state = next.clone();
            let mut replica = Replica::default();
            catch_up(&sequencer, &state, &mut replica);
            readers.push(replica);
            // Every other reader keeps up, the rest stay behind.
            for reader in readers.iter_mut().step_by(2) {
                catch_up(&sequencer, &state, reader);
            }
        }
        for mut reader in readers {
            catch_up(&sequencer, &state, &mut reader);
            prop_assert_eq!(reader.state(), &state);
            prop_assert_eq!(reader.revision(), Some(sequencer.revision()));
        }
    }
}

/// What the serving daemon does.
fn catch_up(sequencer: &Sequencer, state: &NodeState, replica: &mut Replica) {
    let message = match sequencer.missed(replica.revision()) {
        Missed::Nothing => return,
        Missed::Changes {
            since,
            revision,
            changes,
        } => Message::Delta {
            since,
            revision,
            changes,
        },
        Missed::Everything => Message::Snapshot {
            revision: sequencer.revision().clone(),
            state: Box::new(state.clone()),
        },
    };
    replica.handle(message).unwrap();
}

fn revision(count: u64) -> Revision {
    Revision {
        run: "r".to_owned(),
        count,
    }
}
