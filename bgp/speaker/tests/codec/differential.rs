//! The same UPDATEs through our codec and through `rustbgpd-wire` and `bgpkit-parser`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_bgp::wire::{
    Aggregator, Announced, AsPath, AsWidth, Context, Nlri, Opaque, Origin, PathAttrs, PeerKind,
    Segment, SegmentKind, Update, UpdateError, take_frame,
};
use margay_bgp::{Asn, BgpId};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rustbgpd_wire as rustbgpd;

use crate::mutation::{Noise, messages};
use crate::strategies::routes;

/// What an UPDATE means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// The session must end.
    Reset,
    /// What it announces counts as withdrawn.
    Withdraw,
    /// It says this.
    Says(Box<Content>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    withdrawn: Vec<IpNet>,
    nlri: Vec<IpNet>,
    next_hop: Option<IpAddr>,
    mp_next_hop: Option<IpAddr>,
    mp_nlri: Vec<IpNet>,
    mp_withdrawn: Vec<IpNet>,
    attrs: PathAttrs,
}

fn ours(message: &[u8], peer: PeerKind) -> Meaning {
    let frame = take_frame(&mut &*message).unwrap().unwrap();
    let as_width = AsWidth::Four;
    let Ok(update) = Update::decode(frame.body, Context::new(as_width, peer)) else {
        return Meaning::Reset;
    };
    let attrs = match update.announced {
        Announced::Unusable(_) => return Meaning::Withdraw,
        Announced::Nothing => PathAttrs::default(),
        Announced::Routes(attrs) => attrs,
    };
    Meaning::Says(Box::new(Content {
        withdrawn: update.withdrawn.prefixes().collect(),
        nlri: update.nlri.prefixes().collect(),
        next_hop: update.next_hop.map(IpAddr::V4),
        mp_next_hop: update.mp_nlri.map(|reach| reach.next_hop.address()),
        mp_nlri: update
            .mp_nlri
            .iter()
            .flat_map(|reach| reach.nlri.prefixes())
            .collect(),
        mp_withdrawn: update
            .mp_withdrawn
            .iter()
            .flat_map(Nlri::prefixes)
            .collect(),
        attrs,
    }))
}

fn theirs_rustbgpd(message: &[u8], peer: PeerKind) -> Meaning {
    use rustbgpd::validate::ErrorDisposition;
    let mut octets = message.to_vec().into();
    let Ok(rustbgpd::Message::Update(update)) = rustbgpd::decode_message(&mut octets, 4096) else {
        return Meaning::Reset;
    };
    let Ok(parsed) = update.parse_revised(true, peer == PeerKind::Ibgp, false, &[]) else {
        return Meaning::Reset;
    };
    let worst = |disposition| {
        parsed
            .malformed
            .iter()
            .any(|bad| bad.disposition == disposition)
    };
    if worst(ErrorDisposition::SessionReset) {
        return Meaning::Reset;
    }
    let v4 = |entries: &[rustbgpd::Ipv4NlriEntry]| {
        let net =
            |e: &rustbgpd::Ipv4NlriEntry| Ipv4Net::new(e.prefix.addr, e.prefix.len).unwrap().into();
        entries.iter().map(net).collect::<Vec<IpNet>>()
    };
    let mut content = Content {
        withdrawn: v4(&parsed.update.withdrawn),
        nlri: v4(&parsed.update.announced),
        ..Content::default()
    };
    for attribute in parsed.update.attributes {
        take_rustbgpd(&mut content, attribute);
    }
    let announces = !(content.nlri.is_empty() && content.mp_nlri.is_empty());
    if worst(ErrorDisposition::TreatAsWithdraw) && announces {
        return Meaning::Withdraw;
    }
    Meaning::Says(Box::new(content))
}

fn any_prefix(prefix: &rustbgpd::NlriEntry) -> IpNet {
    match prefix.prefix {
        rustbgpd::Prefix::V4(v4) => Ipv4Net::new(v4.addr, v4.len).unwrap().into(),
        rustbgpd::Prefix::V6(v6) => Ipv6Net::new(v6.addr, v6.len).unwrap().into(),
    }
}

fn take_rustbgpd(content: &mut Content, attribute: rustbgpd::PathAttribute) {
    use rustbgpd::PathAttribute as A;
    let attrs = &mut content.attrs;
    match attribute {
        A::Origin(rustbgpd::Origin::Igp) => attrs.origin = Origin::Igp,
        A::Origin(rustbgpd::Origin::Egp) => attrs.origin = Origin::Egp,
        A::Origin(rustbgpd::Origin::Incomplete) => attrs.origin = Origin::Incomplete,
        A::AsPath(path) => {
            attrs.as_path = AsPath(
                path.segments
                    .into_iter()
                    .map(|segment| {
                        let (kind, asns) = match segment {
                            rustbgpd::AsPathSegment::AsSet(asns) => (SegmentKind::Set, asns),
                            rustbgpd::AsPathSegment::AsSequence(asns) => {
                                (SegmentKind::Sequence, asns)
                            }
                        };
                        Segment {
                            kind,
                            asns: asns.into_iter().map(Asn).collect(),
                        }
                    })
                    .collect(),
            );
        }
        A::NextHop(address) => content.next_hop = Some(address.into()),
        A::Med(med) => attrs.med = Some(med),
        A::LocalPref(preference) => attrs.local_pref = Some(preference),
        A::AtomicAggregate => attrs.atomic_aggregate = true,
        A::Aggregator(aggregator) => {
            attrs.aggregator = Some(Aggregator {
                asn: Asn(aggregator.asn),
                address: aggregator.router_id,
            });
        }
        A::Communities(list) | A::CommunitiesPartial(list) => attrs.communities = list,
        A::LargeCommunities(list) | A::LargeCommunitiesPartial(list) => {
            let words =
                |c: rustbgpd::LargeCommunity| [c.global_admin, c.local_data1, c.local_data2];
            attrs.large_communities = list.into_iter().map(words).collect();
        }
        A::OriginatorId(id) => attrs.originator_id = Some(BgpId(id)),
        A::ClusterList(ids) => attrs.cluster_list = ids.into_iter().map(BgpId).collect(),
        A::MpReachNlri(reach) => {
            content.mp_next_hop = Some(reach.next_hop);
            content.mp_nlri = reach.announced.iter().map(any_prefix).collect();
        }
        A::MpUnreachNlri(unreach) => {
            content.mp_withdrawn = unreach.withdrawn.iter().map(any_prefix).collect();
        }
        A::Unknown(raw) if raw.flags & 0x40 != 0 => {
            attrs.unknown.push(Opaque {
                code: raw.type_code,
                value: raw.data.to_vec().into(),
            });
            attrs.unknown.sort_by_key(|opaque| opaque.code);
        }
        _ => {}
    }
}

/// `bgpkit-parser` takes zeros in the prefixes for path identifiers of RFC 7911, without being told so.
fn looks_like_add_path(meaning: &Meaning) -> bool {
    let Meaning::Says(content) = meaning else {
        return false;
    };
    content
        .nlri
        .iter()
        .chain(&content.mp_nlri)
        .any(|prefix| match prefix {
            IpNet::V4(net) => net.network().octets()[0] == 0,
            IpNet::V6(net) => net.network().octets()[0] == 0,
        })
}

fn theirs_bgpkit(message: &[u8]) -> Meaning {
    use bgpkit_parser::models::{AsnLength, BgpMessage};
    let mut octets = message.to_vec().into();
    let parsed =
        bgpkit_parser::parser::bgp::parse_bgp_message(&mut octets, false, &AsnLength::Bits32);
    let Ok(BgpMessage::Update(update)) = parsed else {
        return Meaning::Reset;
    };
    let mut content = Content {
        withdrawn: update
            .withdrawn_prefixes
            .iter()
            .map(|prefix| prefix.prefix)
            .collect(),
        nlri: update
            .announced_prefixes
            .iter()
            .map(|prefix| prefix.prefix)
            .collect(),
        ..Content::default()
    };
    for attribute in update.attributes.into_attributes_iter() {
        take_bgpkit(&mut content, attribute.value);
    }
    Meaning::Says(Box::new(content))
}

fn take_bgpkit(content: &mut Content, attribute: bgpkit_parser::models::AttributeValue) {
    use bgpkit_parser::models as theirs;
    use theirs::AttributeValue as A;
    let attrs = &mut content.attrs;
    match attribute {
        A::Origin(theirs::Origin::IGP) => attrs.origin = Origin::Igp,
        A::Origin(theirs::Origin::EGP) => attrs.origin = Origin::Egp,
        A::Origin(theirs::Origin::INCOMPLETE) => attrs.origin = Origin::Incomplete,
        A::AsPath(path) => {
            let segment = |segment| {
                let (kind, asns) = match segment {
                    theirs::AsPathSegment::AsSequence(asns) => (SegmentKind::Sequence, asns),
                    theirs::AsPathSegment::AsSet(asns) => (SegmentKind::Set, asns),
                    theirs::AsPathSegment::ConfedSequence(asns) => {
                        (SegmentKind::ConfedSequence, asns)
                    }
                    theirs::AsPathSegment::ConfedSet(asns) => (SegmentKind::ConfedSet, asns),
                };
                let asns = asns.into_iter().map(|asn| Asn(asn.into())).collect();
                Segment { kind, asns }
            };
            attrs.as_path = AsPath(path.segments.into_iter().map(segment).collect());
        }
        A::NextHop(address) => content.next_hop = Some(address),
        A::MultiExitDiscriminator(med) => attrs.med = Some(med),
        A::LocalPreference(preference) => attrs.local_pref = Some(preference),
        A::AtomicAggregate => attrs.atomic_aggregate = true,
        A::Aggregator { asn, id } => {
            attrs.aggregator = Some(Aggregator {
                asn: Asn(asn.into()),
                address: id,
            });
        }
        A::Communities(list) => {
            let number = |community| match community {
                theirs::Community::NoExport => 0xffff_ff01,
                theirs::Community::NoAdvertise => 0xffff_ff02,
                theirs::Community::NoExportSubConfed => 0xffff_ff03,
                theirs::Community::Custom(asn, value) => u32::from(asn) << 16 | u32::from(value),
            };
            attrs.communities = list.into_iter().map(number).collect();
        }
        A::LargeCommunities(list) => {
            let words =
                |c: theirs::LargeCommunity| [c.global_admin, c.local_data[0], c.local_data[1]];
            attrs.large_communities = list.into_iter().map(words).collect();
        }
        A::OriginatorId(id) => attrs.originator_id = Some(BgpId(id)),
        A::Clusters(ids) => {
            attrs.cluster_list = ids.into_iter().map(|id| BgpId(id.into())).collect();
        }
        A::MpReachNlri(reach) => {
            content.mp_next_hop = match reach.next_hop {
                Some(theirs::NextHopAddress::Ipv6(address)) => Some(address.into()),
                other => panic!("{other:?}"),
            };
            content.mp_nlri = reach.prefixes.iter().map(|prefix| prefix.prefix).collect();
        }
        A::Unknown(raw) | A::Raw(raw) | A::Deprecated(raw) => {
            attrs.unknown.push(Opaque {
                code: raw.code,
                value: raw.bytes.to_vec().into(),
            });
            attrs.unknown.sort_by_key(|opaque| opaque.code);
        }
        other => panic!("{other:?}"),
    }
}

/// Why the two may differ on a message, if they may.
fn excuse(message: &[u8], peer: PeerKind) -> Option<&'static str> {
    use rustbgpd::error::DecodeError;
    let frame = take_frame(&mut &*message).unwrap().unwrap();
    let as_width = AsWidth::Four;
    let update = match Update::decode(frame.body, Context::new(as_width, peer)) {
        Err(UpdateError::UnknownWellKnown(_)) => {
            return Some("an unknown well-known attribute: RFC 4271 §6.3 has the session end");
        }
        Err(UpdateError::Multiprotocol { code: 14, .. }) if has_foreign_next_hop(frame.body) => {
            return Some("an IPv6 next hop of IPv4 routes that RFC 8950 was not agreed on for");
        }
        Err(_) => None,
        Ok(update) => Some(update),
    };
    match update.map(|update| update.announced) {
        Some(Announced::Unusable(UpdateError::Missing(_))) => {
            return Some("a missing attribute: the other looks for that later");
        }
        Some(Announced::Routes(attrs)) if attrs.as_path.has_confederation() => {
            return Some("confederation segments: we refuse them when importing");
        }
        Some(_) | None => {}
    }
    let mut octets = message.to_vec().into();
    let Ok(rustbgpd::Message::Update(raw)) = rustbgpd::decode_message(&mut octets, 4096) else {
        return None;
    };
    if foreign_family(&raw.path_attributes) {
        return Some("a family that we do not speak: we ignore it");
    }
    let partial = |error: &DecodeError| match error {
        DecodeError::UpdateAttributeError {
            subcode: 4, data, ..
        } => data.first().is_some_and(|flags| flags & 0x20 != 0),
        _ => false,
    };
    let partial_excuse =
        "a Partial bit where it means nothing: RFC 7606 §3 c looks at the two other bits";
    let parsed = match raw.parse_revised(true, peer == PeerKind::Ibgp, false, &[]) {
        Err(error) => return partial(&error).then_some(partial_excuse),
        Ok(parsed) => parsed,
    };
    let ours = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 17, 18, 32];
    parsed.malformed.iter().find_map(|bad| match bad.error {
        DecodeError::ProhibitedAsSet { .. } => {
            Some("AS_SET: the other follows RFC 9774, fabrics still aggregate")
        }
        _ if peer == PeerKind::Ebgp && matches!(bad.type_code, 5 | 9 | 10) => {
            Some("an attribute that is discarded from eBGP peers, whatever its flags")
        }
        _ if partial(&bad.error) => Some(partial_excuse),
        _ if !ours.contains(&bad.type_code) => Some("an attribute that we do not know"),
        _ if matches!(bad.type_code, 3 | 9 | 10 | 14) => {
            Some("an address that no host can have: we look at that when importing")
        }
        _ => None,
    })
}

/// Whether `MP_REACH_NLRI` of IPv4 routes has a next hop as long as IPv6 addresses are.
fn has_foreign_next_hop(body: &[u8]) -> bool {
    body.windows(4)
        .any(|octets| matches!(octets, [0, 1, 1, 16 | 32]))
}

/// Whether an MP attribute is of a family that is not ours.
fn foreign_family(mut attributes: &[u8]) -> bool {
    while let [flags, code, rest @ ..] = attributes {
        let (length, rest) = match rest {
            [high, low, rest @ ..] if flags & 0x10 != 0 => {
                (u16::from_be_bytes([*high, *low]), rest)
            }
            [length, rest @ ..] => (u16::from(*length), rest),
            [] => return false,
        };
        let Some((value, rest)) = rest.split_at_checked(length.into()) else {
            return false;
        };
        if matches!(code, 14 | 15) && !matches!(value, [0, 1 | 2, 1, ..]) {
            return true;
        }
        attributes = rest;
    }
    false
}

/// Takes out what RFC 7606 has an eBGP speaker discard; the other leaves that to its caller.
fn without_internal(meaning: Meaning, peer: PeerKind) -> Meaning {
    match meaning {
        Meaning::Says(mut content) if peer == PeerKind::Ebgp => {
            content.attrs.local_pref = None;
            content.attrs.originator_id = None;
            content.attrs.cluster_list.clear();
            Meaning::Says(content)
        }
        other => other,
    }
}

/// Attributes without routes mean nothing; and what is opaque to us the other may know.
fn comparable(mut meaning: Meaning) -> Meaning {
    if let Meaning::Says(content) = &mut meaning {
        content.attrs.unknown.retain(|opaque| opaque.code >= 200);
        // The other takes them apart, by types that it knows.
        content.attrs.extended_communities.clear();
    }
    match meaning {
        Meaning::Says(content) if content.nlri.is_empty() && content.mp_nlri.is_empty() => {
            Meaning::Says(Box::new(Content {
                attrs: PathAttrs::default(),
                next_hop: None,
                mp_next_hop: None,
                ..*content
            }))
        }
        meaning => meaning,
    }
}

/// An UPDATE of a kind that all codecs take.
fn message(runner: &mut TestRunner) -> Option<Vec<u8>> {
    let mut routes = routes(1..6).new_tree(runner).unwrap().current();
    // The others take them apart, by types that they know.
    routes.attrs.extended_communities.clear();
    for segment in &mut routes.attrs.as_path.0 {
        segment.kind = SegmentKind::Sequence;
    }
    routes.encode(AsWidth::Four).into_iter().next()
}

#[test]
fn the_others_read_what_we_write() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..2000 {
        if let Some(message) = message(&mut runner) {
            let meaning = ours(&message, PeerKind::Ibgp);
            assert!(matches!(meaning, Meaning::Says(_)));
            assert_eq!(meaning, theirs_rustbgpd(&message, PeerKind::Ibgp));
            if !looks_like_add_path(&meaning) {
                assert_eq!(meaning, theirs_bgpkit(&message));
            }
        }
    }
}

#[test]
fn on_broken_messages_we_differ_from_rustbgpd_wire_only_where_we_know_why() {
    let mut runner = TestRunner::deterministic();
    let mut noise = Noise::new(77);
    let mut excuses: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unexplained = Vec::new();
    let mut agreed = BTreeMap::from([("reset", 0), ("withdraw", 0), ("says", 0)]);
    for _ in 0..messages(75_000) / 50 {
        let Some(message) = message(&mut runner) else {
            continue;
        };
        for peer in [PeerKind::Ibgp, PeerKind::Ebgp] {
            for _ in 0..25 {
                let mut mutated = message.clone();
                noise.mutate(&mut mutated);
                if mutated.len() < 23 {
                    continue;
                }
                let mine = comparable(ours(&mutated, peer));
                let theirs = without_internal(theirs_rustbgpd(&mutated, peer), peer);
                let theirs = comparable(theirs);
                if mine == theirs {
                    let kind = match mine {
                        Meaning::Reset => "reset",
                        Meaning::Withdraw => "withdraw",
                        Meaning::Says(_) => "says",
                    };
                    *agreed.get_mut(kind).unwrap() += 1;
                } else if let Some(excuse) = excuse(&mutated, peer) {
                    *excuses.entry(excuse).or_default() += 1;
                } else {
                    unexplained.push(format!(
                        "{peer:?} {mutated:02x?}\nours   {mine:?}\ntheirs {theirs:?}"
                    ));
                }
            }
        }
    }
    println!("agreed {agreed:?}, explained {excuses:#?}");
    let count = unexplained.len();
    assert_eq!(count, 0, "{}", unexplained[..count.min(20)].join("\n"));
    assert!(
        agreed.values().all(|count| *count > messages(75_000) / 40),
        "{agreed:?}"
    );
}
