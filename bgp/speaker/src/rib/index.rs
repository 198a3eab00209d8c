//! From a hash to the number of an entry that lies elsewhere: four octets and a little air for each.

/// An open-addressed table of entry numbers. Keys stay with the entries; callers hash and compare.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The number plus one; 0 is empty. The length is a power of two, or none.
    buckets: Vec<u32>,
    used: usize,
}

impl Index {
    /// The entry with this hash that `is` the one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let entry = self.buckets[at].checked_sub(1)?;
            if is(entry) {
                return Some(entry);
            }
            at = self.next(at);
        }
    }

    /// Puts an entry in that is not there yet; `hash_of` knows the hash of every entry.
    pub(super) fn insert(&mut self, entry: u32, hash_of: impl Fn(u32) -> u64) {
        if self.used * 4 >= self.buckets.len() * 3 {
            let size = 16.max(self.buckets.len() * 2);
            let old = std::mem::replace(&mut self.buckets, vec![0; size]);
            for entry in old.into_iter().filter_map(|bucket| bucket.checked_sub(1)) {
                self.place(entry, hash_of(entry));
            }
        }
        self.place(entry, hash_of(entry));
        self.used += 1;
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, entry: u32, hash_of: impl Fn(u32) -> u64) {
        if self.buckets.is_empty() {
            return;
        }
        let mut at = self.home(hash_of(entry));
        while self.buckets[at] != entry + 1 {
            if self.buckets[at] == 0 {
                return;
            }
            at = self.next(at);
        }
        self.used -= 1;
        // What stands behind moves up, as far as its own place allows.
        let mut hole = at;
        loop {
            at = self.next(at);
            let Some(other) = self.buckets[at].checked_sub(1) else {
                break;
            };
            let place = self.home(hash_of(other));
            let mask = self.buckets.len() - 1;
            if at.wrapping_sub(place) & mask >= at.wrapping_sub(hole) & mask {
                self.buckets[hole] = other + 1;
                hole = at;
            }
        }
        self.buckets[hole] = 0;
    }

    fn place(&mut self, entry: u32, hash: u64) {
        let mut at = self.home(hash);
        while self.buckets[at] != 0 {
            at = self.next(at);
        }
        self.buckets[at] = entry + 1;
    }

    fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len() - 1)
    }
}

/// Spreads bits (`SplitMix64`); the seed keeps peers from choosing keys that collide.
pub(super) fn mix(key: u64, seed: u64) -> u64 {
    let mut mixed = key ^ seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
