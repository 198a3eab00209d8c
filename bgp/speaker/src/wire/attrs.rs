//! Path attributes as values, and their encoding (RFC 4271 §4.3, §5).

use std::net::Ipv4Addr;

use super::community::{ExtendedCommunity, LargeCommunity};
use super::octets::{len8, len16, put_u16, put_u32};
use super::update::AsWidth;
use crate::types::{Asn, BgpId};

/// Attribute type codes.
pub(crate) mod code {
    pub(crate) const ORIGIN: u8 = 1;
    pub(crate) const AS_PATH: u8 = 2;
    pub(crate) const NEXT_HOP: u8 = 3;
    pub(crate) const MED: u8 = 4;
    pub(crate) const LOCAL_PREF: u8 = 5;
    pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
    pub(crate) const AGGREGATOR: u8 = 7;
    pub(crate) const COMMUNITIES: u8 = 8;
    pub(crate) const ORIGINATOR_ID: u8 = 9;
    pub(crate) const CLUSTER_LIST: u8 = 10;
    pub(crate) const MP_REACH: u8 = 14;
    pub(crate) const MP_UNREACH: u8 = 15;
    pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(crate) const AS4_PATH: u8 = 17;
    pub(crate) const AS4_AGGREGATOR: u8 = 18;
    pub(crate) const PMSI_TUNNEL: u8 = 22;
    pub(crate) const TUNNEL_ENCAPSULATION: u8 = 23;
    pub(crate) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub(crate) const LARGE_COMMUNITIES: u8 = 32;
    pub(crate) const ONLY_TO_CUSTOMER: u8 = 35;
    pub(crate) const PREFIX_SID: u8 = 40;
    /// What is checked and carried, but not looked into: no Partial bit is set on the way.
    pub(crate) const CARRIED: [u8; 5] = [
        PMSI_TUNNEL,
        TUNNEL_ENCAPSULATION,
        IPV6_EXTENDED_COMMUNITIES,
        ONLY_TO_CUSTOMER,
        PREFIX_SID,
    ];
}

/// Attribute flags.
pub(crate) mod flag {
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const TRANSITIVE: u8 = 0x40;
    pub(crate) const PARTIAL: u8 = 0x20;
    pub(crate) const EXTENDED: u8 = 0x10;
}

/// What a route says of itself besides its prefix and next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAttrs {
    /// ORIGIN.
    pub origin: Origin,
    /// `AS_PATH`, with `AS4_PATH` merged into it.
    pub as_path: AsPath,
    /// `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
    /// `LOCAL_PREF`; only ever from iBGP.
    pub local_pref: Option<u32>,
    /// Whether `ATOMIC_AGGREGATE` is there.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, with `AS4_AGGREGATOR` merged into it.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (RFC 1997), in the order received.
    pub communities: Vec<u32>,
    /// `ORIGINATOR_ID` (RFC 4456).
    pub originator_id: Option<BgpId>,
    /// `CLUSTER_LIST` (RFC 4456), nearest first.
    pub cluster_list: Vec<BgpId>,
    /// Extended communities (RFC 4360), in the order received.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// Large communities (RFC 8092), in the order received.
    pub large_communities: Vec<LargeCommunity>,
    /// Transitive attributes that we do not look into, passed on as they are; ordered by code.
    pub unknown: Vec<Opaque>,
}

/// ORIGIN; the smaller is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// From inside the AS.
    #[default]
    Igp,
    /// From EGP.
    Egp,
    /// By other means.
    Incomplete,
}

impl Origin {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            _ => None,
        }
    }
}

/// AGGREGATOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// The AS that formed the aggregate.
    pub asn: Asn,
    /// The speaker that did.
    pub address: Ipv4Addr,
}

/// An attribute that we pass on without knowing it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opaque {
    /// Its type code.
    pub code: u8,
    /// Its value.
    pub value: Box<[u8]>,
}

/// `AS_PATH`: nearest AS first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<Segment>);

/// A part of an `AS_PATH`: 1 to 255 numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Whether their order means something.
    pub kind: SegmentKind,
    /// The numbers.
    pub asns: Vec<Asn>,
}

/// The kinds of segments (RFC 4271 §4.3, RFC 5065 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// `AS_SET`.
    Set,
    /// `AS_SEQUENCE`.
    Sequence,
    /// `AS_CONFED_SEQUENCE`.
    ConfedSequence,
    /// `AS_CONFED_SET`.
    ConfedSet,
}

impl SegmentKind {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Set),
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfedSequence),
            4 => Some(Self::ConfedSet),
            _ => None,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }
}

impl Segment {
    /// How much the segment adds to the length of a path (RFC 4271 §9.1.2.2 a, RFC 5065 §5.3).
    fn length(&self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }
}

impl AsPath {
    /// The length that counts in the decision process.
    pub fn length(&self) -> usize {
        self.0.iter().map(Segment::length).sum()
    }

    /// Whether `asn` stands anywhere in it.
    pub fn contains(&self, asn: Asn) -> bool {
        self.0.iter().any(|segment| segment.asns.contains(&asn))
    }

    /// How often `asn` stands in it.
    pub fn count(&self, asn: Asn) -> usize {
        let asns = self.0.iter().flat_map(|segment| &segment.asns);
        asns.filter(|other| **other == asn).count()
    }

    /// The path with every number replaced by what `by` makes of it, or without it.
    #[must_use]
    pub fn replaced(&self, by: impl Fn(Asn) -> Option<Asn>) -> Self {
        let segments = self.0.iter().map(|segment| Segment {
            kind: segment.kind,
            asns: segment.asns.iter().filter_map(|asn| by(*asn)).collect(),
        });
        Self(
            segments
                .filter(|segment| !segment.asns.is_empty())
                .collect(),
        )
    }

    /// Whether it has confederation segments, which must not leave a confederation.
    pub fn has_confederation(&self) -> bool {
        self.0.iter().any(|segment| {
            matches!(
                segment.kind,
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet
            )
        })
    }

    /// The AS that the route came from: the first number of a path that starts with a sequence. Routes
    /// compare their MED only among the same (RFC 4271 §9.1.2.2 c).
    pub fn neighbour(&self) -> Option<Asn> {
        let first = self.0.first()?;
        match first.kind {
            SegmentKind::Sequence => first.asns.first().copied(),
            SegmentKind::Set | SegmentKind::ConfedSequence | SegmentKind::ConfedSet => None,
        }
    }

    /// The path with `asn` in front (RFC 4271 §5.1.2 b).
    #[must_use]
    pub fn prepended(&self, asn: Asn) -> Self {
        let mut path = self.clone();
        match path.0.first_mut() {
            Some(first) if first.kind == SegmentKind::Sequence && first.asns.len() < 255 => {
                first.asns.insert(0, asn);
            }
            _ => path.0.insert(
                0,
                Segment {
                    kind: SegmentKind::Sequence,
                    asns: vec![asn],
                },
            ),
        }
        path
    }

    fn encode(&self, width: AsWidth) -> Vec<u8> {
        let mut octets = Vec::new();
        for segment in &self.0 {
            for asns in segment.asns.chunks(255) {
                octets.extend_from_slice(&[segment.kind.code(), len8(asns.len())]);
                for asn in asns {
                    match width {
                        AsWidth::Two => put_u16(&mut octets, asn.two_octets()),
                        AsWidth::Four => put_u32(&mut octets, asn.0),
                    }
                }
            }
        }
        octets
    }

    /// This path of two-octet numbers with what `AS4_PATH` knows of it (RFC 6793 §4.2.3).
    pub(crate) fn merged(self, as4: Self) -> Self {
        let Some(mut surplus) = self.length().checked_sub(as4.length()) else {
            return self;
        };
        let mut path = Vec::new();
        for mut segment in self.0 {
            match segment.kind {
                SegmentKind::Sequence if surplus > 0 => {
                    segment.asns.truncate(surplus);
                    surplus -= segment.asns.len();
                    path.push(segment);
                }
                SegmentKind::Set if surplus > 0 => {
                    surplus -= 1;
                    path.push(segment);
                }
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet => path.push(segment),
                SegmentKind::Sequence | SegmentKind::Set => {}
            }
        }
        let mut known = as4.0.into_iter().peekable();
        // Where the two meet, one sequence was cut in two.
        if let (Some(last), Some(first)) = (path.last_mut(), known.peek())
            && last.kind == SegmentKind::Sequence
            && first.kind == SegmentKind::Sequence
            && last.asns.len() + first.asns.len() <= 255
        {
            last.asns.extend(first.asns.iter().copied());
            known.next();
        }
        path.extend(known);
        Self(path)
    }

    /// The path without the segments of a confederation.
    pub(crate) fn without_confederation(&self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|segment| matches!(segment.kind, SegmentKind::Sequence | SegmentKind::Set))
                .cloned()
                .collect(),
        )
    }

    fn needs_four_octets(&self) -> bool {
        self.0
            .iter()
            .flat_map(|segment| &segment.asns)
            .any(|asn| asn.0 > u32::from(u16::MAX))
    }
}

/// Appends one attribute.
pub(crate) fn put_attr(to: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    if value.len() > 255 {
        to.extend_from_slice(&[flags | flag::EXTENDED, code]);
        put_u16(to, len16(value.len()));
    } else {
        to.extend_from_slice(&[flags, code, len8(value.len())]);
    }
    to.extend_from_slice(value);
}

impl PathAttrs {
    /// How many octets the values of variable length take: what is far too long for a message needs no try.
    pub(crate) fn bulk(&self) -> usize {
        let path: usize = self.as_path.0.iter().map(|s| 2 + 4 * s.asns.len()).sum();
        let unknown: usize = self.unknown.iter().map(|opaque| opaque.value.len()).sum();
        path + unknown
            + 4 * (self.communities.len() + self.cluster_list.len())
            + 8 * self.extended_communities.len()
            + 12 * self.large_communities.len()
    }

    /// Appends all attributes in the order of their codes, with `NEXT_HOP` if one is given (`MP_REACH_NLRI`
    /// carries it otherwise).
    pub(crate) fn put(&self, to: &mut Vec<u8>, next_hop: Option<Ipv4Addr>, width: AsWidth) {
        const WELL_KNOWN: u8 = flag::TRANSITIVE;
        const TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
        let Self {
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
        } = self;
        put_attr(to, WELL_KNOWN, code::ORIGIN, &[*origin as u8]);
        put_attr(to, WELL_KNOWN, code::AS_PATH, &as_path.encode(width));
        if let Some(next_hop) = next_hop {
            put_attr(to, WELL_KNOWN, code::NEXT_HOP, &next_hop.octets());
        }
        if let Some(med) = med {
            put_attr(to, flag::OPTIONAL, code::MED, &med.to_be_bytes());
        }
        if let Some(preference) = local_pref {
            put_attr(to, WELL_KNOWN, code::LOCAL_PREF, &preference.to_be_bytes());
        }
        if *atomic_aggregate {
            put_attr(to, WELL_KNOWN, code::ATOMIC_AGGREGATE, &[]);
        }
        if let Some(aggregator) = aggregator {
            put_attr(to, TRANSITIVE, code::AGGREGATOR, &aggregator.encode(width));
        }
        if !communities.is_empty() {
            put_attr(to, TRANSITIVE, code::COMMUNITIES, &words(communities));
        }
        if let Some(id) = originator_id {
            put_attr(to, flag::OPTIONAL, code::ORIGINATOR_ID, &id.0.octets());
        }
        if !cluster_list.is_empty() {
            let ids: Vec<u32> = cluster_list.iter().map(|id| id.0.to_bits()).collect();
            put_attr(to, flag::OPTIONAL, code::CLUSTER_LIST, &words(&ids));
        }
        if !extended_communities.is_empty() {
            let value = extended_communities.as_flattened();
            put_attr(to, TRANSITIVE, code::EXTENDED_COMMUNITIES, value);
        }
        if width == AsWidth::Two {
            self.put_four_octet_companions(to);
        }
        if !large_communities.is_empty() {
            let value = words(large_communities.as_flattened());
            put_attr(to, TRANSITIVE, code::LARGE_COMMUNITIES, &value);
        }
        for opaque in unknown {
            let partial = if code::CARRIED.contains(&opaque.code) {
                0
            } else {
                flag::PARTIAL
            };
            let flags = TRANSITIVE | partial;
            put_attr(to, flags, opaque.code, &opaque.value);
        }
    }

    /// `AS4_PATH` and `AS4_AGGREGATOR`, where two octets lose something (RFC 6793 §4.2.2).
    fn put_four_octet_companions(&self, to: &mut Vec<u8>) {
        const TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
        let path = self.as_path.without_confederation();
        if path.needs_four_octets() {
            put_attr(to, TRANSITIVE, code::AS4_PATH, &path.encode(AsWidth::Four));
        }
        if let Some(aggregator) = &self.aggregator
            && aggregator.asn.0 > u32::from(u16::MAX)
        {
            let value = aggregator.encode(AsWidth::Four);
            put_attr(to, TRANSITIVE, code::AS4_AGGREGATOR, &value);
        }
    }
}

impl Aggregator {
    fn encode(self, width: AsWidth) -> Vec<u8> {
        let mut octets = Vec::with_capacity(8);
        match width {
            AsWidth::Two => put_u16(&mut octets, self.asn.two_octets()),
            AsWidth::Four => put_u32(&mut octets, self.asn.0),
        }
        octets.extend_from_slice(&self.address.octets());
        octets
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
