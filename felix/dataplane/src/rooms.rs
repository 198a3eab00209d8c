//! How many elements the sets of members have room for.
//!
//! A set that is made for so many elements is a hash table of fixed size: the kernel fills it in less than half the time that one
//! takes which grows, and finds elements sooner. It refuses more elements, so a set that is outgrown is made anew, in the same batch.

use std::collections::BTreeMap;

use crate::diff::{Actual, ActualSet};
use crate::names;
use crate::ruleset::{Family, Ruleset, SetName};

/// What a set has room for at least.
const LEAST: u32 = 1024;
/// A set that was left with more than so many times the room that it needs is made anew at the next start.
const WASTE: u32 = 8;

/// The room of each set of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rooms {
    least: u32,
    rooms: BTreeMap<SetName, u32>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self::at_least(LEAST)
    }
}

impl Rooms {
    /// No set is there yet, and each will have room for at least so many elements.
    pub(crate) fn at_least(least: u32) -> Self {
        Self {
            least,
            rooms: BTreeMap::new(),
        }
    }

    /// The room that sets in the kernel have, unless it is far too much.
    pub fn adopt(actual: &Actual) -> Self {
        let mut adopted = Self::default();
        for name in sets() {
            if let Some(ActualSet::Known(set)) = actual.sets.get(name)
                && let Some(room) = set.room
                && room / WASTE <= adopted.for_elements(set.elements.len())
            {
                adopted.rooms.insert(name.to_owned(), room);
            }
        }
        adopted
    }

    /// The room for a set with so many elements: what it has, if that is enough.
    pub(crate) fn of(&self, set: &str, elements: usize) -> u32 {
        let room = self.rooms.get(set).copied();
        let enough = room.filter(|room| usize::try_from(*room).is_ok_and(|room| elements <= room));
        enough.unwrap_or_else(|| self.for_elements(elements))
    }

    /// Notes the room of a ruleset's sets; gives those that have another one than before.
    pub(crate) fn settle(&mut self, ruleset: &Ruleset) -> Vec<(&'static str, u32)> {
        let mut outgrown = Vec::new();
        for name in sets() {
            let elements = ruleset.sets.get(name).map_or(0, |set| set.elements.len());
            let room = self.of(name, elements);
            if self.rooms.insert(name.to_owned(), room) != Some(room) {
                outgrown.push((name, room));
            }
        }
        outgrown
    }

    /// As much again as there is, so that it is long before that is outgrown.
    fn for_elements(&self, elements: usize) -> u32 {
        let elements = u32::try_from(elements).unwrap_or(u32::MAX);
        let double = elements.saturating_mul(2).checked_next_power_of_two();
        double.unwrap_or(u32::MAX).max(self.least)
    }
}

/// The sets that have as many elements as policy wants.
pub(crate) fn sets() -> impl Iterator<Item = &'static str> {
    Family::BOTH
        .into_iter()
        .flat_map(|family| [names::members(family), names::services(family)])
}

#[cfg(test)]
mod tests;
