//! Which routes a group of peers is told, and with which attributes.

use std::cell::OnceCell;

use crate::filter::{Applied, Filter, From, RouteView};
use crate::rib::{Freshness, LocRib, Marks, PathRecord, Slot, SourceId};
use crate::settings::{Export, LocalAs, NextHopMode, OldAs, PrivateAs, Reflection, Switch};
use crate::types::{Asn, BgpId, Family};
use crate::wire::community::{GRACEFUL_SHUTDOWN, LLGR_STALE, NOT_TRANSITIVE};
use crate::wire::{ExtendedCommunity, NextHop, PathAttrs, PeerKind, Shape};

/// The path identifier of own paths that are aggregates; they are no peer's and need none.
pub(crate) const AGGREGATE: u32 = 1;

/// How a group of peers is told. Peers for which all of this is equal are told the same octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exporter {
    /// Whether they are in our AS.
    pub(crate) kind: PeerKind,
    pub(crate) asn: Asn,
    pub(crate) bgp_id: BgpId,
    pub(crate) cluster: BgpId,
    /// Another AS number that they know us by.
    pub(crate) local_as: Option<LocalAs>,
    /// The AS number of theirs that is replaced by ours.
    pub(crate) override_as: Option<Asn>,
    pub(crate) private_as: PrivateAs,
    pub(crate) export: Export,
    pub(crate) filter: Option<Filter>,
    /// Whether others' routes stay here for want of a filter (RFC 8212).
    pub(crate) without_policy: Switch,
    pub(crate) reflection: Reflection,
    pub(crate) next_hop: NextHopMode,
    /// Whether they are asked to prefer others (RFC 8326).
    pub(crate) graceful_shutdown: Switch,
    /// Whether they know long-lived stale routes (RFC 9494).
    pub(crate) long_lived: Switch,
    /// By family; `None` where it is not spoken or has no next hop.
    pub(crate) lanes: [Option<Lane>; 2],
}

/// How routes of one family are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Ourselves.
    pub(crate) own: NextHop,
    pub(crate) shape: Shape,
    /// Whether an IPv6 next hop may stand with IPv4 routes (RFC 8950).
    pub(crate) extended_next_hop: Switch,
    /// How many paths to a prefix; 0 for the best alone, without identifier.
    pub(crate) paths: u8,
}

impl Exporter {
    pub(crate) fn lane(&self, family: Family) -> Option<&Lane> {
        self.lanes[family as usize].as_ref()
    }

    /// Whether the path is told at all, and which rules of the filter change it.
    pub(crate) fn judge(&self, rib: &LocRib, slot: Slot, path: &PathRecord) -> Option<Applied> {
        if !self.may_tell(rib, path) {
            return None;
        }
        match &self.filter {
            None => Some(Applied::new()),
            Some(filter) => {
                let attrs = OnceCell::new();
                let from = match rib.neighbours.get(path.source) {
                    Some(neighbour) => From::Peer(neighbour),
                    None if path.id == AGGREGATE => From::Aggregate,
                    None => From::Own,
                };
                filter.judge(&RouteView::new(
                    rib.prefix(slot),
                    from,
                    rib.stored(path),
                    &attrs,
                ))
            }
        }
    }

    fn may_tell(&self, rib: &LocRib, path: &PathRecord) -> bool {
        if !rib.has_way(path) {
            return false; // RFC 4271 §9.1.2.1
        }
        let marks = rib.stored(path).rank.marks;
        if marks.has(Marks::NO_ADVERTISE)
            || (marks.has(Marks::NO_EXPORT) && self.kind == PeerKind::Ebgp)
        {
            return false; // RFC 1997
        }
        let Some(from) = rib.neighbours.get(path.source) else {
            return path.source == SourceId::OWN;
        };
        let client = Reflection::Client;
        let internal = from.kind == PeerKind::Ibgp
            && self.kind == PeerKind::Ibgp
            && from.reflection != client
            && self.reflection != client; // RFC 4456 §6
        let stale = path.freshness == Freshness::LongStale || marks.has(Marks::LLGR_STALE);
        self.export == Export::All
            && !self.without_policy.is_on()
            && !internal
            && (!stale || self.long_lived.is_on()) // RFC 9494 §4.3
    }

    /// The attributes and the next hop as the peers see them (RFC 4271 §5.1).
    pub(crate) fn told(
        &self,
        rib: &LocRib,
        family: Family,
        path: &PathRecord,
        applied: &Applied,
    ) -> Option<(PathAttrs, NextHop)> {
        let lane = self.lane(family)?;
        let stored = rib.stored(path);
        let mut attrs = stored.attrs();
        let from = rib.neighbours.get(path.source);
        let mut next_hop = self.next_hop(lane, family, stored.next_hop, from.map(|from| from.kind));
        if path.freshness == Freshness::LongStale && !attrs.communities.contains(&LLGR_STALE) {
            attrs.communities.push(LLGR_STALE);
        }
        match self.kind {
            PeerKind::Ibgp => {
                attrs.local_pref.get_or_insert(100);
                if self.graceful_shutdown.is_on() {
                    attrs.local_pref = Some(0); // RFC 8326 §4.1
                }
                if let Some(from) = from.filter(|from| from.kind == PeerKind::Ibgp) {
                    // RFC 4456 §8
                    attrs.originator_id.get_or_insert(from.bgp_id);
                    attrs.cluster_list.insert(0, self.cluster);
                }
            }
            PeerKind::Ebgp => self.outside(&mut attrs),
        }
        if let Some(filter) = &self.filter {
            filter.apply(applied, &mut attrs, &mut next_hop, self.shown_as());
        }
        let fits = match (family, next_hop) {
            (Family::Ipv4, NextHop::V4(_)) => true,
            (Family::Ipv4, NextHop::V6(_) | NextHop::V6Pair(..)) => lane.extended_next_hop.is_on(),
            (Family::Ipv6, next_hop) => !matches!(next_hop, NextHop::V4(_)),
        };
        Some((attrs, if fits { next_hop } else { lane.own }))
    }

    /// What an eBGP peer sees.
    fn outside(&self, attrs: &mut PathAttrs) {
        // A MED that came from another AS must not go on to a third (§5.1.4).
        if !attrs.as_path.0.is_empty() {
            attrs.med = None;
        }
        let ours = self.shown_as();
        let private = |asn: Asn| {
            (64512..=65534).contains(&asn.0) || (4_200_000_000..=4_294_967_294).contains(&asn.0)
        };
        let replace = |asn: Asn| match self.private_as {
            PrivateAs::Remove if private(asn) => None,
            PrivateAs::Replace if private(asn) => Some(ours),
            PrivateAs::Keep | PrivateAs::Remove | PrivateAs::Replace => {
                Some(if Some(asn) == self.override_as {
                    ours
                } else {
                    asn
                })
            }
        };
        if self.private_as != PrivateAs::Keep || self.override_as.is_some() {
            attrs.as_path = attrs.as_path.replaced(replace);
        }
        if self
            .local_as
            .is_some_and(|local| local.real == OldAs::Shown)
        {
            attrs.as_path = attrs.as_path.prepended(self.asn); // RFC 7705 §3.1
        }
        attrs.as_path = attrs.as_path.prepended(ours);
        attrs.local_pref = None;
        attrs.originator_id = None;
        attrs.cluster_list.clear();
        // What is not transitive stays in our AS (RFC 4360 §6).
        let transitive = |community: &ExtendedCommunity| community[0] & NOT_TRANSITIVE == 0;
        attrs.extended_communities.retain(transitive);
        if self.graceful_shutdown.is_on() && !attrs.communities.contains(&GRACEFUL_SHUTDOWN) {
            attrs.communities.push(GRACEFUL_SHUTDOWN);
        }
    }

    /// The AS number that the peers know us by.
    fn shown_as(&self) -> Asn {
        self.local_as.map_or(self.asn, |local| local.asn)
    }

    fn next_hop(
        &self,
        lane: &Lane,
        family: Family,
        stored: NextHop,
        from: Option<PeerKind>,
    ) -> NextHop {
        let keep = match (self.next_hop, self.kind, from) {
            (_, _, None) | (NextHopMode::Own, ..) => false,
            (NextHopMode::Unchanged, ..) => true,
            (NextHopMode::Auto, PeerKind::Ibgp, Some(PeerKind::Ibgp)) => true,
            (NextHopMode::Auto, ..) => false,
        };
        let carried = family == Family::Ipv6
            || matches!(stored, NextHop::V4(_))
            || lane.extended_next_hop.is_on();
        if !keep || !carried {
            return lane.own;
        }
        match stored {
            // A link-local address means nothing on another link (RFC 2545 §3).
            NextHop::V6Pair(address, _) => NextHop::V6(address),
            NextHop::V6(address) if address.is_unicast_link_local() => lane.own,
            NextHop::V4(_) | NextHop::V6(_) => stored,
        }
    }
}
