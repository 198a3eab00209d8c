use super::*;

/// Entries with hashes that collide on purpose.
fn hash_of(entry: u32) -> u64 {
    u64::from(entry % 7) << 32
}

#[test]
fn what_is_put_in_is_found_until_it_is_taken_out() {
    let mut index = Index::default();
    let mut present = std::collections::BTreeSet::new();
    let mut random = crate::jitter::Jitter::new(7);
    for _ in 0..20_000 {
        let entry = u32::try_from(random.next() % 300).unwrap();
        if present.insert(entry) {
            index.insert(entry, hash_of(entry));
        } else {
            present.remove(&entry);
            index.remove(entry, hash_of(entry));
        }
        let probe = u32::try_from(random.next() % 300).unwrap();
        let found = index.find(hash_of(probe), |other| other == probe);
        assert_eq!(found.is_some(), present.contains(&probe));
    }
    assert_eq!(index.used, present.len());
}
