//! The table, as the routes of one UPDATE go into it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::rib::{Importer, LocRib, Neighbour, Path, Refusal, Selection, Source};
use crate::wire::{Nlri, PathAttrs};

/// The table, as the routes of one UPDATE go into it.
pub(super) struct Table<'a> {
    pub(super) neighbour: Arc<Neighbour>,
    pub(super) rib: &'a mut LocRib,
    pub(super) received: &'a mut u32,
    pub(super) stale: Option<&'a mut BTreeSet<IpNet>>,
    pub(super) changes: Vec<(IpNet, Selection)>,
}

impl Table<'_> {
    pub(super) fn withdraw(&mut self, nlri: Nlri<'_>) {
        for prefix in nlri.prefixes() {
            self.remove(prefix);
        }
    }

    fn remove(&mut self, prefix: IpNet) {
        let selection = self.rib.remove(&prefix, Some(&self.neighbour.name));
        self.told_anew(&prefix);
        if selection.had_path {
            *self.received -= 1;
            self.changes.push((prefix, selection));
        }
    }

    fn told_anew(&mut self, prefix: &IpNet) {
        if let Some(stale) = &mut self.stale {
            stale.remove(prefix);
        }
    }

    /// What is refused counts as withdrawn.
    pub(super) fn announce(
        &mut self,
        importer: &Importer<'_>,
        attrs: &Arc<PathAttrs>,
        next_hop: IpAddr,
        nlri: Nlri<'_>,
    ) -> Option<Refusal> {
        if let Err(refusal) = importer.check(attrs, next_hop) {
            self.withdraw(nlri);
            return Some(refusal);
        }
        let mut refused = None;
        for prefix in nlri.prefixes() {
            if let Err(refusal) = importer.check_prefix(&prefix) {
                self.remove(prefix);
                refused = Some(refusal);
                continue;
            }
            let path = Path {
                source: Source::Peer(self.neighbour.clone()),
                attrs: attrs.clone(),
                next_hop,
            };
            let selection = self.rib.insert(prefix, path);
            self.told_anew(&prefix);
            if !selection.had_path {
                *self.received += 1;
            }
            self.changes.push((prefix, selection));
        }
        refused
    }
}
