//! What is announced as our own.

use std::collections::BTreeSet;

use crate::wire::{ExtendedCommunity, LargeCommunity};

/// What an own prefix is announced with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Communities and the like.
    pub details: Details,
}

/// Attributes of an own route, beyond the mandatory ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Communities (RFC 1997).
    pub communities: BTreeSet<u32>,
    /// Large communities (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Extended communities (RFC 4360).
    pub extended_communities: BTreeSet<ExtendedCommunity>,
    /// `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
    /// `LOCAL_PREF` towards iBGP peers; 100 if none.
    pub local_pref: Option<u32>,
}

/// A prefix that is announced as long as there is a route inside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// Whether peers of other ASes are no longer told of the routes inside it.
    pub suppress: super::Switch,
    /// What it is announced with.
    pub details: Details,
}
