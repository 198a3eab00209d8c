//! Routes: what peers told us, which of it is best, what each peer is told.
//!
//! The Adj-RIBs-In of all peers lie in one table with the Loc-RIB ([`LocRib`]; RFC 4271 §3.2 leaves that
//! free): a destination has the usable paths of every peer, the selected ones first.

mod adj_out;
mod decision;
mod import;

pub use adj_out::{AdjRibOut, Exporter};
pub use import::{Importer, Refusal};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::route::RouteChange;
use crate::types::{BgpId, PeerName};
use crate::wire::{PathAttrs, PeerKind};

/// One way to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Who says so.
    pub source: Source,
    /// What is said of it; equal attributes share one value.
    pub attrs: Arc<PathAttrs>,
    /// Where to send packets; unspecified for own prefixes.
    pub next_hop: IpAddr,
}

/// Who told a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Our owner announces it.
    Own,
    /// An established session.
    Peer(Arc<Neighbour>),
}

/// What decisions need to know of an established session's peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub name: PeerName,
    /// Whether it is in our AS.
    pub kind: PeerKind,
    /// Its address.
    pub address: IpAddr,
    /// Its identifier.
    pub bgp_id: BgpId,
}

impl Source {
    fn name(&self) -> Option<&PeerName> {
        match self {
            Self::Own => None,
            Self::Peer(neighbour) => Some(&neighbour.name),
        }
    }
}

/// All paths of one prefix: the selected ones first, the best of all at their head.
#[derive(Clone, Debug, Default)]
struct Destination {
    paths: Vec<Path>,
    selected: usize,
}

/// The routing table.
#[derive(Debug, Default)]
pub struct LocRib {
    destinations: BTreeMap<IpNet, Destination>,
}

/// The selection of a prefix before and after a change.
#[derive(Debug)]
pub struct Selection {
    /// Whether the source of the change had a path before.
    pub had_path: bool,
    before: Vec<Path>,
    after: Vec<Path>,
}

impl LocRib {
    /// Every prefix that has a path, in order.
    pub fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.destinations.keys()
    }

    /// The best path to `prefix`.
    pub fn best(&self, prefix: &IpNet) -> Option<&Path> {
        self.selected(prefix).first()
    }

    /// The best path and its equals.
    pub fn selected(&self, prefix: &IpNet) -> &[Path] {
        self.destinations.get(prefix).map_or(&[], |destination| {
            &destination.paths[..destination.selected]
        })
    }

    /// Puts a path in, in place of the earlier one of the same source.
    pub fn insert(&mut self, prefix: IpNet, path: Path) -> Selection {
        let destination = self.destinations.entry(prefix).or_default();
        let name = path.source.name().cloned();
        destination.change(name.as_ref(), Some(path))
    }

    /// Takes the path of a source out, `None` being ourselves.
    pub fn remove(&mut self, prefix: &IpNet, source: Option<&PeerName>) -> Selection {
        let Some(destination) = self.destinations.get_mut(prefix) else {
            return Selection {
                had_path: false,
                before: Vec::new(),
                after: Vec::new(),
            };
        };
        let selection = destination.change(source, None);
        if destination.paths.is_empty() {
            self.destinations.remove(prefix);
        }
        selection
    }

    /// The prefixes to which a peer has told a path.
    pub fn told_by(&self, name: &PeerName) -> Vec<IpNet> {
        self.destinations
            .iter()
            .filter(|(_, destination)| {
                let mut sources = destination.paths.iter().map(|path| &path.source);
                sources.any(|source| source.name() == Some(name))
            })
            .map(|(prefix, _)| *prefix)
            .collect()
    }
}

impl Destination {
    /// Puts a path in place of what `source` said before.
    fn change(&mut self, source: Option<&PeerName>, path: Option<Path>) -> Selection {
        let before = self.paths[..self.selected].to_vec();
        let known = self.paths.len();
        self.paths.retain(|path| path.source.name() != source);
        let had_path = self.paths.len() < known;
        self.paths.extend(path);
        self.selected = decision::select(&mut self.paths);
        Selection {
            had_path,
            before,
            after: self.paths[..self.selected].to_vec(),
        }
    }
}

impl Selection {
    /// Whether the best path changed, so that peers may have to be told.
    pub fn best_changed(&self) -> bool {
        self.before.first() != self.after.first()
    }

    /// What the owner of the kernel's routes is to be told, if that changed. Own announcements have no next
    /// hops: coming and going they change nothing for the kernel.
    pub fn route_change(&self, prefix: IpNet) -> Option<RouteChange> {
        let told = |paths: &[Path]| RouteChange {
            prefix,
            next_hops: next_hops(paths),
            peer: paths.first().and_then(|path| path.source.name()).cloned(),
        };
        let (before, after) = (told(&self.before), told(&self.after));
        (before != after).then_some(after)
    }
}

/// The next hops of selected paths; none for our own.
pub(crate) fn next_hops(selected: &[Path]) -> BTreeSet<IpAddr> {
    selected
        .iter()
        .filter(|path| path.source != Source::Own)
        .map(|path| path.next_hop)
        .collect()
}
