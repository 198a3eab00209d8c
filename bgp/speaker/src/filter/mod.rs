//! Filters: which routes pass, and how they are changed on the way.
//!
//! Rules are tried in order. A rule whose conditions all hold changes the route, and then accepts it, rejects
//! it or goes on to the next rule. What no rule decides has the filter's last word.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::types::{Asn, Family, PeerName};
use crate::wire::{ExtendedCommunity, LargeCommunity, Origin};

mod as_path;
mod eval;

pub use as_path::{AsPathPattern, AsToken, PatternError};
pub(crate) use eval::{Applied, From, RouteView};

/// An import or export policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// In order.
    pub rules: Vec<Rule>,
    /// What becomes of routes that no rule accepts or rejects.
    pub default: Decision,
}

impl Filter {
    /// Everything passes as it is.
    pub fn accept_all() -> Self {
        Self {
            rules: Vec::new(),
            default: Decision::Accept,
        }
    }

    /// Nothing passes.
    pub fn reject_all() -> Self {
        Self {
            rules: Vec::new(),
            default: Decision::Reject,
        }
    }
}

/// Whether a route passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Accept,
    /// It does not.
    Reject,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold; a rule without conditions holds always.
    pub when: Vec<Condition>,
    /// What is changed, in order.
    pub changes: Vec<Change>,
    /// What then; `None` goes on to the next rule.
    pub then: Option<Decision>,
}

/// Something that holds of a route, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// One of these matches the prefix.
    Prefix(Vec<PrefixMatch>),
    /// The route is of this family.
    Family(Family),
    /// It has one of these communities.
    Community(Vec<u32>),
    /// It has one of these large communities.
    LargeCommunity(Vec<LargeCommunity>),
    /// It has one of these extended communities.
    ExtendedCommunity(Vec<ExtendedCommunity>),
    /// Its `AS_PATH` fits the pattern.
    AsPath(AsPathPattern),
    /// Its `AS_PATH` has at least and at most so many numbers.
    AsPathLength(std::ops::RangeInclusive<u32>),
    /// Its next hop is in one of these.
    NextHop(Vec<IpNet>),
    /// It comes from there.
    Source(RouteSource),
    /// Its `LOCAL_PREF` (100 if none) is in this range.
    LocalPref(std::ops::RangeInclusive<u32>),
    /// Its `MULTI_EXIT_DISC` (0 if none) is in this range.
    Med(std::ops::RangeInclusive<u32>),
    /// One of these holds.
    AnyOf(Vec<Condition>),
    /// The condition does not hold.
    Not(Box<Condition>),
}

/// Where a route comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteSource {
    /// We announce it ourselves.
    Own,
    /// An aggregate of ours.
    Aggregate,
    /// An eBGP peer.
    External,
    /// An iBGP peer.
    Internal,
    /// This peer.
    Peer(PeerName),
}

/// Prefixes inside a prefix, by length (`10.0.0.0/8 ge 24 le 28`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixMatch {
    /// The prefix that contains them.
    pub within: IpNet,
    /// The shortest; no shorter than `within` itself.
    pub ge: u8,
    /// The longest.
    pub le: u8,
}

impl PrefixMatch {
    /// The prefix itself and nothing else.
    pub fn exact(prefix: IpNet) -> Self {
        Self {
            within: prefix,
            ge: prefix.prefix_len(),
            le: prefix.prefix_len(),
        }
    }

    /// The prefix and everything inside it.
    pub fn or_longer(prefix: IpNet) -> Self {
        Self {
            le: prefix.max_prefix_len(),
            ..Self::exact(prefix)
        }
    }

    /// Whether `prefix` is one of them.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        (self.ge..=self.le).contains(&prefix.prefix_len()) && self.within.contains(prefix)
    }
}

/// What a rule does to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets `LOCAL_PREF`.
    LocalPref(u32),
    /// Sets `MULTI_EXIT_DISC`, or takes it out.
    Med(Option<u32>),
    /// Sets ORIGIN.
    Origin(Origin),
    /// Sets the next hop; it must be of a family that the session can carry.
    NextHop(IpAddr),
    /// Puts this AS number in front of `AS_PATH`, so many times; ours where none is given.
    Prepend {
        /// Which.
        asn: Option<Asn>,
        /// How often, 1 to 25.
        times: u8,
    },
    /// Adds a community.
    AddCommunity(u32),
    /// Takes communities out: those that are equal to the first under the bits of the second.
    RemoveCommunities {
        /// What they are compared with.
        value: u32,
        /// Which bits count.
        mask: u32,
    },
    /// Adds a large community.
    AddLargeCommunity(LargeCommunity),
    /// Takes a large community out.
    RemoveLargeCommunity(LargeCommunity),
    /// Adds an extended community.
    AddExtendedCommunity(ExtendedCommunity),
    /// Takes an extended community out.
    RemoveExtendedCommunity(ExtendedCommunity),
}

#[cfg(test)]
mod tests;
