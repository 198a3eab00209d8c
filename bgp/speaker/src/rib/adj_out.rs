//! What one peer is told (RFC 4271 §9.2), and the UPDATEs that say so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{LocRib, Path, Source};
use crate::settings::Export;
use crate::types::{Asn, Family, PeerName};
use crate::wire::update::{encode_announcement, encode_end_of_rib, encode_withdrawal};
use crate::wire::{AsWidth, PathAttrs, PeerKind};

/// Communities that keep a route in (RFC 1997).
const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;

/// How routes are told to one peer.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// Whom.
    pub peer: PeerName,
    /// Whether it is in our AS.
    pub kind: PeerKind,
    /// Our AS.
    pub asn: Asn,
    /// What it may learn.
    pub export: Export,
    /// Width of AS numbers.
    pub as_width: AsWidth,
    /// Our address by family, for the families it speaks; it stands as next hop.
    pub next_hops: BTreeMap<Family, IpAddr>,
}

/// What a peer has been told, and what it is still to be told.
#[derive(Debug, Default)]
pub struct AdjRibOut {
    /// With which attributes and next hop.
    told: BTreeMap<IpNet, (Arc<PathAttrs>, IpAddr)>,
    /// Prefixes to look at again.
    pending: BTreeSet<IpNet>,
    /// Families to tell again although the peer knows.
    again: BTreeSet<Family>,
    /// Families whose end is to be told once everything pending is.
    end_of_rib: BTreeSet<Family>,
    /// Messages made of what was pending.
    messages: VecDeque<Vec<u8>>,
}

impl AdjRibOut {
    /// Whether there is nothing to say.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.messages.is_empty() && self.end_of_rib.is_empty()
    }

    /// How many prefixes the peer has been told.
    pub fn announced(&self) -> usize {
        self.told.len()
    }

    /// The prefixes that the peer has been told.
    pub fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.told.keys()
    }

    /// `prefix` may have changed.
    pub fn touch(&mut self, prefix: IpNet) {
        self.pending.insert(prefix);
    }

    /// Everything may have changed: whatever `rib` has or the peer knows.
    pub fn touch_all(&mut self, rib: &LocRib) {
        self.pending.extend(rib.prefixes());
        self.pending.extend(self.told.keys());
    }

    /// Tells everything of `family` again, and its end (RFC 2918 §4).
    pub fn refresh(&mut self, family: Family, rib: &LocRib) {
        self.touch_all(rib);
        self.again.insert(family);
        self.end_of_rib.insert(family);
    }

    /// A new session: the whole table, then the end of each family.
    pub fn start(rib: &LocRib, families: &BTreeSet<Family>) -> Self {
        Self {
            pending: rib.prefixes().copied().collect(),
            end_of_rib: families.clone(),
            ..Self::default()
        }
    }

    /// The next message to the peer, if there is something to say. Changes that come while messages wait are
    /// told together afterwards.
    pub fn next_message(&mut self, rib: &LocRib, exporter: &Exporter) -> Option<Vec<u8>> {
        if self.messages.is_empty() && !self.pending.is_empty() {
            self.build(rib, exporter);
        }
        if let Some(message) = self.messages.pop_front() {
            return Some(message);
        }
        self.end_of_rib.pop_first().map(encode_end_of_rib)
    }

    /// Turns what is pending into messages: withdrawals, then announcements by equal attributes.
    fn build(&mut self, rib: &LocRib, exporter: &Exporter) {
        let mut withdrawn: BTreeMap<Family, Vec<IpNet>> = BTreeMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut by_attrs = BTreeMap::new();
        let again = std::mem::take(&mut self.again);
        for prefix in std::mem::take(&mut self.pending) {
            match exporter.export(rib, &prefix) {
                None => {
                    if self.told.remove(&prefix).is_some() {
                        let family = Family::of_prefix(&prefix);
                        withdrawn.entry(family).or_default().push(prefix);
                    }
                }
                Some((attrs, next_hop)) => {
                    let tell = (attrs.clone(), next_hop);
                    let told = self.told.insert(prefix, tell);
                    let same = told.is_some_and(|(before, from)| {
                        Arc::ptr_eq(&before, &attrs) && from == next_hop
                    });
                    if !same || again.contains(&Family::of_prefix(&prefix)) {
                        let index = *by_attrs
                            .entry((Arc::as_ptr(&attrs), next_hop))
                            .or_insert_with(|| {
                                groups.push(Group {
                                    attrs,
                                    next_hop,
                                    prefixes: Vec::new(),
                                });
                                groups.len() - 1
                            });
                        groups[index].prefixes.push(prefix);
                    }
                }
            }
        }
        let mut announcements = Vec::new();
        for group in groups {
            let attrs = exporter.attrs(&group.attrs);
            let mut prefixes = group.prefixes.as_slice();
            while let Some(message) =
                encode_announcement(&attrs, group.next_hop, &mut prefixes, exporter.as_width)
            {
                announcements.push(message);
            }
            // Attributes that fill a whole message leave no room for a prefix.
            for prefix in prefixes {
                self.told.remove(prefix);
                let family = Family::of_prefix(prefix);
                withdrawn.entry(family).or_default().push(*prefix);
            }
        }
        for (family, prefixes) in withdrawn {
            let mut prefixes = prefixes.as_slice();
            while let Some(message) = encode_withdrawal(family, &mut prefixes) {
                self.messages.push_back(message);
            }
        }
        self.messages.extend(announcements);
    }
}

/// Prefixes that are told with the same attributes.
struct Group {
    attrs: Arc<PathAttrs>,
    next_hop: IpAddr,
    prefixes: Vec<IpNet>,
}

impl Exporter {
    /// The path of `prefix` that the peer is told, if any, and the next hop.
    fn export(&self, rib: &LocRib, prefix: &IpNet) -> Option<(Arc<PathAttrs>, IpAddr)> {
        let path = rib.best(prefix)?;
        let next_hop = *self.next_hops.get(&Family::of_prefix(prefix))?;
        self.may_tell(path).then(|| (path.attrs.clone(), next_hop))
    }

    fn may_tell(&self, path: &Path) -> bool {
        let Source::Peer(from) = &path.source else {
            return true;
        };
        let internal = from.kind == PeerKind::Ibgp && self.kind == PeerKind::Ibgp;
        let kept_in =
            path.attrs
                .communities
                .iter()
                .any(|community| match (*community, self.kind) {
                    (NO_ADVERTISE, _) => true,
                    (NO_EXPORT | NO_EXPORT_SUBCONFED, kind) => kind == PeerKind::Ebgp,
                    _ => false,
                });
        self.export == Export::All && from.name != self.peer && !internal && !kept_in
    }

    /// The attributes as this peer sees them (RFC 4271 §5.1).
    fn attrs(&self, attrs: &PathAttrs) -> PathAttrs {
        let mut attrs = attrs.clone();
        match self.kind {
            PeerKind::Ibgp => {
                attrs.local_pref.get_or_insert(100);
            }
            PeerKind::Ebgp => {
                // A MED that came from another AS must not go on to a third (§5.1.4).
                if !attrs.as_path.0.is_empty() {
                    attrs.med = None;
                }
                attrs.as_path = attrs.as_path.prepended(self.asn);
                attrs.local_pref = None;
                attrs.originator_id = None;
                attrs.cluster_list.clear();
            }
        }
        attrs
    }
}

#[cfg(test)]
mod tests;
