//! Sets of fixed size in the kernel.

use super::*;

/// The set's members besides those of [`beginning`].
fn members(numbers: std::ops::Range<u32>) -> BTreeSet<IpAddr> {
    numbers
        .map(|number| IpAddr::from(std::net::Ipv4Addr::from(0x0a02_0000 + number)))
        .collect()
}

fn patch(add: BTreeSet<IpAddr>, remove: BTreeSet<IpAddr>) -> Change {
    let id = AddressSetId(7);
    Change::Policy(vec![PolicyChange::PatchAddressSet { id, add, remove }])
}

fn room() -> String {
    let set = nft(&["list", "set", "inet", "margay", "members4"]).unwrap();
    let size = set.lines().find(|line| line.contains("size"));
    size.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_set_is_filled_to_the_last_and_then_made_anew() {
    in_netns(|| {
        let running = Running::start(Ownership::Exclusive, beginning());
        started(running.report());
        assert_eq!(room(), "size 1024");
        // Two are there.
        running.apply(patch(members(0..1022), [].into())).unwrap();
        assert_eq!(room(), "size 1024");
        // As many go as come, in one batch, while there is room for none.
        running
            .apply(patch(members(2000..3022), members(0..1022)))
            .unwrap();
        assert_eq!((room(), running.difference()), ("size 1024".to_owned(), 0));
        running.apply(patch(members(0..1), [].into())).unwrap();
        assert_eq!((room(), running.difference()), ("size 4096".to_owned(), 0));
        running.end();
        let beginning = Beginning {
            policy: grown(),
            ..beginning()
        };
        let again = Running::start(Ownership::Exclusive, beginning);
        let (_, operations, _) = started_at_last(&again);
        assert_eq!(operations, 0, "a restart leaves the room as it is");
    });
}

/// The policy after the changes.
fn grown() -> NodePolicy {
    let mut policy = beginning().policy;
    let set = policy.address_sets.get_mut(&AddressSetId(7)).unwrap();
    set.extend(members(2000..3022));
    set.extend(members(0..1));
    policy
}
