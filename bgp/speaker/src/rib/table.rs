//! The destinations of one family: keys, paths and marks in rows of their own, and an index.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::index::{Index, mix};
use super::paths::Paths;

/// A prefix as a small value.
pub(super) trait Key: Copy + Eq {
    fn hash(self, seed: u64) -> u64;
    fn prefix(self) -> IpNet;
}

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key4 {
    address: u32,
    length: u8,
}

/// An IPv6 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key6 {
    high: u64,
    low: u64,
    length: u8,
}

impl Key4 {
    pub(super) fn new(net: Ipv4Net) -> Self {
        Self {
            address: net.network().to_bits(),
            length: net.prefix_len(),
        }
    }
}

impl Key6 {
    pub(super) fn new(net: Ipv6Net) -> Self {
        let bits = net.network().to_bits();
        Self {
            high: u64::try_from(bits >> 64).expect("64 bits are left"),
            low: u64::try_from(bits & u128::from(u64::MAX)).expect("64 bits are left"),
            length: net.prefix_len(),
        }
    }
}

impl Key for Key4 {
    /// Prefixes that follow each other, as they often do in one UPDATE, stay close to each other: eight in a row.
    fn hash(self, seed: u64) -> u64 {
        let number = u64::from(self.address) >> (32 - u32::from(self.length));
        let (row, place) = (number >> 3, number & 7);
        let mixed = mix(row << 8 | u64::from(self.length), seed);
        mixed & !(7 << 32) | place << 32
    }

    fn prefix(self) -> IpNet {
        Ipv4Net::new_assert(self.address.into(), self.length).into()
    }
}

impl Key for Key6 {
    fn hash(self, seed: u64) -> u64 {
        mix(
            mix(self.high, seed) ^ self.low.rotate_left(u32::from(self.length)),
            seed,
        )
    }

    fn prefix(self) -> IpNet {
        let bits = u128::from(self.high) << 64 | u128::from(self.low);
        Ipv6Net::new_assert(bits.into(), self.length).into()
    }
}

/// What is to be done about a destination that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change(u8);

impl Change {
    /// Some path changed.
    pub(super) const ANY: Self = Self(1);
    /// The best path changed.
    pub(super) const BEST: Self = Self(3);

    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has_best(self) -> bool {
        self.0 == Self::BEST.0
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// All destinations of a family. A destination keeps its place until it is freed.
#[derive(Debug)]
pub(super) struct Table<K> {
    keys: Vec<K>,
    paths: Vec<Paths>,
    changes: Vec<Change>,
    index: Index,
    free: Vec<u32>,
    seed: u64,
}

impl<K: Key> Table<K> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            keys: Vec::new(),
            paths: Vec::new(),
            changes: Vec::new(),
            index: Index::default(),
            free: Vec::new(),
            seed,
        }
    }

    pub(super) fn find(&self, key: K) -> Option<u32> {
        let keys = &self.keys;
        self.index
            .find(key.hash(self.seed), |at| keys[at as usize] == key)
    }

    /// The place of a destination, which may be a new one without paths.
    pub(super) fn find_or_add(&mut self, key: K) -> u32 {
        let hash = key.hash(self.seed);
        let keys = &self.keys;
        if let Some(known) = self.index.find(hash, |at| keys[at as usize] == key) {
            return known;
        }
        let at = if let Some(free) = self.free.pop() {
            self.keys[free as usize] = key;
            free
        } else {
            self.keys.push(key);
            self.paths.push(Paths::None);
            self.changes.push(Change::default());
            u32::try_from(self.keys.len() - 1).expect("memory ends before 2^31 prefixes")
        };
        self.index.insert(at, hash);
        at
    }

    pub(super) fn prefix(&self, at: u32) -> IpNet {
        self.keys[at as usize].prefix()
    }

    pub(super) fn paths(&self, at: u32) -> &Paths {
        &self.paths[at as usize]
    }

    pub(super) fn paths_mut(&mut self, at: u32) -> &mut Paths {
        &mut self.paths[at as usize]
    }

    pub(super) fn change(&self, at: u32) -> Change {
        self.changes[at as usize]
    }

    /// Notes a change; whether it is the first since [`Table::settle`].
    pub(super) fn note(&mut self, at: u32, change: Change) -> bool {
        let noted = &mut self.changes[at as usize];
        let first = noted.is_none();
        *noted = noted.and(change);
        first
    }

    /// Everybody knows of the change: a destination without paths may go.
    pub(super) fn settle(&mut self, at: u32) {
        self.changes[at as usize] = Change::default();
        if matches!(self.paths[at as usize], Paths::None) {
            let hash = self.keys[at as usize].hash(self.seed);
            self.index.remove(at, hash);
            self.free.push(at);
        }
    }

    /// How many places there are, free ones included.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.keys.len()).expect("memory ends before 2^31 prefixes")
    }
}

#[cfg(test)]
mod tests;
