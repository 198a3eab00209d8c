//! One at a time for everything that has a name.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// Names that are taken.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    taken: Mutex<BTreeSet<String>>,
    freed: Condvar,
}

/// Holds names until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    locks: &'a Locks,
    names: Vec<String>,
}

impl Locks {
    /// Waits until none of the names is taken and takes them all at once.
    pub(crate) fn hold(&self, names: impl IntoIterator<Item = String>) -> Held<'_> {
        let names: Vec<String> = names.into_iter().collect();
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self
            .freed
            .wait_while(taken, |taken| names.iter().any(|name| taken.contains(name)))
            .unwrap_or_else(PoisonError::into_inner);
        taken.extend(names.iter().cloned());
        Held { locks: self, names }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut taken = self
            .locks
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            taken.remove(name);
        }
        self.locks.freed.notify_all();
    }
}
