use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{ClaimError, MAX_BLOCKS_PER_NODE, Pool, PoolError, claim};
use crate::Family;

#[test]
fn a_node_gets_the_same_block_whatever_others_did_elsewhere() {
    let pools = [pool("10.244.0.0/16", 26)];
    let alone = claim(&pools, &BTreeMap::new(), "n1", Family::V4).unwrap();
    let other = claim(&pools, &BTreeMap::new(), "n2", Family::V4).unwrap();
    assert_ne!(alone, other);
    let with_other = claim(&pools, &claims(&[(other, "n2")]), "n1", Family::V4).unwrap();
    assert_eq!(alone, with_other);
}

#[test]
fn block_choice_is_the_same_in_every_version() {
    let pools = [pool("10.244.0.0/16", 26), pool("fd00:10:244::/56", 122)];
    let v4 = claim(&pools, &BTreeMap::new(), "n1", Family::V4).unwrap();
    let v6 = claim(&pools, &BTreeMap::new(), "n1", Family::V6).unwrap();
    assert_eq!([v4.to_string(), v6.to_string()], GOLDEN);
}

#[test]
fn a_full_pool_spills_into_the_next_and_then_says_so() {
    let pools = [pool("10.0.0.0/25", 26), pool("10.1.0.0/26", 26)];
    let mut claimed = BTreeMap::new();
    for _ in 0..3 {
        let block = claim(&pools, &claimed, "n1", Family::V4).unwrap();
        assert_eq!(claimed.insert(block, "n1".to_owned()), None);
    }
    assert!(claimed.contains_key(&net("10.1.0.0/26")));
    let error = claim(&pools, &claimed, "n1", Family::V4).unwrap_err();
    assert_eq!(
        error.to_string(),
        "all IPv4 blocks of 10.0.0.0/25, 10.1.0.0/26 are claimed: add an IPPool"
    );
}

#[test]
fn blocks_of_another_size_are_not_cut_into() {
    let pools = [pool("10.0.0.0/24", 26)];
    let claimed = claims(&[
        (net("10.0.0.5/32"), "n1"),
        (net("10.0.0.64/30"), "n2"),
        (net("10.0.0.128/25"), "n3"),
    ]);
    let error = claim(&pools, &claimed, "n4", Family::V4).unwrap_err();
    assert!(matches!(error, ClaimError::Exhausted { .. }));
}

#[test]
fn without_a_pool_of_the_family_the_reason_names_it() {
    let error = claim(
        &[pool("10.0.0.0/24", 26)],
        &BTreeMap::new(),
        "n1",
        Family::V6,
    )
    .unwrap_err();
    assert_eq!(error, ClaimError::NoPool(Family::V6));
}

#[test]
fn one_node_cannot_take_everything() {
    let pools = [pool("10.0.0.0/16", 26)];
    let mut claimed = BTreeMap::new();
    for _ in 0..MAX_BLOCKS_PER_NODE {
        let block = claim(&pools, &claimed, "greedy", Family::V4).unwrap();
        claimed.insert(block, "greedy".to_owned());
    }
    assert!(matches!(
        claim(&pools, &claimed, "greedy", Family::V4),
        Err(ClaimError::TooMany { .. })
    ));
    assert!(claim(&pools, &claimed, "modest", Family::V4).is_ok());
}

#[test]
fn impossible_pools_are_refused_with_a_reason() {
    assert_eq!(
        Pool::new(net("10.0.0.0/27"), 26).unwrap_err().to_string(),
        "blocks of /26 are larger than the pool 10.0.0.0/27: use 27 or more"
    );
    assert_eq!(
        Pool::new(net("fd00::/8"), 64).unwrap_err().to_string(),
        "blocks of /64 are not possible in fd00::/8: use 116 to 128"
    );
    assert!(matches!(
        Pool::new(net("10.0.0.0/8"), 33),
        Err(PoolError::Unmanageable { .. })
    ));
}

#[test]
fn the_largest_pool_works() {
    let pools = [pool("::/0", 128)];
    assert_eq!(pools[0].blocks(), u128::MAX);
    assert!(claim(&pools, &BTreeMap::new(), "n1", Family::V6).is_ok());
    assert!(claim(&[pool("0.0.0.0/0", 20)], &BTreeMap::new(), "n1", Family::V4).is_ok());
}

#[test]
fn pools_are_checked_when_read_back() {
    let text = serde_json::to_string(&pool("10.0.0.0/24", 26)).unwrap();
    assert_eq!(
        serde_json::from_str::<Pool>(&text).unwrap(),
        pool("10.0.0.0/24", 26)
    );
    assert!(serde_json::from_str::<Pool>(r#"{"cidr":"10.0.0.0/24","block_size":8}"#).is_err());
}

proptest! {
    #[test]
    fn claimed_blocks_lie_in_a_pool_and_never_overlap(
        nodes in prop::collection::vec("[a-z]{1,8}", 1..60),
        sizes in prop::collection::vec(24_u8..=32, 1..4),
    ) {
        let pools: Vec<Pool> =
            sizes.iter().map(|size| pool("10.9.0.0/22", *size)).collect();
        let mut claimed: BTreeMap<IpNet, String> = BTreeMap::new();
        for (turn, node) in nodes.iter().enumerate() {
            // Another pool first each time: sizes mix in one range.
            let rotated: Vec<Pool> =
                (0..pools.len()).map(|i| pools[(i + turn) % pools.len()]).collect();
            if let Ok(block) = claim(&rotated, &claimed, node, Family::V4) {
                prop_assert!(net("10.9.0.0/22").contains(&block));
                for other in claimed.keys() {
                    prop_assert!(!other.contains(&block) && !block.contains(other));
                }
                claimed.insert(block, node.clone());
            }
        }
    }
}

const GOLDEN: [&str; 2] = ["10.244.92.64/26", "fd00:10:244::8c:5c40/122"];

fn pool(cidr: &str, block_size: u8) -> Pool {
    Pool::new(net(cidr), block_size).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn claims(list: &[(IpNet, &str)]) -> BTreeMap<IpNet, String> {
    list.iter()
        .map(|(block, node)| (*block, (*node).to_owned()))
        .collect()
}
