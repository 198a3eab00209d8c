//! What a filter says of a route, and what becomes of it.

use std::cell::OnceCell;

use ipnet::IpNet;

use super::{Change, Condition, Decision, Filter, RouteSource};
use crate::rib::{Neighbour, Stored};
use crate::types::{Asn, Family};
use crate::wire::{NextHop, PathAttrs, PeerKind};

/// The rules that a route met and that change something, by number; usually none.
pub(crate) type Applied = Vec<u16>;

/// A route as a filter sees it: as it came, whatever earlier rules change. Its attributes are only taken apart
/// when a condition asks for them.
pub(crate) struct RouteView<'a> {
    prefix: IpNet,
    from: From<'a>,
    stored: &'a Stored,
    attrs: &'a OnceCell<PathAttrs>,
}

/// Whose a route is.
#[derive(Clone, Copy)]
pub(crate) enum From<'a> {
    Own,
    Aggregate,
    Peer(&'a Neighbour),
}

impl<'a> RouteView<'a> {
    /// `attrs` may be shared by routes with the same attributes.
    pub(crate) fn new(
        prefix: IpNet,
        from: From<'a>,
        stored: &'a Stored,
        attrs: &'a OnceCell<PathAttrs>,
    ) -> Self {
        Self {
            prefix,
            from,
            stored,
            attrs,
        }
    }

    fn attrs(&self) -> &PathAttrs {
        self.attrs.get_or_init(|| self.stored.attrs())
    }
}

impl Filter {
    /// `None` if the route is rejected, else the rules that change it.
    pub(crate) fn judge(&self, route: &RouteView<'_>) -> Option<Applied> {
        let mut applied = Applied::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if !rule.when.iter().all(|condition| condition.holds(route)) {
                continue;
            }
            if !rule.changes.is_empty() {
                applied.extend(u16::try_from(number));
            }
            match rule.then {
                Some(Decision::Accept) => return Some(applied),
                Some(Decision::Reject) => return None,
                None => {}
            }
        }
        (self.default == Decision::Accept).then_some(applied)
    }

    /// Makes the changes of these rules; `asn` is ours.
    pub(crate) fn apply(
        &self,
        applied: &Applied,
        attrs: &mut PathAttrs,
        next_hop: &mut NextHop,
        asn: Asn,
    ) {
        let rules = applied
            .iter()
            .filter_map(|number| self.rules.get(usize::from(*number)));
        for change in rules.flat_map(|rule| &rule.changes) {
            change.apply(attrs, next_hop, asn);
        }
    }
}

impl Condition {
    fn holds(&self, route: &RouteView<'_>) -> bool {
        match self {
            Self::Prefix(list) => list.iter().any(|entry| entry.matches(&route.prefix)),
            Self::Family(family) => Family::of_prefix(&route.prefix) == *family,
            Self::Community(list) => {
                let has = &route.attrs().communities;
                list.iter().any(|community| has.contains(community))
            }
            Self::LargeCommunity(list) => {
                let has = &route.attrs().large_communities;
                list.iter().any(|community| has.contains(community))
            }
            Self::ExtendedCommunity(list) => {
                let has = &route.attrs().extended_communities;
                list.iter().any(|community| has.contains(community))
            }
            Self::AsPath(pattern) => pattern.matches(&route.attrs().as_path),
            Self::AsPathLength(range) => range.contains(&u32::from(route.stored.rank.path_length)),
            Self::NextHop(list) => {
                let next_hop = route.stored.next_hop.address();
                list.iter().any(|net| net.contains(&next_hop))
            }
            Self::Source(source) => source.is(route.from),
            Self::LocalPref(range) => range.contains(&route.stored.rank.local_pref),
            Self::Med(range) => range.contains(&route.stored.rank.med),
            Self::AnyOf(list) => list.iter().any(|condition| condition.holds(route)),
            Self::Not(condition) => !condition.holds(route),
        }
    }
}

impl RouteSource {
    fn is(&self, from: From<'_>) -> bool {
        match (self, from) {
            (Self::Own, From::Own) | (Self::Aggregate, From::Aggregate) => true,
            (Self::External, From::Peer(peer)) => peer.kind == PeerKind::Ebgp,
            (Self::Internal, From::Peer(peer)) => peer.kind == PeerKind::Ibgp,
            (Self::Peer(name), From::Peer(peer)) => *name == peer.name,
            _ => false,
        }
    }
}

impl Change {
    fn apply(&self, attrs: &mut PathAttrs, next_hop: &mut NextHop, own: Asn) {
        match self {
            Self::LocalPref(preference) => attrs.local_pref = Some(*preference),
            Self::Med(med) => attrs.med = *med,
            Self::Origin(origin) => attrs.origin = *origin,
            Self::NextHop(address) => *next_hop = NextHop::from(*address),
            Self::Prepend { asn, times } => {
                for _ in 0..*times {
                    attrs.as_path = attrs.as_path.prepended(asn.unwrap_or(own));
                }
            }
            Self::AddCommunity(community) => add(&mut attrs.communities, *community),
            Self::RemoveCommunities { value, mask } => {
                let other = |community: &u32| community & mask != value & mask;
                attrs.communities.retain(other);
            }
            Self::AddLargeCommunity(community) => add(&mut attrs.large_communities, *community),
            Self::RemoveLargeCommunity(community) => {
                attrs.large_communities.retain(|other| other != community);
            }
            Self::AddExtendedCommunity(community) => {
                add(&mut attrs.extended_communities, *community);
            }
            Self::RemoveExtendedCommunity(community) => {
                attrs
                    .extended_communities
                    .retain(|other| other != community);
            }
        }
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
