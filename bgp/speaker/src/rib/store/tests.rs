use super::*;

fn attrs(med: u32) -> PathAttrs {
    PathAttrs {
        med: Some(med),
        communities: vec![NO_EXPORT, 7],
        ..PathAttrs::default()
    }
}

fn next_hop() -> NextHop {
    NextHop::V4("192.0.2.1".parse().unwrap())
}

#[test]
fn equal_attributes_are_one() {
    let mut store = AttrStore::new(1);
    let first = store.intern(&attrs(1), next_hop());
    assert_eq!(store.intern(&attrs(1), next_hop()), first);
    assert_ne!(store.intern(&attrs(2), next_hop()), first);
    let other = NextHop::V4("192.0.2.2".parse().unwrap());
    assert_ne!(store.intern(&attrs(1), other), first);
    assert_eq!(store.len(), 3);
    assert_eq!(store.get(first).attrs(), attrs(1));
    assert!(store.get(first).rank.marks.has(Marks::NO_EXPORT));
    assert!(!store.get(first).rank.marks.has(Marks::NO_ADVERTISE));
}

#[test]
fn what_nobody_holds_is_forgotten() {
    let mut store = AttrStore::new(1);
    let ids: Vec<_> = (0..1000)
        .map(|med| store.intern(&attrs(med), next_hop()))
        .collect();
    for id in &ids[1..] {
        store.release(*id);
    }
    assert_eq!(store.len(), 1);
    store.hold(ids[0]);
    store.release(ids[0]);
    assert_eq!(store.get(ids[0]).attrs(), attrs(0));
    let new = store.intern(&attrs(5000), next_hop());
    assert_eq!(store.get(new).attrs(), attrs(5000));
    assert_eq!(store.entries.len(), 1000, "places are used again");
}
