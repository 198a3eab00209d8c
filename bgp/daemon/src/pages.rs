//! What the control socket answers, as JSON: sessions and routes for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;
use margay_bgp::wire::{AsPath, NextHop, Origin, PathAttrs, SegmentKind};
use margay_bgp::{Destination, PathView, Step, Traffic};
use serde::Serialize;

use crate::clock::now;
use crate::{Asn, BfdStatus, BgpId, Family, PeerStatus, Status};

/// How the sessions are.
#[derive(Debug, Serialize)]
pub struct StatusPage {
    peers: BTreeMap<String, PeerPage>,
    listeners: BTreeMap<SocketAddr, ListenerPage>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum ListenerPage {
    Up,
    Down { reason: String },
}

#[derive(Debug, Serialize)]
struct PeerPage {
    address: IpAddr,
    asn: Asn,
    state: String,
    reason: String,
    hint: String,
    notes: Vec<String>,
    since_seconds: u64,
    received: u32,
    received_by_family: BTreeMap<Family, u32>,
    announced: u32,
    families: BTreeSet<Family>,
    end_of_rib: BTreeSet<Family>,
    hold_time: Option<u16>,
    /// Until the session ends unless the peer is heard of.
    hold_left_seconds: Option<u64>,
    /// Until the peer is dialled next.
    dial_in_seconds: Option<u64>,
    local_address: Option<IpAddr>,
    bgp_id: Option<BgpId>,
    range: Option<String>,
    capabilities: BTreeSet<String>,
    paths_in: BTreeSet<Family>,
    paths_out: BTreeSet<Family>,
    sessions: u64,
    errors: u64,
    refused: u64,
    traffic: TrafficPage,
    bfd: Option<BfdPage>,
}

#[derive(Debug, Serialize)]
struct TrafficPage {
    updates_in: u64,
    updates_out: u64,
    octets_in: u64,
    octets_out: u64,
}

#[derive(Debug, Serialize)]
struct BfdPage {
    state: String,
    remote_state: String,
    diagnostic: String,
    interval_ms: Option<u128>,
    detection_time_ms: Option<u128>,
    problem: String,
}

/// A prefix and all paths to it.
#[derive(Debug, Serialize)]
pub struct RoutePage {
    prefix: IpNet,
    /// Where packets go; none for our own prefixes.
    next_hops: BTreeSet<IpAddr>,
    /// Who told the best path; none if it is ours.
    peer: Option<String>,
    /// The best first.
    paths: Vec<PathPage>,
}

/// One path, in the table or as a peer is told it.
#[derive(Debug, Serialize)]
pub struct PathPage {
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    next_hop: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_local: Option<Ipv6Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<bool>,
    /// Why the best path beat the next, or this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    origin: &'static str,
    as_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_pref: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    med: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    communities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    large_communities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extended_communities: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    originator_id: Option<BgpId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cluster_list: Vec<BgpId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregator: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    atomic_aggregate: bool,
    /// Type codes of attributes that are passed on without being known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<u8>,
}

impl StatusPage {
    /// The page of a status.
    pub fn new(status: &Status) -> Self {
        let Status {
            peers,
            bfd,
            listeners,
        } = status;
        let listener = |result: &Result<(), String>| match result {
            Ok(()) => ListenerPage::Up,
            Err(reason) => ListenerPage::Down {
                reason: reason.clone(),
            },
        };
        Self {
            peers: peers
                .iter()
                .map(|(name, peer)| (name.to_string(), peer_page(peer, bfd.get(name))))
                .collect(),
            listeners: listeners
                .iter()
                .map(|(place, result)| (*place, listener(result)))
                .collect(),
        }
    }
}

fn peer_page(peer: &PeerStatus, bfd: Option<&BfdStatus>) -> PeerPage {
    let PeerStatus {
        address,
        asn,
        state,
        since,
        reason,
        hint,
        notes,
        received,
        announced,
        families,
        end_of_rib,
        hold_time,
        hold_until,
        dial_at,
        local_address,
        bgp_id,
        range,
        capabilities,
        paths_in,
        paths_out,
        received_by_family,
        traffic,
        sessions,
        errors,
        refused,
    } = peer.clone();
    let now = now();
    let left = |at: Option<Instant>| Some(at?.saturating_duration_since(now).as_secs());
    let Traffic {
        updates_in,
        updates_out,
        octets_in,
        octets_out,
    } = traffic;
    PeerPage {
        address,
        asn,
        state: state.to_string(),
        reason,
        hint,
        notes,
        since_seconds: now.saturating_duration_since(since).as_secs(),
        received,
        received_by_family,
        announced,
        families,
        end_of_rib,
        hold_time: hold_time.map(crate::HoldTime::as_secs),
        hold_left_seconds: left(hold_until),
        dial_in_seconds: left(dial_at),
        local_address,
        bgp_id,
        range,
        capabilities,
        paths_in,
        paths_out,
        sessions,
        errors,
        refused,
        traffic: TrafficPage {
            updates_in,
            updates_out,
            octets_in,
            octets_out,
        },
        bfd: bfd.map(bfd_page),
    }
}

fn bfd_page(bfd: &BfdStatus) -> BfdPage {
    let BfdStatus {
        state,
        remote_state,
        diagnostic,
        interval,
        detection_time,
        problem,
    } = bfd;
    BfdPage {
        state: state.to_string(),
        remote_state: remote_state.to_string(),
        diagnostic: diagnostic.to_string(),
        interval_ms: interval.map(|interval| interval.as_millis()),
        detection_time_ms: detection_time.map(|time| time.as_millis()),
        problem: problem.clone(),
    }
}

impl RoutePage {
    /// The page of a destination.
    pub fn new(destination: Destination) -> Self {
        let Destination { prefix, paths } = destination;
        let selected = paths.iter().filter(|path| path.selected);
        Self {
            prefix,
            next_hops: selected
                .filter(|path| path.peer.is_some())
                .map(|path| path.next_hop.address())
                .collect(),
            peer: paths
                .first()
                .and_then(|path| path.peer.as_ref().map(ToString::to_string)),
            paths: paths.into_iter().map(PathPage::of_table).collect(),
        }
    }
}

impl PathPage {
    fn of_table(path: PathView) -> Self {
        let PathView {
            peer,
            id,
            next_hop,
            attrs,
            selected,
            stale,
            decided_by,
        } = path;
        Self {
            peer: peer.map(|peer| peer.to_string()),
            selected: Some(selected),
            stale: stale.then_some(true),
            why: decided_by.map(why),
            ..Self::told(None, id, next_hop, &attrs)
        }
    }

    /// A path that a peer told us.
    pub fn received(prefix: IpNet, path: PathView) -> Self {
        Self {
            prefix: Some(prefix),
            ..Self::of_table(path)
        }
    }

    /// A path that a peer is told.
    pub fn told(prefix: Option<IpNet>, id: u32, next_hop: NextHop, attrs: &PathAttrs) -> Self {
        let PathAttrs {
            origin,
            as_path,
            med,
            local_pref,
            atomic_aggregate,
            aggregator,
            communities,
            originator_id,
            cluster_list,
            extended_communities,
            large_communities,
            unknown,
        } = attrs;
        let hex = |octets: &[u8]| {
            let digits = octets.iter().map(|octet| format!("{octet:02x}"));
            digits.collect::<String>()
        };
        Self {
            prefix,
            peer: None,
            next_hop: next_hop.address(),
            link_local: match next_hop {
                NextHop::V6Pair(_, link_local) => Some(link_local),
                NextHop::V4(_) | NextHop::V6(_) => None,
            },
            path_id: (id != 0).then_some(id),
            selected: None,
            stale: None,
            why: None,
            origin: match origin {
                Origin::Igp => "IGP",
                Origin::Egp => "EGP",
                Origin::Incomplete => "incomplete",
            },
            as_path: as_path_text(as_path),
            local_pref: *local_pref,
            med: *med,
            communities: communities
                .iter()
                .map(|value| format!("{}:{}", value >> 16, value & 0xffff))
                .collect(),
            large_communities: large_communities
                .iter()
                .map(|[global, first, second]| format!("{global}:{first}:{second}"))
                .collect(),
            extended_communities: extended_communities.iter().map(|one| hex(one)).collect(),
            originator_id: *originator_id,
            cluster_list: cluster_list.clone(),
            aggregator: aggregator
                .as_ref()
                .map(|aggregator| format!("AS {} {}", aggregator.asn, aggregator.address)),
            atomic_aggregate: *atomic_aggregate,
            unknown: unknown.iter().map(|attribute| attribute.code).collect(),
        }
    }
}

fn as_path_text(path: &AsPath) -> String {
    let segments = path.0.iter().map(|segment| {
        let asns: Vec<String> = segment.asns.iter().map(ToString::to_string).collect();
        let asns = asns.join(" ");
        match segment.kind {
            SegmentKind::Sequence => asns,
            SegmentKind::Set => format!("{{{asns}}}"),
            SegmentKind::ConfedSequence => format!("({asns})"),
            SegmentKind::ConfedSet => format!("[{asns}]"),
        }
    });
    segments.collect::<Vec<_>>().join(" ")
}

fn why(step: Step) -> &'static str {
    match step {
        Step::Reachable => "a way to its next hop",
        Step::Own => "our own announcement",
        Step::LongLived => "not kept from a session lost for long",
        Step::LocalPref => "higher LOCAL_PREF",
        Step::AsPath => "shorter AS_PATH",
        Step::Origin => "lower ORIGIN",
        Step::Med => "lower MED",
        Step::External => "eBGP before iBGP",
        Step::Metric => "nearer next hop",
        Step::BgpId => "equally good; lower identifier",
        Step::ClusterList => "equally good; shorter CLUSTER_LIST",
        Step::Address => "equally good; lower address or path identifier",
    }
}
