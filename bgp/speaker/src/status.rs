//! How sessions are, in words for people.

use std::collections::{BTreeMap, BTreeSet};
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
    /// When the session ends unless the peer is heard of.
    pub hold_until: Option<Instant>,
    /// When the peer is dialled next.
    pub dial_at: Option<Instant>,
    /// Our address in the session.
    pub local_address: Option<IpAddr>,
    /// The peer's identifier.
    pub bgp_id: Option<BgpId>,
    /// The range that the peer came from, if it is not configured by itself.
    pub range: Option<String>,
    /// What the peer's OPEN offered; empty unless established.
    pub capabilities: BTreeSet<String>,
    /// Families of which the peer sends several paths (RFC 7911).
    pub paths_in: BTreeSet<Family>,
    /// Families of which the peer is told several paths.
    pub paths_out: BTreeSet<Family>,
    /// `received` by family.
    pub received_by_family: BTreeMap<Family, u32>,
    /// What has passed since the peer was configured.
    pub traffic: Traffic,
    /// How often the session was established since then.
    pub sessions: u64,
    /// UPDATEs of this session that had errors.
    pub errors: u64,
    /// UPDATEs of this session with routes that are not used.
    pub refused: u64,
}

/// Messages and octets of a peer, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// UPDATEs received.
    pub updates_in: u64,
    /// UPDATEs sent.
    pub updates_out: u64,
    /// Octets received, of all messages.
    pub octets_in: u64,
    /// Octets sent, of all messages.
    pub octets_out: u64,
}
