//! The same UPDATEs through our codec and through `rustbgpd-wire`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_bgp::wire::{
    Aggregator, Announced, AsPath, AsWidth, Context, Nlri, Opaque, Origin, PathAttrs, PathIds,
    PeerKind, Segment, SegmentKind, Shape, Update, UpdateError, take_frame,
};
use margay_bgp::{Asn, BgpId, Family};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rustbgpd_wire as rustbgpd;

use crate::mutation::{Noise, messages};
use crate::strategies::routes;

/// What both sides agreed on in OPEN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    pub(crate) width: AsWidth,
    /// Whether prefixes have path identifiers (RFC 7911).
    pub(crate) ids: PathIds,
}

impl Dialect {
    pub(crate) const ALL: [Self; 4] = [
        Self::new(AsWidth::Four, PathIds::Absent),
        Self::new(AsWidth::Four, PathIds::Present),
        Self::new(AsWidth::Two, PathIds::Absent),
        Self::new(AsWidth::Two, PathIds::Present),
    ];

    const fn new(width: AsWidth, ids: PathIds) -> Self {
        Self { width, ids }
    }

    fn context(self, peer: PeerKind) -> Context {
        let families = Family::ALL.into_iter();
        Context {
            add_path: families.filter(|_| self.has_ids()).collect(),
            ..Context::new(self.width, peer)
        }
    }

    pub(crate) fn has_ids(self) -> bool {
        self.ids == PathIds::Present
    }
}

/// What an UPDATE means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The session must end.
    Reset,
    /// What it announces counts as withdrawn.
    Withdraw,
    /// It says this.
    Says(Box<Content>),
}

/// Prefixes with their path identifiers, 0 without.
type Paths = Vec<(u32, IpNet)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) withdrawn: Paths,
    pub(crate) nlri: Paths,
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) mp_next_hop: Option<IpAddr>,
    pub(crate) mp_nlri: Paths,
    pub(crate) mp_withdrawn: Paths,
    pub(crate) attrs: PathAttrs,
}

/// What we make of a message, and whether we find nothing wrong with it.
pub(crate) fn ours(message: &[u8], dialect: Dialect, peer: PeerKind) -> (Meaning, bool) {
    let frame = take_frame(&mut &*message).unwrap().unwrap();
    let Ok(update) = Update::decode(frame.body, dialect.context(peer)) else {
        return (Meaning::Reset, false);
    };
    let flawless = update.discarded.is_empty();
    let attrs = match update.announced {
        Announced::Unusable(_) => return (Meaning::Withdraw, false),
        Announced::Nothing => PathAttrs::default(),
        Announced::Routes(attrs) => attrs,
    };
    let content = Content {
        withdrawn: update.withdrawn.paths().collect(),
        nlri: update.nlri.paths().collect(),
        next_hop: update.next_hop.map(IpAddr::V4),
        mp_next_hop: update.mp_nlri.map(|reach| reach.next_hop.address()),
        mp_nlri: update
            .mp_nlri
            .iter()
            .flat_map(|reach| reach.nlri.paths())
            .collect(),
        mp_withdrawn: update.mp_withdrawn.iter().flat_map(Nlri::paths).collect(),
        attrs,
    };
    (Meaning::Says(Box::new(content)), flawless)
}

/// What we find wrong with a message.
pub(crate) fn faults(message: &[u8], dialect: Dialect, peer: PeerKind) -> Vec<UpdateError> {
    let frame = take_frame(&mut &*message).unwrap().unwrap();
    match Update::decode(frame.body, dialect.context(peer)) {
        Err(error) => vec![error],
        Ok(update) => {
            let mut faults = update.discarded;
            if let Announced::Unusable(error) = update.announced {
                faults.push(error);
            }
            faults
        }
    }
}

/// The families of [`Dialect::ids`], as the other wants them.
fn with_ids(dialect: Dialect) -> (bool, Vec<(rustbgpd::Afi, rustbgpd::Safi)>) {
    let unicast = |afi| (afi, rustbgpd::Safi::Unicast);
    let families = [rustbgpd::Afi::Ipv4, rustbgpd::Afi::Ipv6].map(unicast);
    let families = families.into_iter().filter(|_| dialect.has_ids());
    (dialect.has_ids(), families.collect())
}

fn theirs(message: &[u8], dialect: Dialect, peer: PeerKind) -> Meaning {
    use rustbgpd::validate::ErrorDisposition;
    let mut octets = message.to_vec().into();
    let Ok(rustbgpd::Message::Update(update)) = rustbgpd::decode_message(&mut octets, 4096) else {
        return Meaning::Reset;
    };
    let (classic, families) = with_ids(dialect);
    let four = dialect.width == AsWidth::Four;
    let parsed = update.parse_revised(four, peer == PeerKind::Ibgp, classic, &families);
    let Ok(parsed) = parsed else {
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
        let path = |entry: &rustbgpd::Ipv4NlriEntry| {
            let rustbgpd::Ipv4Prefix { addr, len } = entry.prefix;
            (entry.path_id, Ipv4Net::new(addr, len).unwrap().into())
        };
        entries.iter().map(path).collect::<Paths>()
    };
    let mut content = Content {
        withdrawn: v4(&parsed.update.withdrawn),
        nlri: v4(&parsed.update.announced),
        ..Content::default()
    };
    for attribute in parsed.update.attributes {
        take(&mut content, attribute);
    }
    let announces = !(content.nlri.is_empty() && content.mp_nlri.is_empty());
    if worst(ErrorDisposition::TreatAsWithdraw) && announces {
        return Meaning::Withdraw;
    }
    Meaning::Says(Box::new(content))
}

fn any_path(entry: &rustbgpd::NlriEntry) -> (u32, IpNet) {
    let net = match entry.prefix {
        rustbgpd::Prefix::V4(v4) => Ipv4Net::new(v4.addr, v4.len).unwrap().into(),
        rustbgpd::Prefix::V6(v6) => Ipv6Net::new(v6.addr, v6.len).unwrap().into(),
    };
    (entry.path_id, net)
}

fn take(content: &mut Content, attribute: rustbgpd::PathAttribute) {
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
        A::ExtendedCommunities(list) | A::ExtendedCommunitiesPartial(list) => {
            let octets = |c: rustbgpd::ExtendedCommunity| c.as_u64().to_be_bytes();
            attrs.extended_communities = list.into_iter().map(octets).collect();
        }
        A::LargeCommunities(list) | A::LargeCommunitiesPartial(list) => {
            let words =
                |c: rustbgpd::LargeCommunity| [c.global_admin, c.local_data1, c.local_data2];
            attrs.large_communities = list.into_iter().map(words).collect();
        }
        A::OriginatorId(id) => attrs.originator_id = Some(BgpId(id)),
        A::ClusterList(ids) => attrs.cluster_list = ids.into_iter().map(BgpId).collect(),
        A::MpReachNlri(reach) => {
            content.mp_next_hop = Some(reach.next_hop);
            content.mp_nlri = reach.announced.iter().map(any_path).collect();
        }
        A::MpUnreachNlri(unreach) => {
            content.mp_withdrawn = unreach.withdrawn.iter().map(any_path).collect();
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

/// Why the two may differ on a message, if they may.
fn excuse(message: &[u8], dialect: Dialect, peer: PeerKind) -> Option<&'static str> {
    use rustbgpd::error::DecodeError;
    let frame = take_frame(&mut &*message).unwrap().unwrap();
    let update = match Update::decode(frame.body, dialect.context(peer)) {
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
    let has = |wanted| each(&raw.path_attributes).any(|(code, _)| code == wanted);
    if dialect.width == AsWidth::Two && has(18) && !has(7) {
        return Some("AS4_AGGREGATOR alone: RFC 6793 §4.2.3 knows it only beside AGGREGATOR");
    }
    let partial = |error: &DecodeError| match error {
        DecodeError::UpdateAttributeError {
            subcode: 4, data, ..
        } => data.first().is_some_and(|flags| flags & 0x20 != 0),
        _ => false,
    };
    let partial_excuse =
        "a Partial bit where it means nothing: RFC 7606 §3 c looks at the two other bits";
    let (classic, families) = with_ids(dialect);
    let four = dialect.width == AsWidth::Four;
    let parsed = raw.parse_revised(four, peer == PeerKind::Ibgp, classic, &families);
    let parsed = match parsed {
        Err(error) => return partial(&error).then_some(partial_excuse),
        Ok(parsed) => parsed,
    };
    let ours = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32];
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
pub(crate) fn foreign_family(attributes: &[u8]) -> bool {
    each(attributes)
        .any(|(code, value)| matches!(code, 14 | 15) && !matches!(value, [0, 1 | 2, 1, ..]))
}

/// Codes and values of attributes, as far as they can be told apart.
pub(crate) fn each(mut attributes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [flags, code, rest @ ..] = attributes else {
            return None;
        };
        let (length, rest) = match rest {
            [high, low, rest @ ..] if flags & 0x10 != 0 => {
                (u16::from_be_bytes([*high, *low]), rest)
            }
            [length, rest @ ..] => (u16::from(*length), rest),
            [] => return None,
        };
        let (value, rest) = rest.split_at_checked(length.into())?;
        attributes = rest;
        Some((*code, value))
    })
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
pub(crate) fn comparable(mut meaning: Meaning) -> Meaning {
    if let Meaning::Says(content) = &mut meaning {
        content.attrs.unknown.retain(|opaque| opaque.code >= 200);
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

/// An UPDATE of a kind that all codecs take. One of the others has a word against every `AS_SET`.
pub(crate) fn message(
    runner: &mut TestRunner,
    dialect: Dialect,
    segments: &[SegmentKind],
) -> Option<Vec<u8>> {
    let mut routes = routes(1..6).new_tree(runner).unwrap().current();
    let attrs = &mut routes.attrs;
    for segment in &mut attrs.as_path.0 {
        if !segments.contains(&segment.kind) {
            segment.kind = SegmentKind::Sequence;
        }
    }
    if dialect.width == AsWidth::Two {
        // Wider ones come in two attributes: what that means is not the codecs' business alone.
        let asns = attrs.as_path.0.iter_mut().flat_map(|s| &mut s.asns);
        let asns = asns.chain(attrs.aggregator.iter_mut().map(|a| &mut a.asn));
        asns.for_each(|asn| *asn = Asn(asn.0 % 65535 + 1));
    }
    let shape = Shape {
        ids: dialect.ids,
        ..Shape::plain(dialect.width)
    };
    routes.encode_as(shape).into_iter().next()
}

#[test]
fn the_other_reads_what_we_write() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..500 {
        for dialect in Dialect::ALL {
            if let Some(message) = message(&mut runner, dialect, &[]) {
                let (meaning, flawless) = ours(&message, dialect, PeerKind::Ibgp);
                assert!(flawless && matches!(meaning, Meaning::Says(_)));
                assert_eq!(meaning, theirs(&message, dialect, PeerKind::Ibgp));
            }
        }
    }
}

/// What came of many messages.
#[derive(Default)]
pub(crate) struct Tally {
    agreed: BTreeMap<&'static str, usize>,
    excuses: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
}

impl Tally {
    pub(crate) fn agreed(&mut self, how: &'static str) {
        *self.agreed.entry(how).or_default() += 1;
    }

    /// The two differ; `what` is asked for where that has no excuse.
    pub(crate) fn differ(&mut self, excuse: Option<&'static str>, what: impl FnOnce() -> String) {
        match excuse {
            Some(excuse) => *self.excuses.entry(excuse).or_default() += 1,
            None => self.unexplained.push(what()),
        }
    }

    /// What there was, for people.
    pub(crate) fn report(&self) -> String {
        format!("agreed {:?}, explained {:#?}", self.agreed, self.excuses)
    }

    /// Every difference is explained, and each kind of agreement was seen at least so often.
    pub(crate) fn check(self, kinds: usize, least: usize) {
        let count = self.unexplained.len();
        assert_eq!(count, 0, "{}", self.unexplained[..count.min(20)].join("\n"));
        let often = self.agreed.values().filter(|count| **count > least);
        assert_eq!(often.count(), kinds, "{:?}", self.agreed);
    }
}

/// Has `look` look at mutations of right messages, in every dialect.
pub(crate) fn mutate(
    count: usize,
    segments: &[SegmentKind],
    mut look: impl FnMut(&[u8], Dialect, PeerKind),
) {
    let mut runner = TestRunner::deterministic();
    let mut noise = Noise::new(77);
    for turn in 0..count / 50 {
        let dialect = Dialect::ALL[turn % 4];
        let Some(message) = message(&mut runner, dialect, segments) else {
            continue;
        };
        for peer in [PeerKind::Ibgp, PeerKind::Ebgp] {
            for _ in 0..25 {
                let mut mutated = message.clone();
                noise.mutate(&mut mutated);
                if mutated.len() >= 23 {
                    look(&mutated, dialect, peer);
                }
            }
        }
    }
}

#[test]
fn on_broken_messages_we_differ_from_rustbgpd_wire_only_where_we_know_why() {
    let count = messages(75_000);
    let mut tally = Tally::default();
    mutate(count, &[], |mutated, dialect, peer| {
        let mine = comparable(ours(mutated, dialect, peer).0);
        let other = without_internal(theirs(mutated, dialect, peer), peer);
        let other = comparable(other);
        if mine == other {
            tally.agreed(match mine {
                Meaning::Reset => "reset",
                Meaning::Withdraw => "withdraw",
                Meaning::Says(_) => "says",
            });
        } else {
            tally.differ(excuse(mutated, dialect, peer), || {
                format!("{dialect:?} {peer:?} {mutated:02x?}\nours   {mine:?}\ntheirs {other:?}")
            });
        }
    });
    println!("{}", tally.report());
    tally.check(3, count / 40);
}
