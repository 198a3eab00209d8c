//! Random messages that are right.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_bgp::wire::update::{put_announcements, put_withdrawals};
use margay_bgp::wire::{
    Aggregator, AsPath, AsWidth, Capability, Forwarding, GracefulRestart, LongLived, Notification,
    Opaque, Open, Origin, PathAttrs, PathIds, RestartState, Segment, SegmentKind, Shape,
};
use margay_bgp::{Asn, BgpId, Family, HoldTime};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

pub(crate) fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..=65535_u32, 65536..=u32::MAX].prop_map(Asn)
}

fn segment() -> impl Strategy<Value = Segment> {
    let kind = prop_oneof![4 => Just(SegmentKind::Sequence), 1 => Just(SegmentKind::Set)];
    let asns = prop_oneof![8 => vec(asn(), 1..8), 1 => vec(asn(), 255)];
    (kind, asns).prop_map(|(kind, asns)| Segment { kind, asns })
}

/// An address that a host may have: the other codecs judge that too.
fn host4() -> impl Strategy<Value = Ipv4Addr> {
    (0x0100_0001..0x7eff_ffff_u32).prop_map(Ipv4Addr::from_bits)
}

fn host6() -> impl Strategy<Value = Ipv6Addr> {
    (1_u128 << 125..1 << 126).prop_map(Ipv6Addr::from_bits)
}

fn bgp_id() -> impl Strategy<Value = BgpId> {
    host4().prop_map(BgpId)
}

/// Attributes whose codes none of the three codecs knows.
fn unknown() -> impl Strategy<Value = Vec<Opaque>> {
    let value = prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 256..300)];
    vec((200_u8..=240, value), 0..3).prop_map(|attributes| {
        let distinct: BTreeMap<u8, Vec<u8>> = attributes.into_iter().collect();
        let opaque = |(code, value): (u8, Vec<u8>)| Opaque {
            code,
            value: value.into(),
        };
        distinct.into_iter().map(opaque).collect()
    })
}

pub(crate) fn attrs() -> impl Strategy<Value = PathAttrs> {
    let origin = prop_oneof![
        Just(Origin::Igp),
        Just(Origin::Egp),
        Just(Origin::Incomplete)
    ];
    let aggregator = (asn(), host4()).prop_map(|(asn, address)| Aggregator { asn, address });
    let first = (
        origin,
        vec(segment(), 0..4).prop_map(AsPath),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        any::<bool>(),
        option::of(aggregator),
    );
    let second = (
        vec(any::<u32>(), 0..6),
        option::of(bgp_id()),
        vec(bgp_id(), 0..4),
        vec(any::<[u8; 8]>(), 0..3),
        vec(any::<[u32; 3]>(), 0..4),
        unknown(),
    );
    (first, second).prop_map(|(first, second)| {
        let (origin, as_path, med, local_pref, atomic_aggregate, aggregator) = first;
        let (communities, originator_id, cluster_list, extended_communities, large, unknown) =
            second;
        let mut large_communities = large;
        // One of the other codecs keeps a set of them.
        large_communities.sort_unstable();
        large_communities.dedup();
        PathAttrs {
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
        }
    })
}

pub(crate) fn prefix(family: Family) -> BoxedStrategy<IpNet> {
    match family {
        Family::Ipv4 => (any::<Ipv4Addr>(), 0..=32_u8)
            .prop_map(|(address, bits)| Ipv4Net::new(address, bits).unwrap().trunc().into())
            .boxed(),
        Family::Ipv6 => (any::<Ipv6Addr>(), 0..=128_u8)
            .prop_map(|(address, bits)| Ipv6Net::new(address, bits).unwrap().trunc().into())
            .boxed(),
    }
}

/// The messages in a row of octets.
fn messages(mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let [_, rest @ ..] = octets
        && rest.len() >= 18
    {
        let length = usize::from(u16::from_be_bytes([octets[16], octets[17]]));
        let (message, rest) = octets.split_at(length);
        messages.push(message.to_vec());
        octets = rest;
    }
    messages
}

/// Routes that one group of UPDATEs announces.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub(crate) attrs: PathAttrs,
    pub(crate) next_hop: IpAddr,
    pub(crate) prefixes: Vec<IpNet>,
}

impl Routes {
    pub(crate) fn encode(&self, width: AsWidth) -> Vec<Vec<u8>> {
        self.encode_as(Shape::plain(width))
    }

    /// With path identifiers, if the shape has any.
    pub(crate) fn encode_as(&self, shape: Shape) -> Vec<Vec<u8>> {
        let family = Family::of_address(self.next_hop);
        let id = |n: u32| match shape.ids {
            PathIds::Absent => 0,
            PathIds::Present => n.wrapping_mul(0x9e37_79b9),
        };
        let paths = (1..).zip(&self.prefixes);
        let paths: Vec<_> = paths.map(|(n, prefix)| (id(n), *prefix)).collect();
        let (mut octets, next_hop) = (Vec::new(), self.next_hop.into());
        put_announcements(&mut octets, &self.attrs, next_hop, family, &paths, shape);
        messages(&octets)
    }
}

pub(crate) fn routes(count: std::ops::Range<usize>) -> impl Strategy<Value = Routes> {
    let next_hop = prop_oneof![host4().prop_map(IpAddr::V4), host6().prop_map(IpAddr::V6),];
    (attrs(), next_hop, count).prop_flat_map(|(attrs, next_hop, count)| {
        vec(prefix(Family::of_address(next_hop)), count).prop_map(move |prefixes| Routes {
            attrs: attrs.clone(),
            next_hop,
            prefixes,
        })
    })
}

pub(crate) fn capability() -> impl Strategy<Value = Capability> {
    let unknown = prop_oneof![7..=63_u8, 66..=68_u8, 72..=255_u8];
    let other = (unknown, vec(any::<u8>(), 0..12));
    let of = || (any::<u16>(), any::<u8>());
    let forwarding = || prop_oneof![Just(Forwarding::Lost), Just(Forwarding::Preserved)];
    let state = prop_oneof![Just(RestartState::Running), Just(RestartState::Restarted)];
    let restart = (
        state,
        any::<bool>(),
        0..4096_u16,
        btree_map(of(), forwarding(), 0..4),
    );
    let long = (forwarding(), 0..1_u32 << 24)
        .prop_map(|(forwarding, time)| LongLived { forwarding, time });
    let hops = btree_set((any::<u16>(), any::<u16>(), any::<u16>()), 0..3);
    prop_oneof![
        of().prop_map(|(afi, safi)| Capability::Multiprotocol { afi, safi }),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRefresh),
        Just(Capability::ExtendedMessage),
        asn().prop_map(Capability::FourOctetAs),
        hops.prop_map(Capability::ExtendedNextHop),
        btree_map(of(), 1..=3_u8, 0..3).prop_map(Capability::AddPath),
        btree_map(of(), long, 0..3).prop_map(Capability::LongLived),
        restart.prop_map(|(state, notification, time, families)| {
            Capability::GracefulRestart(GracefulRestart {
                state,
                notification: notification.into(),
                time,
                families,
            })
        }),
        other.prop_map(|(code, value)| Capability::Other { code, value }),
    ]
}

pub(crate) fn open() -> impl Strategy<Value = Open> {
    let id = (1..=u32::MAX).prop_map(|bits| BgpId(Ipv4Addr::from_bits(bits)));
    let capabilities = prop_oneof![vec(capability(), 0..8), vec(capability(), 60..80)];
    (1..=u16::MAX, any::<u16>(), id, capabilities).prop_map(
        |(my_as, hold_time, bgp_id, capabilities)| Open {
            my_as,
            hold_time: HoldTime::from_secs(hold_time),
            bgp_id,
            capabilities,
        },
    )
}

pub(crate) fn notification() -> impl Strategy<Value = Notification> {
    (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..300))
        .prop_map(|(code, subcode, data)| Notification::new(code, subcode, &data))
}

/// Any whole message of any kind.
pub(crate) fn message() -> impl Strategy<Value = Vec<u8>> {
    let withdrawal = |family: Family| {
        vec(prefix(family), 1..20).prop_map(move |prefixes: Vec<IpNet>| {
            let paths: Vec<_> = prefixes.into_iter().map(|prefix| (0, prefix)).collect();
            let mut octets = Vec::new();
            put_withdrawals(&mut octets, family, &paths, 4096, PathIds::Absent);
            octets
        })
    };
    let width = prop_oneof![Just(AsWidth::Two), Just(AsWidth::Four)];
    prop_oneof![
        8 => (routes(1..20), width).prop_map(|(routes, width)| {
            let first = routes.encode(width).into_iter().next();
            first.unwrap_or_else(margay_bgp::wire::encode_keepalive)
        }),
        1 => withdrawal(Family::Ipv4),
        1 => withdrawal(Family::Ipv6),
        2 => open().prop_map(|open| open.encode()),
        1 => notification().prop_map(|notification| notification.encode()),
        1 => Just(margay_bgp::wire::encode_keepalive()),
        1 => Just(margay_bgp::wire::encode_route_refresh(Family::Ipv6)),
    ]
}
