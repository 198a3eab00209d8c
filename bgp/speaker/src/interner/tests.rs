use super::*;

fn attrs(med: u32) -> PathAttrs {
    PathAttrs {
        med: Some(med),
        ..PathAttrs::default()
    }
}

#[test]
fn equal_attributes_share_one_value() {
    let mut interner = Interner::default();
    let first = interner.intern(attrs(1));
    assert!(Arc::ptr_eq(&first, &interner.intern(attrs(1))));
    assert!(!Arc::ptr_eq(&first, &interner.intern(attrs(2))));
}

#[test]
fn what_nobody_holds_is_forgotten() {
    let mut interner = Interner::default();
    let held: Vec<_> = (0..100).map(|med| interner.intern(attrs(med))).collect();
    for med in 0..10_000 {
        interner.intern(attrs(med));
    }
    assert!(
        interner.known.len() <= 2 * held.len() + 1,
        "{}",
        interner.known.len()
    );
}
