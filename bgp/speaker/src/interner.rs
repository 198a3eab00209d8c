//! One copy of equal attributes.

use std::collections::HashSet;
use std::sync::Arc;

use crate::wire::PathAttrs;

/// Hands out one shared value for equal attributes, and forgets those nobody holds any more.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    known: HashSet<Arc<PathAttrs>>,
    /// Size at which to look for unused ones: twice what was in use the last time.
    sweep_at: usize,
}

impl Interner {
    pub(crate) fn intern(&mut self, attrs: PathAttrs) -> Arc<PathAttrs> {
        if let Some(known) = self.known.get(&attrs) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|attrs| Arc::strong_count(attrs) > 1);
            self.sweep_at = 64.max(self.known.len() * 2);
        }
        let attrs = Arc::new(attrs);
        self.known.insert(attrs.clone());
        attrs
    }
}

#[cfg(test)]
mod tests;
