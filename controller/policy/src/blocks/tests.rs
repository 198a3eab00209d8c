use super::*;

fn blocks(text: &str) -> Vec<IpNet> {
    text.split_whitespace()
        .map(|block| block.parse().unwrap())
        .collect()
}

#[test]
fn a_hole_leaves_the_blocks_around_it() {
    let rest = subtract("10.0.0.0/30".parse().unwrap(), &blocks("10.0.0.1/32"));
    assert_eq!(merge(&rest), blocks("10.0.0.0/32 10.0.0.2/31"));
    let rest = subtract(
        "fd00::/126".parse().unwrap(),
        &blocks("fd00::/128 fd00::3/128"),
    );
    assert_eq!(merge(&rest), blocks("fd00::1/128 fd00::2/128"));
}

#[test]
fn a_hole_that_covers_the_block_leaves_nothing() {
    assert_eq!(
        subtract("10.0.0.0/30".parse().unwrap(), &blocks("10.0.0.0/8")),
        []
    );
    assert_eq!(
        subtract(
            "10.0.0.0/30".parse().unwrap(),
            &blocks("10.0.0.0/31 10.0.0.2/31")
        ),
        []
    );
}

#[test]
fn a_hole_elsewhere_or_of_the_other_family_cuts_nothing() {
    assert_eq!(
        subtract("10.0.0.0/30".parse().unwrap(), &blocks("10.0.0.4/30 ::/0")),
        blocks("10.0.0.0/30")
    );
}

#[test]
fn a_single_address_cut_from_everything_leaves_a_block_for_each_bit() {
    let rest = subtract("::/0".parse().unwrap(), &blocks("fd00::1/128"));
    assert_eq!(rest.len(), 128);
    let hole: IpAddr = "fd00::1".parse().unwrap();
    assert!(!rest.iter().any(|block| block.contains(&hole)));
}

#[test]
fn neighbours_and_nested_blocks_are_merged() {
    assert_eq!(
        merge(&blocks(
            "10.0.0.128/25 fd00::/64 10.0.0.0/25 10.0.0.7/32 fd00::/48"
        )),
        blocks("10.0.0.0/24 fd00::/48")
    );
}

#[test]
fn an_address_is_found_in_the_block_that_has_it() {
    let blocks = blocks("10.0.0.0/30 10.0.0.8/29 10.1.0.0/16 fd00::/64 fd00:0:0:2::/64");
    let found = |text: &str| contains(&blocks, text.parse().unwrap());
    for inside in [
        "10.0.0.0",
        "10.0.0.3",
        "10.0.0.8",
        "10.1.255.255",
        "fd00::1",
        "fd00:0:0:2:ffff::",
    ] {
        assert!(found(inside), "{inside}");
    }
    for outside in [
        "9.0.0.0",
        "10.0.0.4",
        "10.0.0.16",
        "10.2.0.0",
        "255.255.255.255",
        "::",
        "fd00:0:0:1::",
        "ffff::",
    ] {
        assert!(!found(outside), "{outside}");
    }
}
