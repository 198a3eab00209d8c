//! What `nft` makes of our objects.

use super::scratch::{commit, in_netns, nft, world};

#[test]
fn nft_lists_every_object_in_its_own_language() {
    in_netns(|| {
        commit(world().batch());
        let listing = nft(&["list", "ruleset"]).unwrap();
        assert_eq!(listing, include_str!("listing.nft"), "{listing}");
    });
}
