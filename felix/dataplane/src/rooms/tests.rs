use super::*;
use crate::diff::diff;
use crate::local::Local;
use crate::lower::lower;
use crate::ruleset::{Key, KeyValue};
use margay_policy::node_policy::NodePolicy;

const SET: &str = "members4";

fn ruleset(rooms: &Rooms, elements: u128) -> Ruleset {
    let local = Local {
        rooms: rooms.clone(),
        ..Local::default()
    };
    let mut ruleset = lower(&NodePolicy::default(), &local);
    let key = |id| -> Key { vec![KeyValue::Id(id), KeyValue::Address([10, 0, 0, 1].into())] };
    let set = ruleset.sets.get_mut(SET).unwrap();
    set.elements = (0..elements).map(|id| (key(id), None)).collect();
    ruleset
}

#[test]
fn a_set_keeps_its_room_until_it_is_outgrown() {
    let mut rooms = Rooms::at_least(4);
    rooms.settle(&ruleset(&rooms, 3));
    assert_eq!(rooms.of(SET, 0), 8);
    assert_eq!(rooms.of(SET, 8), 8);
    assert_eq!(rooms.settle(&ruleset(&rooms, 8)), []);
    assert_eq!(rooms.settle(&ruleset(&rooms, 9)), [(SET, 32)]);
    assert_eq!(rooms.settle(&ruleset(&rooms, 1)), []);
    assert_eq!(rooms.of(SET, 1), 32);
}

#[test]
fn no_number_of_elements_is_too_large() {
    let rooms = Rooms::default();
    assert_eq!(rooms.of(SET, 0), LEAST);
    assert_eq!(rooms.of(SET, 1 << 31), u32::MAX);
    assert_eq!(rooms.of(SET, usize::MAX), u32::MAX);
}

#[test]
fn a_felix_that_starts_leaves_a_table_as_it_is_unless_it_is_far_too_large() {
    let mut rooms = Rooms::default();
    rooms.settle(&ruleset(&rooms, 3_000));
    let left = ruleset(&rooms, 2_000);
    let adopted = Rooms::adopt(&Actual::from(&left));
    assert_eq!(diff(&Actual::from(&left), &ruleset(&adopted, 2_000)), []);
    rooms.settle(&ruleset(&rooms, 30_000));
    let adopted = Rooms::adopt(&Actual::from(&ruleset(&rooms, 10)));
    assert_eq!(adopted.of(SET, 10), LEAST);
}
