//! The controller's account of one node's stream.

use std::collections::VecDeque;
use std::sync::Arc;

use margay_policy::node_policy::PolicyChange;

use crate::message::{Change, Revision};
use crate::squash::squash;

/// Counts the changes of one node's state and remembers the last of them, so that a reader can go on
/// where it stopped and one that is slow gets what it missed in one piece.
///
/// The memory is bounded by weight (changes plus set members in them), not by readers: every reader
/// comes with the place it is at. The last change is always remembered, so a reader that keeps up
/// never needs a snapshot.
#[derive(Clone, Debug)]
pub struct Sequencer {
    revision: Revision,
    /// Where the log begins: a reader at this count needs all of it.
    base: u64,
    log: VecDeque<Entry>,
    weight: usize,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    count: u64,
    changes: Arc<[Change]>,
    weight: usize,
}

/// What a reader has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Nothing: it is up to date.
    Nothing,
    /// These changes.
    Changes {
        /// Where they begin.
        since: u64,
        /// Where they end.
        revision: Revision,
        /// At most one of each kind per object.
        changes: Vec<Change>,
    },
    /// Everything: it counts in another run, or is further behind than the log goes.
    Everything,
}

impl Sequencer {
    /// A stream that stands at `revision` and remembers changes up to a weight of `limit`.
    pub fn new(revision: Revision, limit: usize) -> Self {
        let base = revision.count;
        Self {
            revision,
            base,
            log: VecDeque::new(),
            weight: 0,
            limit,
        }
    }

    /// Where the stream stands.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// How much is remembered: changes, and members in them.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Notes changes that happened together; `count` is the revision's count after them.
    ///
    /// Counts go up. Without changes, or with a count that is not higher, nothing happens.
    pub fn record(&mut self, count: u64, changes: Vec<Change>) {
        if changes.is_empty() || count <= self.revision.count {
            return;
        }
        let weight = changes.iter().map(weigh).sum();
        self.revision.count = count;
        self.weight += weight;
        self.log.push_back(Entry {
            count,
            changes: changes.into(),
            weight,
        });
        while self.weight > self.limit && self.log.len() > 1 {
            let Some(oldest) = self.log.pop_front() else {
                break;
            };
            self.weight -= oldest.weight;
            self.base = oldest.count;
        }
    }

    /// Whether anything changed after `after` and up to `until`, as far as is remembered.
    pub fn changed_between(&self, after: u64, until: u64) -> bool {
        let forgotten = after < self.base && after < until;
        let next = self.log.partition_point(|entry| entry.count <= after);
        forgotten || self.log.get(next).is_some_and(|entry| entry.count <= until)
    }

    /// What a reader at `place` has missed; several changes of an object are merged.
    pub fn missed(&self, place: Option<&Revision>) -> Missed {
        let Some(place) = place.filter(|place| place.run == self.revision.run) else {
            return Missed::Everything;
        };
        if place.count == self.revision.count {
            return Missed::Nothing;
        }
        let known =
            place.count == self.base || self.log.iter().any(|entry| entry.count == place.count);
        if !known {
            return Missed::Everything;
        }
        let pending: Vec<&Entry> = self
            .log
            .iter()
            .filter(|entry| entry.count > place.count)
            .collect();
        let changes = match pending.as_slice() {
            [only] => only.changes.to_vec(),
            several => squash(several.iter().flat_map(|entry| entry.changes.iter())),
        };
        Missed::Changes {
            since: place.count,
            revision: self.revision.clone(),
            changes,
        }
    }
}

/// About how much memory a change takes: 1, and 1 for each member or rule.
fn weigh(change: &Change) -> usize {
    match change {
        Change::Policy(PolicyChange::PatchAddressSet { add, remove, .. }) => {
            1 + add.len() + remove.len()
        }
        Change::Policy(PolicyChange::PatchServiceSet { add, remove, .. }) => {
            1 + add.len() + remove.len()
        }
        Change::Policy(PolicyChange::PutRuleList { list, .. }) => {
            1 + list
                .tiers
                .iter()
                .map(|tier| tier.rules.len())
                .sum::<usize>()
        }
        Change::Policy(
            PolicyChange::DeleteAddressSet { .. }
            | PolicyChange::DeleteServiceSet { .. }
            | PolicyChange::DeleteRuleList { .. }
            | PolicyChange::PutEndpoint { .. }
            | PolicyChange::DeleteEndpoint { .. },
        ) => 1,
        Change::Network(network) => network.as_ref().map_or(1, |network| {
            1 + network.pools.len() + network.blocks.len() + network.bgp.peers.len()
        }),
    }
}

#[cfg(test)]
mod tests;
