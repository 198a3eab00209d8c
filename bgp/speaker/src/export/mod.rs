//! What peers are told (RFC 4271 §9.2).
//!
//! Peers that are told the same in the same way form a [`Group`]: a change is looked at, encoded and packed once, and
//! its members share the octets. A member that is new or cannot take in more [`Lag`]s behind its group and is told
//! what it lacks by itself, by attributes, until it has caught up.

mod exporter;
mod group;
mod lag;
mod pack;

pub(crate) use exporter::{AGGREGATE, Exporter, Lane};
pub(crate) use group::{Group, TOLD_NONE, Told, Transition};
pub(crate) use lag::{End, Lag};
pub(crate) use pack::{Audience, Item, Pack};
