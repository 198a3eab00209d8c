//! From a hash to the number of an entry that lies elsewhere: eight octets and a little air for each.

/// An open-addressed table of entry numbers. Keys stay with the entries: callers hash, and compare those few whose
/// hashes agree. Half of each hash lies here, so that neither growing nor removing looks at an entry.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The length is a power of two, or none.
    buckets: Vec<Bucket>,
    used: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// The upper half of the hash.
    tag: u32,
    /// The number plus one; 0 is empty.
    entry: u32,
}

impl Index {
    /// The entry with this hash that `is` the one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.buckets.is_empty() {
            return None;
        }
        let tag = tag(hash);
        let mut at = self.home(tag);
        loop {
            let bucket = self.buckets[at];
            let entry = bucket.entry.checked_sub(1)?;
            if bucket.tag == tag && is(entry) {
                return Some(entry);
            }
            at = self.next(at);
        }
    }

    /// Puts an entry in that is not there yet.
    pub(super) fn insert(&mut self, entry: u32, hash: u64) {
        if self.used * 8 >= self.buckets.len() * 5 {
            let size = 16.max(self.buckets.len() * 2);
            let old = std::mem::replace(&mut self.buckets, vec![Bucket::default(); size]);
            for bucket in old.into_iter().filter(|bucket| bucket.entry != 0) {
                self.place(bucket);
            }
        }
        self.place(Bucket {
            tag: tag(hash),
            entry: entry + 1,
        });
        self.used += 1;
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, entry: u32, hash: u64) {
        if self.buckets.is_empty() {
            return;
        }
        let mut at = self.home(tag(hash));
        while self.buckets[at].entry != entry + 1 {
            if self.buckets[at].entry == 0 {
                return;
            }
            at = self.next(at);
        }
        self.used -= 1;
        // What stands behind moves up, as far as its own place allows.
        let mask = self.buckets.len() - 1;
        let mut hole = at;
        loop {
            at = self.next(at);
            let other = self.buckets[at];
            if other.entry == 0 {
                break;
            }
            let place = self.home(other.tag);
            if at.wrapping_sub(place) & mask >= at.wrapping_sub(hole) & mask {
                self.buckets[hole] = other;
                hole = at;
            }
        }
        self.buckets[hole] = Bucket::default();
    }

    fn place(&mut self, bucket: Bucket) {
        let mut at = self.home(bucket.tag);
        while self.buckets[at].entry != 0 {
            at = self.next(at);
        }
        self.buckets[at] = bucket;
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.buckets.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len() - 1)
    }
}

fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("32 bits are left")
}

/// Spreads bits (`SplitMix64`); the seed keeps peers from choosing keys that collide.
pub(crate) fn mix(key: u64, seed: u64) -> u64 {
    let mut mixed = key ^ seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
