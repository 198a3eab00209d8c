//! Who tells paths.

use std::net::IpAddr;

use super::paths::SourceId;
use crate::settings::Reflection;
use crate::types::{BgpId, PeerName};
use crate::wire::PeerKind;

/// What decisions need to know of a peer whose paths are in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) name: PeerName,
    /// Whether it is in our AS.
    pub(crate) kind: PeerKind,
    pub(crate) address: IpAddr,
    pub(crate) bgp_id: BgpId,
    pub(crate) reflection: Reflection,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// The one with number 1 first.
    known: Vec<Option<Neighbour>>,
}

impl Neighbours {
    /// `None` for ourselves.
    pub(crate) fn get(&self, source: SourceId) -> Option<&Neighbour> {
        self.known
            .get(usize::from(source.0).checked_sub(1)?)?
            .as_ref()
    }

    /// A number for a new one; `None` once 65534 are taken.
    pub(crate) fn add(&mut self, neighbour: Neighbour) -> Option<SourceId> {
        let free = self.known.iter().position(Option::is_none);
        let at = free.unwrap_or(self.known.len());
        let source = SourceId(u16::try_from(at + 1).ok().filter(|id| *id < u16::MAX)?);
        if at == self.known.len() {
            self.known.push(None);
        }
        self.known[at] = Some(neighbour);
        Some(source)
    }

    /// What is known of it is this now.
    pub(crate) fn set(&mut self, source: SourceId, neighbour: Neighbour) {
        if let Some(at) = usize::from(source.0).checked_sub(1)
            && let Some(known) = self.known.get_mut(at)
        {
            *known = Some(neighbour);
        }
    }

    /// Forgets one that has no paths any more; its number is used again.
    pub(crate) fn remove(&mut self, source: SourceId) {
        if let Some(at) = usize::from(source.0).checked_sub(1)
            && let Some(known) = self.known.get_mut(at)
        {
            *known = None;
        }
    }
}
