//! The same UPDATEs through our codec and through `bgpkit-parser`, which reads what collectors have heard: it looks for no
//! remedy, and goes on where we would not. So what is compared is whether there is something wrong with a message at all,
//! and if not, what it says.

use bgpkit_parser::error::BgpValidationWarning;
use bgpkit_parser::models::{
    self as theirs, AsnLength, BgpMessage, ExtendedCommunity, NetworkPrefix,
};
use margay_bgp::wire::{
    Aggregator, AsPath, AsWidth, Opaque, Origin, PeerKind, Segment, SegmentKind, UpdateError,
};
use margay_bgp::{Asn, BgpId};
use proptest::test_runner::TestRunner;

use crate::differential::{
    Content, Dialect, Meaning, Tally, comparable, each, faults, foreign_family, message, mutate,
    ours,
};
use crate::mutation::messages;

/// What the other makes of a message, and what it does not like about it; `None` if it can make nothing of it.
fn read(message: &[u8], dialect: Dialect) -> Option<(Content, Vec<BgpValidationWarning>)> {
    let width = match dialect.width {
        AsWidth::Two => AsnLength::Bits16,
        AsWidth::Four => AsnLength::Bits32,
    };
    let mut octets = message.to_vec().into();
    let parsed =
        bgpkit_parser::parser::bgp::parse_bgp_message(&mut octets, dialect.has_ids(), &width);
    let Ok(BgpMessage::Update(update)) = parsed else {
        return None;
    };
    let mut content = Content {
        withdrawn: paths(&update.withdrawn_prefixes),
        nlri: paths(&update.announced_prefixes),
        ..Content::default()
    };
    let warnings = update.attributes.validation_warnings().to_vec();
    for attribute in update.attributes.into_attributes_iter() {
        use theirs::AttributeValue as A;
        let transitive = attribute.flag.contains(theirs::AttrFlags::TRANSITIVE);
        match attribute.value {
            // What we do not know and is not to be passed on we forget.
            A::Unknown(_) | A::Raw(_) | A::Deprecated(_) | A::Development(_) if !transitive => {}
            value => take(&mut content, value),
        }
    }
    Some((content, warnings))
}

fn paths(prefixes: &[NetworkPrefix]) -> Vec<(u32, ipnet::IpNet)> {
    // It leaves bits behind a prefix's length as they come.
    let path = |path: &NetworkPrefix| (path.path_id.unwrap_or(0), path.prefix.trunc());
    prefixes.iter().map(path).collect()
}

fn take(content: &mut Content, attribute: theirs::AttributeValue) {
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
            content.mp_next_hop = reach.next_hop.map(|hop| match hop {
                theirs::NextHopAddress::Ipv4(address) => address.into(),
                theirs::NextHopAddress::Ipv6(address)
                | theirs::NextHopAddress::Ipv6LinkLocal(address, _)
                | theirs::NextHopAddress::VpnIpv6(_, address)
                | theirs::NextHopAddress::VpnIpv6LinkLocal(_, address, ..) => address.into(),
            });
            content.mp_nlri = paths(&reach.prefixes);
        }
        A::MpUnreachNlri(unreach) => content.mp_withdrawn = paths(&unreach.prefixes),
        A::ExtendedCommunities(list) => {
            attrs.extended_communities = list.iter().map(octets).collect();
        }
        A::Unknown(raw) | A::Raw(raw) | A::Deprecated(raw) => {
            attrs.unknown.push(Opaque {
                code: raw.code,
                value: raw.bytes.to_vec().into(),
            });
            attrs.unknown.sort_by_key(|opaque| opaque.code);
        }
        A::Development(value) => attrs.unknown.push(Opaque {
            code: 255,
            value: value.into(),
        }),
        // Of what we carry unread.
        _ => {}
    }
}

/// An extended community as it came.
fn octets(community: &ExtendedCommunity) -> [u8; 8] {
    use ExtendedCommunity as E;
    let whole = |kind: u8, subtype: u8, global: &[u8], local: &[u8]| {
        let all = [&[kind, subtype], global, local].concat();
        all.try_into().unwrap()
    };
    let two = |kind, known: &theirs::TwoOctetAsExtCommunity| {
        let asn = u32::from(known.global_admin).to_be_bytes();
        whole(kind, known.subtype, &asn[2..], &known.local_admin)
    };
    let four = |kind, known: &theirs::FourOctetAsExtCommunity| {
        let asn = u32::from(known.global_admin).to_be_bytes();
        whole(kind, known.subtype, &asn, &known.local_admin)
    };
    let address = |kind, known: &theirs::Ipv4AddrExtCommunity| {
        let address = known.global_admin.octets();
        whole(kind, known.subtype, &address, &known.local_admin)
    };
    match community {
        E::TransitiveTwoOctetAs(known) => two(0x00, known),
        E::NonTransitiveTwoOctetAs(known) | E::FlowSpecRedirect(known) => two(0x40, known),
        E::TransitiveIpv4Addr(known) => address(0x01, known),
        E::NonTransitiveIpv4Addr(known) => address(0x41, known),
        E::TransitiveFourOctetAs(known) => four(0x02, known),
        E::NonTransitiveFourOctetAs(known) => four(0x42, known),
        E::TransitiveOpaque(known) => whole(0x03, known.subtype, &[], &known.value),
        E::NonTransitiveOpaque(known) => whole(0x43, known.subtype, &[], &known.value),
        E::LinkBandwidth(known) => {
            let kind = if known.transitive { 0x00 } else { 0x40 };
            let bandwidth = known.bandwidth.to_bits().to_be_bytes();
            whole(kind, 4, &known.global_admin.to_be_bytes(), &bandwidth)
        }
        E::Raw(octets) => *octets,
        // Of these it keeps the meaning alone.
        E::FlowSpecTrafficRate(_) | E::FlowSpecTrafficAction(_) | E::FlowSpecTrafficMarking(_) => {
            [0xff; 8]
        }
    }
}

/// Whether the other takes zeros in the prefixes for path identifiers of RFC 7911, without being told so.
fn looks_like_ids(meaning: &Meaning, dialect: Dialect) -> bool {
    let Meaning::Says(content) = meaning else {
        return false;
    };
    if dialect.has_ids() {
        return false;
    }
    all_paths(content).any(|(_, prefix)| prefix.prefix_len() == 0)
}

fn all_paths(content: &Content) -> impl Iterator<Item = &(u32, ipnet::IpNet)> {
    let Content {
        withdrawn,
        nlri,
        mp_nlri,
        mp_withdrawn,
        ..
    } = content;
    let all = [withdrawn, nlri, mp_nlri, mp_withdrawn];
    all.into_iter().flatten()
}

#[test]
fn the_other_reads_what_we_write() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..500 {
        for dialect in Dialect::ALL {
            let Some(message) = message(&mut runner, dialect, &[SegmentKind::Set]) else {
                continue;
            };
            let (meaning, _) = ours(&message, dialect, PeerKind::Ibgp);
            let (content, warnings) = read(&message, dialect).unwrap();
            if !looks_like_ids(&meaning, dialect) {
                let content = Meaning::Says(Box::new(content));
                assert_eq!(comparable(meaning), comparable(content));
                assert_eq!(warnings.len(), 0, "{warnings:?}");
            }
        }
    }
}

/// Attributes that both read.
const READ: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32];

/// Why the two may differ on a message, if they may.
fn excuse(
    message: &[u8],
    dialect: Dialect,
    ours: &Meaning,
    theirs: Option<&(Content, Vec<BgpValidationWarning>)>,
) -> Option<&'static str> {
    use BgpValidationWarning as W;
    if foreign_family(attributes(message)) {
        return Some("a family that we do not speak: we ignore it");
    }
    let merged = each(attributes(message)).any(|(code, _)| matches!(code, 17 | 18));
    if dialect.width == AsWidth::Two && merged {
        return Some("AS4_PATH, AS4_AGGREGATOR: the other leaves merging to its caller");
    }
    let faults = faults(message, dialect, PeerKind::Ibgp);
    let fault = faults.iter().find_map(|fault| match fault {
        UpdateError::Overrun { .. } | UpdateError::LeftOver(_) => {
            Some("attributes that do not end where they should: the other stops there, silently")
        }
        UpdateError::UnknownWellKnown(_) => {
            Some("an unknown well-known attribute: RFC 4271 §6.3 has the session end")
        }
        UpdateError::AsPath("AS 0, which is reserved") | UpdateError::AggregatorZero => {
            Some("AS 0: the other does not know RFC 7607")
        }
        UpdateError::FourOctetCompanion(_) => {
            Some("AS4_PATH, AS4_AGGREGATOR where nobody needs them: RFC 6793 §6 discards them")
        }
        UpdateError::Multiprotocol { code: 14, .. } => {
            Some("a next hop of another family: the other takes any that some family has")
        }
        UpdateError::Length { code: 7, .. } => {
            Some("an AGGREGATOR of the other width: the other goes by its length")
        }
        UpdateError::Length { length: 0, .. } => {
            Some("an empty list: RFC 7606 §7.8 to §7.10 have it malformed")
        }
        UpdateError::Length { code, .. } | UpdateError::Flags { code, .. }
            if !READ.contains(code) =>
        {
            Some("an attribute that the other carries unread")
        }
        _ => None,
    });
    if fault.is_some() {
        return fault;
    }
    let unread = |code: &u8| *code < 200 && !READ.contains(code);
    if theirs.is_none() && each(attributes(message)).any(|(code, _)| unread(&code)) {
        return Some("an attribute that we do not know");
    }
    let (content, warnings) = theirs?;
    if !dialect.has_ids() && all_paths(content).any(|(id, _)| *id != 0) {
        return Some("a prefix that begins with zeros: the other guesses path identifiers");
    }
    let unknown = |kind: &theirs::AttrType| !READ.contains(&u8::from(*kind));
    let warning = warnings.iter().find_map(|warning| match warning {
        W::AttributeFlagsError { actual_flags, .. } if actual_flags & 0x20 != 0 => {
            Some("a Partial bit where it means nothing: RFC 7606 §3 c looks at the two other bits")
        }
        W::AttributeFlagsError { attr_type, .. }
        | W::OptionalAttributeError { attr_type, .. }
        | W::PartialAttributeError { attr_type, .. }
            if unknown(attr_type) =>
        {
            Some("an attribute that we do not know")
        }
        _ => None,
    });
    if warning.is_some() {
        return warning;
    }
    let Meaning::Says(content) = ours else {
        return None;
    };
    let rate = |community: &[u8; 8]| matches!(community, [0x40, 6 | 7 | 9, ..]);
    if content.nlri.is_empty() && content.mp_nlri.is_empty() {
        Some("attributes without routes: what is wrong with them concerns nobody")
    } else if looks_like_ids(ours, dialect) {
        Some("a prefix that begins with zeros: the other guesses path identifiers")
    } else if content.attrs.extended_communities.iter().any(rate) {
        Some("flow specification communities: the other keeps their meaning alone")
    } else {
        None
    }
}

/// The attributes of a message, if they are where they should be.
fn attributes(message: &[u8]) -> &[u8] {
    let length = |octets: &[u8]| Some(u16::from_be_bytes([*octets.first()?, *octets.get(1)?]));
    let body = &message[19..];
    let found = length(body).and_then(|withdrawn| {
        let rest = body.get(2 + usize::from(withdrawn)..)?;
        rest.get(2..2 + usize::from(length(rest)?))
    });
    found.unwrap_or_default()
}

#[test]
fn on_broken_messages_we_differ_from_bgpkit_parser_only_where_we_know_why() {
    let count = messages(75_000);
    let mut tally = Tally::default();
    // The other knows no kinds of peers.
    let peer = PeerKind::Ibgp;
    mutate(count, &[SegmentKind::Set], |mutated, dialect, _| {
        let (meaning, flawless) = ours(mutated, dialect, peer);
        let meaning = comparable(meaning);
        let other = read(mutated, dialect);
        let clean = other.as_ref().filter(|(_, warnings)| warnings.is_empty());
        let says = clean.map(|(content, _)| comparable(Meaning::Says(Box::new(content.clone()))));
        match (flawless, &says) {
            (false, None) => tally.agreed("flawed"),
            (true, Some(says)) if *says == meaning => tally.agreed("says"),
            _ => tally.differ(excuse(mutated, dialect, &meaning, other.as_ref()), || {
                let faults = faults(mutated, dialect, peer);
                format!(
                    "{dialect:?} {mutated:02x?}\nours   {faults:?} {meaning:?}\ntheirs {other:?}"
                )
            }),
        }
    });
    println!("{}", tally.report());
    tally.check(2, count / 40);
}
