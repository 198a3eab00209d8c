//! What a speaker is told to be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::types::{Asn, BgpId, Family, PeerName};

mod origin;
mod peer;
mod restart;
mod table;

pub use origin::{Aggregate, Announcement, Details};
pub use peer::{
    AddPath, LimitAction, LocalAs, NextHopMode, OldAs, OwnAs, PeerSettings, PrefixLimit, PrivateAs,
    Reflection, Switch,
};
pub use restart::{Deferral, RestartSettings};
pub use table::{BestPath, MedComparison, PeerRange};

/// Everything a speaker is told. A new value may come at any time: only what differs is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Own AS number. A change resets every session, since it stands in our OPEN.
    pub asn: Asn,
    /// Own BGP identifier; unique in the AS. A change resets every session.
    pub bgp_id: BgpId,
    /// Own addresses for routes that travel over a session of the other family.
    pub next_hops: NextHops,
    /// The peers, each one TCP session.
    pub peers: BTreeMap<PeerName, PeerSettings>,
    /// Own prefixes, announced to every peer.
    pub announce: BTreeSet<IpNet>,
    /// What own prefixes are announced with, where that is more than nothing.
    pub announcements: BTreeMap<IpNet, Announcement>,
    /// Prefixes that are announced as long as a route inside them is there.
    pub aggregates: BTreeMap<IpNet, Aggregate>,
    /// The cluster that we reflect for (RFC 4456 §7); our identifier if none.
    pub cluster_id: Option<BgpId>,
    /// How the best of several paths is found.
    pub best_path: BestPath,
    /// Peers that need not be known one by one: whoever dials from such a prefix becomes one.
    pub ranges: BTreeMap<String, PeerRange>,
    /// Whether eBGP routes without a filter of their direction are refused (RFC 8212). Own prefixes under
    /// [`Export::Own`] are a policy of their own and go out anyway.
    pub ebgp_requires_policy: Switch,
    /// Whether this node is about to leave: everybody is asked to prefer others (RFC 8326 §4).
    pub graceful_shutdown: Switch,
    /// Whether routes of eBGP peers that are about to leave get `LOCAL_PREF` 0 (RFC 8326 §4.2).
    pub honour_graceful_shutdown: Switch,
    /// Whether the owner is told of routes ([`crate::Action::Route`]); off where nobody sets them.
    pub tell_routes: Switch,
    /// Whether routes are used only if there is a way to their next hop, which the driver is asked for
    /// ([`crate::Action::TrackNextHop`]), and nearer ones are preferred. Else every next hop counts as a neighbour.
    pub track_next_hops: Switch,
    /// How long the first routes after the start wait for each other, if they do.
    pub deferral: Option<Deferral>,
}

impl Settings {
    /// A speaker without peers and prefixes.
    pub fn new(asn: Asn, bgp_id: BgpId) -> Self {
        Self {
            asn,
            bgp_id,
            next_hops: NextHops::default(),
            peers: BTreeMap::new(),
            announce: BTreeSet::new(),
            announcements: BTreeMap::new(),
            aggregates: BTreeMap::new(),
            cluster_id: None,
            best_path: BestPath::default(),
            ranges: BTreeMap::new(),
            ebgp_requires_policy: Switch::Off,
            graceful_shutdown: Switch::Off,
            honour_graceful_shutdown: Switch::On,
            tell_routes: Switch::On,
            track_next_hops: Switch::Off,
            deferral: None,
        }
    }
}

/// Own addresses by family, for next hops.
///
/// A route is announced with the session's own local address if that is of the route's family; else with
/// the address given here; else with the local address of another established session of that family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    /// Next hop of IPv4 routes over an IPv6 session.
    pub v4: Option<Ipv4Addr>,
    /// Next hop of IPv6 routes over an IPv4 session.
    pub v6: Option<Ipv6Addr>,
}

impl NextHops {
    /// The address of `family`.
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.v4.map(IpAddr::V4),
            Family::Ipv6 => self.v6.map(IpAddr::V6),
        }
    }
}

/// Whether we dial the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dial {
    /// Dial, and accept as well.
    #[default]
    Active,
    /// Only accept (`PassiveTcpEstablishment`, RFC 4271 §8.1.1).
    Passive,
}

/// Which routes a peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Export {
    /// Own prefixes only: a node is no transit.
    #[default]
    Own,
    /// Also what others told us, as far as RFC 4271 §9.2 passes it on (nothing from iBGP to iBGP).
    All,
}

/// A hold time as proposed in OPEN: seconds, never 1 or 2 (RFC 4271 §4.2); 0 means no KEEPALIVEs at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldTime(u16);

impl HoldTime {
    /// A hold time of so many seconds; the forbidden 1 and 2 become 3.
    pub fn from_secs(seconds: u16) -> Self {
        Self(if matches!(seconds, 1 | 2) { 3 } else { seconds })
    }

    /// In seconds.
    pub fn as_secs(self) -> u16 {
        self.0
    }

    /// How long silence may last; `None` for ever.
    pub fn duration(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(self.0.into()))
    }
}

impl Default for HoldTime {
    /// 90 s, as RFC 4271 §10 suggests.
    fn default() -> Self {
        Self(90)
    }
}
