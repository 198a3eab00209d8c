//! Hash tables by content id: ids are hashes already.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by content id.
pub(super) type IdMap<Id, V> = HashMap<Id, V, BuildHasherDefault<IdHasher>>;

/// Takes 64 of the bits of a content id.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        let bytes = id.to_le_bytes();
        let (half, _) = bytes.split_at(8);
        self.0 = half
            .iter()
            .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    }
}
