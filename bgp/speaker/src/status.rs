//! How sessions are, in words for people.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use crate::settings::HoldTime;
use crate::types::{Asn, BgpId, Family, State};

/// One peer's session as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's AS number as configured.
    pub asn: Asn,
    /// RFC 4271 state.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Why the session is not established; empty when it is.
    pub reason: String,
    /// What to look at, if there is something to say.
    pub hint: String,
    /// What is not as wanted although the session is up (a family without next hop, refused routes).
    pub notes: Vec<String>,
    /// Prefixes the peer announces and we use or could use.
    pub received: u32,
    /// Prefixes announced to the peer.
    pub announced: u32,
    /// Families that both sides speak; empty unless established.
    pub families: BTreeSet<Family>,
    /// Families of which the peer has sent everything it had (End-of-RIB, RFC 4724 §2).
    pub end_of_rib: BTreeSet<Family>,
    /// The negotiated hold time.
    pub hold_time: Option<HoldTime>,
    /// Our address in the session.
    pub local_address: Option<IpAddr>,
    /// The peer's identifier.
    pub bgp_id: Option<BgpId>,
}
