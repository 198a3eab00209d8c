//! What attributes that came lately became: an UPDATE whose attributes are known as octets is not taken apart.

use crate::rib::{AttrId, AttrStore, Refusal, SourceId, mix};

/// What becomes of routes with certain attributes, before the filter.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// They have these in the table.
    Attrs(AttrId),
    /// They are not used.
    Refused(Refusal),
}

/// Longer keys are not remembered: what they would take in room is worth more than what they save.
const LONGEST: usize = 1024;
/// So many are remembered.
const PLACES: usize = 512;

/// Attributes as octets, and what they became for one peer. Each hash has one place: what is newer replaces what was
/// there, and its room is used again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    places: Vec<Option<Entry>>,
}

#[derive(Debug)]
struct Entry {
    source: SourceId,
    generation: u32,
    key: Vec<u8>,
    outcome: Outcome,
}

impl Recent {
    pub(super) fn find(&self, source: SourceId, generation: u32, key: &[u8]) -> Option<Outcome> {
        let entry = self.places.get(place(source, key))?.as_ref()?;
        let same =
            (entry.source, entry.generation, entry.key.as_slice()) == (source, generation, key);
        same.then_some(entry.outcome)
    }

    /// Remembers an outcome whose attributes the caller holds; that hold passes to here.
    pub(super) fn put(
        &mut self,
        store: &mut AttrStore,
        source: SourceId,
        generation: u32,
        key: &[u8],
        outcome: Outcome,
    ) {
        if key.len() > LONGEST {
            outcome.release(store);
            return;
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let place = &mut self.places[place(source, key)];
        let mut room = Vec::new();
        if let Some(old) = place.take() {
            old.outcome.release(store);
            room = old.key;
            room.clear();
        }
        room.extend_from_slice(key);
        *place = Some(Entry {
            source,
            generation,
            key: room,
            outcome,
        });
    }

    /// Forgets everything, so that no attributes are held for nothing.
    pub(super) fn clear(&mut self, store: &mut AttrStore) {
        for entry in self.places.drain(..).flatten() {
            entry.outcome.release(store);
        }
    }
}

impl Outcome {
    pub(super) fn release(self, store: &mut AttrStore) {
        match self {
            Self::Attrs(attrs) => store.release(attrs),
            Self::Refused(_) => {}
        }
    }
}

/// Two keys that meet cost no more than their taking apart: the hash may be a simple one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only the lower bits of the hash count"
)]
fn place(source: SourceId, key: &[u8]) -> usize {
    let (words, rest) = key.as_chunks::<8>();
    let tail = rest
        .iter()
        .fold(0, |tail, octet| tail << 8 | u64::from(*octet));
    let start = mix(tail, u64::from(source.0));
    let hash = words
        .iter()
        .fold(start, |hash, word| mix(u64::from_le_bytes(*word), hash));
    hash as usize % PLACES
}
