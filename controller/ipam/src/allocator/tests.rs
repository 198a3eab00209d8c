use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{Allocator, AssignError, Handle, Place};
use crate::{Family, Source};

#[test]
fn every_address_of_a_block_is_used_in_order_and_then_none() {
    let mut allocator = with_blocks(0, &["10.0.0.0/30"]);
    let given: Vec<String> = (0..4)
        .map(|n| {
            allocator
                .assign(&pod(n), &any_of(Family::V4), 0)
                .unwrap()
                .to_string()
        })
        .collect();
    assert_eq!(given, ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let error = allocator
        .assign(&pod(9), &any_of(Family::V4), 0)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "all 4 addresses of the node's IPv4 blocks that this pod may use are in use"
    );
    assert_eq!(
        allocator.assign(&pod(9), &any_of(Family::V6), 0),
        Err(AssignError::NoBlock(Family::V6))
    );
}

#[test]
fn the_ends_of_a_subnet_are_never_handed_out() {
    let mut allocator = with_blocks(0, &["10.0.0.0/30", "fd00::/126", "10.0.1.0/31"]);
    // What was handed out before it was known to be one goes, and does not come back.
    let old = allocator.assign(&pod(0), &any_of(Family::V4), 0).unwrap();
    assert_eq!(old, ip("10.0.0.0"));
    allocator.set_subnets(&["10.0.0.0/30", "fd00::/126", "10.0.1.0/31"].map(net).into());
    allocator.release(&pod(0), 0);
    let mut given = |family| -> Vec<String> {
        (1..9)
            .map_while(|n| allocator.assign(&pod(n), &any_of(family), 9).ok())
            .map(|address| address.to_string())
            .collect()
    };
    assert_eq!(
        given(Family::V4),
        ["10.0.0.1", "10.0.0.2", "10.0.1.0", "10.0.1.1"]
    );
    assert_eq!(given(Family::V6), ["fd00::1", "fd00::2", "fd00::3"]);
    assert!(allocator.wants_block(&any_of(Family::V4), 1, 9));
}

#[test]
fn asking_twice_gives_the_same_address_of_each_family() {
    let mut allocator = with_blocks(0, &["10.0.0.0/26", "fd00::40/122"]);
    let v4 = allocator.assign(&pod(1), &any_of(Family::V4), 0).unwrap();
    let v6 = allocator.assign(&pod(1), &any_of(Family::V6), 0).unwrap();
    assert_eq!(v6, ip("fd00::40"));
    assert_eq!(allocator.assign(&pod(1), &any_of(Family::V4), 5), Ok(v4));
    assert_eq!(allocator.assign(&pod(1), &any_of(Family::V6), 5), Ok(v6));
    assert_eq!(allocator.held(&pod(1)), BTreeSet::from([v4, v6]));
}

#[test]
fn two_interfaces_of_one_container_are_two_holders() {
    let mut allocator = with_blocks(0, &["10.0.0.0/26"]);
    let first = allocator
        .assign(&Handle::new("c1", "eth0"), &any_of(Family::V4), 0)
        .unwrap();
    let second = allocator
        .assign(&Handle::new("c1", "net1"), &any_of(Family::V4), 0)
        .unwrap();
    assert_ne!(first, second);
    allocator.release(&Handle::new("c1", "eth0"), 0);
    assert_eq!(
        allocator.held(&Handle::new("c1", "net1")),
        BTreeSet::from([second])
    );
}

#[test]
fn the_longest_released_comes_back_first_and_only_after_the_cool_down() {
    let mut allocator = with_blocks(30, &["10.0.0.0/31", "10.0.1.0/31"]);
    for n in 0..4 {
        allocator.assign(&pod(n), &any_of(Family::V4), 0).unwrap();
    }
    allocator.release(&pod(3), 100);
    allocator.release(&pod(0), 110);
    let error = allocator
        .assign(&pod(7), &any_of(Family::V4), 129)
        .unwrap_err();
    assert_eq!(
        error,
        AssignError::CoolingDown {
            family: Family::V4,
            wait: 1
        }
    );
    assert_eq!(
        allocator.assign(&pod(7), &any_of(Family::V4), 130),
        Ok(ip("10.0.1.1"))
    );
    assert_eq!(
        allocator.assign(&pod(8), &any_of(Family::V4), 140),
        Ok(ip("10.0.0.0"))
    );
}

#[test]
fn a_clock_set_back_does_not_lock_addresses_away() {
    let mut allocator = with_blocks(30, &["10.0.0.0/32"]);
    allocator
        .assign(&pod(1), &any_of(Family::V4), 5_000)
        .unwrap();
    allocator.release(&pod(1), 5_000);
    assert!(allocator.assign(&pod(2), &any_of(Family::V4), 10).is_err());
    assert_eq!(
        allocator.assign(&pod(2), &any_of(Family::V4), 40),
        Ok(ip("10.0.0.0"))
    );
}

#[test]
fn specific_addresses_need_no_block_and_no_rest_but_have_one_holder() {
    let mut allocator = with_blocks(1_000, &["10.0.0.0/30"]);
    assert_eq!(
        allocator.assign_specific(&pod(1), ip("192.0.2.7")),
        Ok(Place::Outside)
    );
    assert_eq!(
        allocator.assign_specific(&pod(1), ip("192.0.2.7")),
        Ok(Place::Outside)
    );
    assert_eq!(allocator.outside(), BTreeSet::from([ip("192.0.2.7")]));
    let inside = allocator.assign_specific(&pod(2), ip("10.0.0.1"));
    assert_eq!(inside, Ok(Place::Block(net("10.0.0.0/30"))));
    let error = allocator
        .assign_specific(&pod(3), ip("10.0.0.1"))
        .unwrap_err();
    assert_eq!(error.to_string(), "10.0.0.1 is in use by c2/eth0");
    let next: Vec<IpAddr> = (4..6)
        .map(|n| allocator.assign(&pod(n), &any_of(Family::V4), 0).unwrap())
        .collect();
    assert_eq!(next, [ip("10.0.0.0"), ip("10.0.0.2")]);
    allocator.release(&pod(2), 0);
    assert_eq!(allocator.assign_specific(&pod(3), ip("10.0.0.1")), inside);
    assert_eq!(
        allocator.assign(&pod(6), &any_of(Family::V4), 0),
        Ok(ip("10.0.0.3"))
    );
    assert!(matches!(
        allocator.assign(&pod(7), &any_of(Family::V4), 0),
        Err(AssignError::Exhausted { .. })
    ));
}

#[test]
fn addresses_outlive_their_block_as_host_routes() {
    let mut allocator = with_blocks(0, &["10.0.0.0/30"]);
    let address = allocator.assign(&pod(1), &any_of(Family::V4), 0).unwrap();
    allocator.set_blocks(&BTreeSet::new());
    assert_eq!(allocator.outside(), BTreeSet::from([address]));
    assert_eq!(allocator.usage(), BTreeMap::new());
    allocator.set_blocks(&BTreeSet::from([net("10.0.0.0/30")]));
    assert_eq!(allocator.outside(), BTreeSet::new());
    assert_eq!(
        allocator.assign(&pod(2), &any_of(Family::V4), 0),
        Ok(ip("10.0.0.1"))
    );
}

#[test]
fn a_spare_block_is_wanted_when_few_are_free() {
    let mut allocator = with_blocks(0, &["10.0.0.0/30"]);
    assert!(!allocator.wants_block(&any_of(Family::V4), 4, 9));
    assert!(allocator.wants_block(&any_of(Family::V4), 5, 9));
    assert!(allocator.wants_block(&any_of(Family::V6), 1, 9));
    allocator.assign(&pod(1), &any_of(Family::V4), 0).unwrap();
    assert!(allocator.wants_block(&any_of(Family::V4), 4, 9));
}

#[test]
fn another_block_is_wanted_when_all_that_are_free_rest() {
    let mut allocator = with_blocks(60, &["10.0.0.0/30"]);
    for n in 0..4 {
        allocator.assign(&pod(n), &any_of(Family::V4), 100).unwrap();
    }
    allocator.release(&pod(0), 100);
    allocator.release(&pod(1), 110);
    assert!(allocator.wants_block(&any_of(Family::V4), 2, 159));
    assert!(!allocator.wants_block(&any_of(Family::V4), 2, 160));
}

#[test]
fn who_waits_for_one_family_uses_up_nothing_of_another() {
    let mut allocator = with_blocks(60, &["10.0.0.0/30", "fd00::/127"]);
    let both = Family::BOTH.map(any_of).into();
    for n in 0..2 {
        assert_eq!(allocator.assign_each(&pod(n), &both, 99).unwrap().len(), 2);
    }
    let none = AssignError::Exhausted {
        family: Family::V6,
        size: 2,
    };
    for _ in 0..9 {
        assert_eq!(allocator.assign_each(&pod(2), &both, 99), Err(none.clone()));
        assert_eq!(allocator.held(&pod(2)), BTreeSet::new());
    }
    // What somebody had before stays his.
    let had = allocator.assign(&pod(3), &any_of(Family::V4), 99).unwrap();
    assert_eq!(allocator.assign_each(&pod(3), &both, 99), Err(none));
    assert_eq!(allocator.held(&pod(3)), [had].into());
    allocator.set_blocks(&["10.0.0.0/30", "fd00::/126"].map(net).into());
    let last = allocator.assign_each(&pod(2), &both, 99).unwrap();
    assert_eq!(last.len(), 2, "{last:?}");
}

#[test]
fn addresses_come_from_the_pools_that_are_named_and_no_others() {
    let mut allocator = with_blocks(30, &["10.1.0.0/31", "10.2.0.0/31"]);
    let one = Source::new(Family::V4, [net("10.1.0.0/16"), net("fd00::/64")]);
    let two = Source::new(Family::V4, [net("10.2.0.0/16")]);
    assert_eq!(one.pools(), &[net("10.1.0.0/16")].into());
    assert_eq!(allocator.assign(&pod(1), &two, 0), Ok(ip("10.2.0.0")));
    assert_eq!(allocator.assign(&pod(2), &two, 0), Ok(ip("10.2.0.1")));
    let full = AssignError::Exhausted {
        family: Family::V4,
        size: 2,
    };
    assert_eq!(allocator.assign(&pod(3), &two, 0), Err(full.clone()));
    assert!(allocator.wants_block(&two, 1, 0));
    assert!(!allocator.wants_block(&one, 2, 0));
    // What rests in another pool is nobody's business either.
    assert_eq!(allocator.assign(&pod(4), &one, 0), Ok(ip("10.1.0.0")));
    allocator.release(&pod(4), 0);
    assert_eq!(allocator.assign(&pod(3), &two, 99), Err(full));
    // Who has an address keeps it, wherever he would get one today.
    assert_eq!(allocator.assign(&pod(1), &one, 99), Ok(ip("10.2.0.0")));
    let three = Source::new(Family::V4, [net("10.3.0.0/16")]);
    let none = Err(AssignError::NoBlock(Family::V4));
    assert_eq!(allocator.assign(&pod(3), &three, 99), none);
}

#[test]
fn handles_are_checked_when_read() {
    assert_eq!(
        Handle::try_from("c1/eth0".to_owned()),
        Ok(Handle::new("c1", "eth0"))
    );
    assert!(Handle::try_from("c1".to_owned()).is_err());
    assert!(Handle::try_from("/eth0".to_owned()).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Assign(u32, Family),
    Specific(u32, u8),
    Release(u32),
    Blocks(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    prop_oneof![
        5 => (0..12_u32, family).prop_map(|(pod, family)| Step::Assign(pod, family)),
        1 => (0..12_u32, any::<u8>()).prop_map(|(pod, last)| Step::Specific(pod, last % 24)),
        4 => (0..12_u32).prop_map(Step::Release),
        1 => (1..8_u8).prop_map(Step::Blocks),
        2 => (0..40_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Against a naive account: one holder per address, released ones rest and come back last.
    #[test]
    fn any_sequence_keeps_one_holder_per_address(steps in prop::collection::vec(step(), 1..120)) {
        let all = ["10.0.0.0/30", "10.0.0.8/30", "10.0.0.16/29", "fd00::/126", "fd00::8/126"];
        let mut allocator = with_blocks(30, &all[..4]);
        let mut owners: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let mut released: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let mut now = 1_000;
        for step in steps {
            match step {
                Step::Assign(n, family) => {
                    let had: Vec<IpAddr> = owners
                        .iter()
                        .filter(|(address, owner)| **owner == n && Family::of(**address) == family)
                        .map(|(address, _)| *address)
                        .collect();
                    match allocator.assign(&pod(n), &any_of(family), now) {
                        Ok(address) if !had.is_empty() => prop_assert!(had.contains(&address)),
                        Ok(address) => {
                            prop_assert_eq!(owners.insert(address, n), None);
                            prop_assert!(allocator.usage().keys().any(|b| b.contains(&address)));
                            if let Some(at) = released.remove(&address) {
                                prop_assert!(now - at >= 30, "{address} had not rested");
                            }
                        }
                        Err(error) => {
                            prop_assert!(had.is_empty());
                            let taken = matches!(error, AssignError::Taken { .. });
 prop_assert!(!taken);
                        }
                    }
                }
                Step::Specific(n, last) => {
                    let address = IpAddr::from([10, 0, 0, last]);
                    let result = allocator.assign_specific(&pod(n), address);
                    match owners.get(&address) {
                        Some(owner) if *owner != n => prop_assert!(result.is_err()),
                        _ => {
                            prop_assert!(result.is_ok());
                            owners.insert(address, n);
                            released.remove(&address);
                        }
                    }
                }
                Step::Release(n) => {
                    for address in allocator.release(&pod(n), now) {
                        prop_assert_eq!(owners.remove(&address), Some(n));
                        if allocator.usage().keys().any(|block| block.contains(&address)) {
                            released.insert(address, now);
                        }
                    }
                    prop_assert!(!owners.values().any(|owner| *owner == n));
                }
                Step::Blocks(bits) => {
                    let blocks = all.iter().enumerate().filter(|(i, _)| bits >> (i % 3) & 1 == 1);
                    allocator.set_blocks(&blocks.map(|(_, block)| net(block)).collect());
                    // A block that went and came back has forgotten who rested.
                    released.clear();
                }
                Step::Wait(seconds) => now += seconds,
            }
            let holders: BTreeMap<IpAddr, Handle> =
                owners.iter().map(|(address, owner)| (*address, pod(*owner))).collect();
            prop_assert_eq!(allocator.holders(), &holders);
            for (block, used) in allocator.usage() {
                let inside = holders.keys().filter(|address| block.contains(*address));
                prop_assert_eq!(used as usize, inside.count());
            }
            let text = serde_json::to_string(&allocator).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Allocator>(&text).unwrap(), &allocator);
        }
    }

    #[test]
    fn freed_addresses_are_reused_in_the_order_they_were_freed(
        order in Just((0..16_u32).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut allocator = with_blocks(10, &["10.0.0.0/29", "10.0.0.8/29"]);
        let mut given = BTreeMap::new();
        for n in 0..16 {
            given.insert(n, allocator.assign(&pod(n), &any_of(Family::V4), 0).unwrap());
        }
        for (turn, n) in order.iter().enumerate() {
            allocator.release(&pod(*n), u64::try_from(turn).unwrap());
        }
        for n in order {
            prop_assert_eq!(allocator.assign(&pod(n), &any_of(Family::V4), 1_000), Ok(given[&n]));
        }
    }
}

fn with_blocks(cool_down: u64, blocks: &[&str]) -> Allocator {
    let mut allocator = Allocator::new(cool_down);
    allocator.set_blocks(&blocks.iter().map(|block| net(block)).collect());
    allocator
}

/// Any pool.
fn any_of(family: Family) -> Source {
    Source::new(family, [net("0.0.0.0/0"), net("::/0")])
}

fn pod(n: u32) -> Handle {
    Handle::new(format!("c{n}"), "eth0")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}
