//! UPDATE: decoding with the dispositions of RFC 7606, encoding with many prefixes to a message.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::attrs::{Aggregator, AsPath, Opaque, Origin, PathAttrs, Segment, SegmentKind};
use super::attrs::{code, flag};
use super::octets::{take_bytes, take_ipv4, take_u8, take_u16, take_u32};
use super::prefix::{Nlri, PathIds};
use crate::settings::Switch;
use crate::types::{Asn, BgpId, Family, FamilySet};

mod carried;
mod encode;
mod error;
mod multiprotocol;
mod skeleton;

pub use encode::{NextHop, Shape, encode_end_of_rib, put_announcements, put_withdrawals};
pub use error::{Remedy, UpdateError};
pub(crate) use skeleton::Skeleton;

use carried::is_well_formed;
use multiprotocol::{decode_mp_reach, decode_mp_unreach};

/// How wide AS numbers are in `AS_PATH` and AGGREGATOR: as both sides agreed in OPEN (RFC 6793 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsWidth {
    /// The peer is an old speaker.
    Two,
    /// Both know RFC 6793.
    Four,
}

/// Whether the peer is in our AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// Same AS.
    Ibgp,
    /// Another AS.
    Ebgp,
}

/// What decoding depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Width of AS numbers.
    pub as_width: AsWidth,
    /// Whose message it is.
    pub peer: PeerKind,
    /// Families whose prefixes have path identifiers (RFC 7911).
    pub add_path: FamilySet,
    /// Whether IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: Switch,
}

impl Context {
    /// Without anything that must be agreed on first.
    pub fn new(as_width: AsWidth, peer: PeerKind) -> Self {
        Self {
            as_width,
            peer,
            add_path: FamilySet::default(),
            extended_next_hop: Switch::Off,
        }
    }

    fn ids(self, family: Family) -> PathIds {
        if self.add_path.contains(family) {
            PathIds::Present
        } else {
            PathIds::Absent
        }
    }
}

/// A decoded UPDATE; its prefixes are still in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// Withdrawn IPv4 prefixes.
    pub withdrawn: Nlri<'a>,
    /// Withdrawn prefixes of `MP_UNREACH_NLRI`, if it is there for a family of ours.
    pub mp_withdrawn: Option<Nlri<'a>>,
    /// Announced IPv4 prefixes.
    pub nlri: Nlri<'a>,
    /// Announced prefixes of `MP_REACH_NLRI`, if it is there for a family of ours.
    pub mp_nlri: Option<MpReach<'a>>,
    /// `NEXT_HOP`, for `nlri`.
    pub next_hop: Option<Ipv4Addr>,
    /// The family of which this is the end (RFC 4724 §2), if it is that.
    pub end_of_rib: Option<Family>,
    /// What holds of the announced prefixes.
    pub announced: Announced,
    /// Attributes that were dropped.
    pub discarded: Vec<UpdateError>,
}

/// What an UPDATE says of the prefixes that it announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// It announces none.
    Nothing,
    /// They have these attributes.
    Routes(PathAttrs),
    /// They count as withdrawn (RFC 7606), for this reason.
    Unusable(UpdateError),
}

/// `MP_REACH_NLRI` (RFC 4760 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MpReach<'a> {
    /// The next hop.
    pub next_hop: NextHop,
    /// The prefixes.
    pub nlri: Nlri<'a>,
}

impl PathAttrs {
    /// Reads what [`PathAttrs::put`] wrote with numbers of four octets.
    pub(crate) fn from_stored(octets: &[u8]) -> Self {
        let mut reader = AttrReader::new(Context::new(AsWidth::Four, PeerKind::Ibgp));
        let read = reader.read(octets);
        debug_assert!(read.is_ok() && reader.unusable.is_none());
        reader.attrs.unknown.sort_by_key(|opaque| opaque.code);
        reader.attrs
    }
}

impl<'a> Update<'a> {
    /// Reads the body of an UPDATE.
    ///
    /// # Errors
    /// Only errors whose remedy is a session reset; the others are in the value.
    pub fn decode(mut body: &'a [u8], context: Context) -> Result<Self, UpdateError> {
        let lengths = UpdateError::Lengths(body.len());
        let octets = &mut body;
        let withdrawn = take_u16(octets)
            .and_then(|length| take_bytes(octets, length.into()))
            .ok_or(lengths.clone())?;
        let attributes = take_u16(octets)
            .and_then(|length| take_bytes(octets, length.into()))
            .ok_or(lengths)?;
        let ids = context.ids(Family::Ipv4);
        let withdrawn = Nlri::parse(Family::Ipv4, ids, withdrawn)?;
        let nlri = Nlri::parse(Family::Ipv4, ids, octets)?;
        let mut reader = AttrReader::new(context);
        reader.read(attributes)?;
        let classic = withdrawn.is_empty() && nlri.is_empty();
        let end_of_rib = match reader.mp_withdrawn {
            None if attributes.is_empty() && classic => Some(Family::Ipv4),
            Some(none) if none.is_empty() && classic && reader.alone() => Some(none.family()),
            None | Some(_) => None,
        };
        Ok(Self {
            end_of_rib,
            ..reader.finish(withdrawn, nlri)
        })
    }
}

/// Collects attributes, and what was wrong with them.
struct AttrReader<'a> {
    context: Context,
    seen: [bool; 256],
    attrs: PathAttrs,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    next_hop: Option<Ipv4Addr>,
    mp_nlri: Option<MpReach<'a>>,
    mp_withdrawn: Option<Nlri<'a>>,
    unusable: Option<UpdateError>,
    discarded: Vec<UpdateError>,
}

impl<'a> AttrReader<'a> {
    fn new(context: Context) -> Self {
        Self {
            context,
            seen: [false; 256],
            attrs: PathAttrs::default(),
            as4_path: None,
            as4_aggregator: None,
            next_hop: None,
            mp_nlri: None,
            mp_withdrawn: None,
            unusable: None,
            discarded: Vec::new(),
        }
    }

    /// Reads all attributes; an error here is a session reset.
    fn read(&mut self, mut octets: &'a [u8]) -> Result<(), UpdateError> {
        while !octets.is_empty() {
            let left = octets.len();
            let (Some(flags), Some(code)) = (take_u8(&mut octets), take_u8(&mut octets)) else {
                return self.note(UpdateError::LeftOver(left));
            };
            let length = if flags & flag::EXTENDED == 0 {
                take_u8(&mut octets).map(usize::from)
            } else {
                take_u16(&mut octets).map(usize::from)
            };
            let Some(value) = length.and_then(|length| take_bytes(&mut octets, length)) else {
                return self.note(UpdateError::Overrun { code });
            };
            if std::mem::replace(&mut self.seen[usize::from(code)], true) {
                self.note(UpdateError::Twice(code))?;
            } else if let Err(error) = self.attribute(flags, code, value) {
                self.note(error)?;
            }
        }
        Ok(())
    }

    /// Whether only one kind of attribute was there.
    fn alone(&self) -> bool {
        self.seen.iter().filter(|seen| **seen).count() == 1
    }

    /// Acts on an error as its remedy says.
    fn note(&mut self, error: UpdateError) -> Result<(), UpdateError> {
        match error.remedy() {
            Remedy::SessionReset => return Err(error),
            Remedy::TreatAsWithdraw => {
                self.unusable.get_or_insert(error);
            }
            Remedy::AttributeDiscard => self.discarded.push(error),
        }
        Ok(())
    }

    fn attribute(&mut self, flags: u8, code: u8, value: &'a [u8]) -> Result<(), UpdateError> {
        let class = flags & (flag::OPTIONAL | flag::TRANSITIVE);
        let right = match code {
            code::ORIGIN..=code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
                class == flag::TRANSITIVE
            }
            code::MED
            | code::ORIGINATOR_ID
            | code::CLUSTER_LIST
            | code::MP_REACH
            | code::MP_UNREACH => class == flag::OPTIONAL,
            code::AGGREGATOR
            | code::COMMUNITIES
            | code::EXTENDED_COMMUNITIES
            | code::PMSI_TUNNEL
            | code::TUNNEL_ENCAPSULATION
            | code::IPV6_EXTENDED_COMMUNITIES
            | code::ONLY_TO_CUSTOMER
            | code::PREFIX_SID
            | code::AS4_PATH
            | code::AS4_AGGREGATOR
            | code::LARGE_COMMUNITIES => class == flag::OPTIONAL | flag::TRANSITIVE,
            _ if class & flag::OPTIONAL == 0 => return Err(UpdateError::UnknownWellKnown(code)),
            _ => true,
        };
        let internal = matches!(
            code,
            code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST
        );
        if internal && self.context.peer == PeerKind::Ebgp {
            return Err(UpdateError::InternalOnly(code));
        }
        if !right {
            return Err(UpdateError::Flags { code, flags });
        }
        self.value(class, code, value)
    }

    fn value(&mut self, class: u8, code: u8, value: &'a [u8]) -> Result<(), UpdateError> {
        let length = UpdateError::Length {
            code,
            length: value.len(),
        };
        match code {
            code::ORIGIN => {
                let &[origin] = value else {
                    return Err(length);
                };
                self.attrs.origin = Origin::from_code(origin).ok_or(UpdateError::Origin(origin))?;
            }
            code::AS_PATH => {
                self.attrs.as_path =
                    decode_as_path(value, self.context.as_width).map_err(UpdateError::AsPath)?;
            }
            code::NEXT_HOP => self.next_hop = Some(whole(value, take_ipv4).ok_or(length)?),
            code::MED => self.attrs.med = Some(whole(value, take_u32).ok_or(length)?),
            code::LOCAL_PREF => self.attrs.local_pref = Some(whole(value, take_u32).ok_or(length)?),
            code::ATOMIC_AGGREGATE if value.is_empty() => self.attrs.atomic_aggregate = true,
            code::ATOMIC_AGGREGATE => return Err(length),
            code::AGGREGATOR => {
                let width = self.context.as_width;
                let aggregator = decode_aggregator(value, width).ok_or(length)?;
                if aggregator.asn == Asn(0) {
                    return Err(UpdateError::AggregatorZero);
                }
                self.attrs.aggregator = Some(aggregator);
            }
            code::COMMUNITIES => self.attrs.communities = words(value).ok_or(length)?,
            code::ORIGINATOR_ID => {
                self.attrs.originator_id = Some(BgpId(whole(value, take_ipv4).ok_or(length)?));
            }
            code::CLUSTER_LIST => {
                let ids = words(value).ok_or(length)?;
                self.attrs.cluster_list = ids
                    .into_iter()
                    .map(|id| BgpId(Ipv4Addr::from_bits(id)))
                    .collect();
            }
            code::EXTENDED_COMMUNITIES => {
                let (communities, rest) = value.as_chunks();
                if communities.is_empty() || !rest.is_empty() {
                    return Err(length);
                }
                self.attrs.extended_communities = communities.to_vec();
            }
            code::MP_REACH => self.mp_nlri = decode_mp_reach(value, self.context)?,
            code::MP_UNREACH => self.mp_withdrawn = decode_mp_unreach(value, self.context)?,
            code::AS4_PATH | code::AS4_AGGREGATOR => self.four_octet_companion(code, value)?,
            code::LARGE_COMMUNITIES => {
                let communities = words(value).ok_or(length.clone())?;
                let (communities, rest) = communities.as_chunks::<3>();
                if !rest.is_empty() {
                    return Err(length);
                }
                // Twice is once (RFC 8092 §3).
                let mut seen = BTreeSet::new();
                let first = communities.iter().filter(|other| seen.insert(**other));
                self.attrs.large_communities = first.copied().collect();
            }
            _ if code::CARRIED.contains(&code) && !is_well_formed(code, value) => {
                return Err(length);
            }
            // Optional and not transitive: quietly ignored (RFC 4271 §5).
            _ if class & flag::TRANSITIVE == 0 => {}
            _ => self.attrs.unknown.push(Opaque {
                code,
                value: value.into(),
            }),
        }
        Ok(())
    }

    fn four_octet_companion(&mut self, code: u8, value: &[u8]) -> Result<(), UpdateError> {
        let error = UpdateError::FourOctetCompanion(code);
        if self.context.as_width == AsWidth::Four {
            return Err(error);
        }
        if code == code::AS4_PATH {
            let path = decode_as_path(value, AsWidth::Four).map_err(|_| error.clone())?;
            // Such segments have no place there, and the rest of it is good (RFC 6793 §6).
            self.as4_path = Some(path.without_confederation());
        } else {
            let aggregator = decode_aggregator(value, AsWidth::Four).ok_or(error.clone())?;
            if aggregator.asn == Asn(0) {
                return Err(error);
            }
            self.as4_aggregator = Some(aggregator);
        }
        Ok(())
    }

    fn finish(mut self, withdrawn: Nlri<'a>, nlri: Nlri<'a>) -> Update<'a> {
        self.merge_four_octet_companions();
        self.attrs.unknown.sort_by_key(|opaque| opaque.code);
        let classic = !nlri.is_empty();
        let announces = classic || self.mp_nlri.is_some_and(|reach| !reach.nlri.is_empty());
        let missing = [
            (code::ORIGIN, true),
            (code::AS_PATH, true),
            (code::NEXT_HOP, classic),
        ]
        .into_iter()
        .find(|(code, needed)| *needed && !self.seen[usize::from(*code)])
        .map(|(code, _)| UpdateError::Missing(code));
        let outcome = match self.unusable.or(missing) {
            _ if !announces => Announced::Nothing,
            Some(error) => Announced::Unusable(error),
            None => Announced::Routes(self.attrs),
        };
        Update {
            withdrawn,
            mp_withdrawn: self.mp_withdrawn,
            nlri,
            mp_nlri: self.mp_nlri,
            next_hop: self.next_hop,
            end_of_rib: None,
            announced: outcome,
            discarded: self.discarded,
        }
    }

    /// RFC 6793 §4.2.3: an old speaker that aggregated anew has made both companions worthless.
    fn merge_four_octet_companions(&mut self) {
        let stale = self
            .attrs
            .aggregator
            .is_some_and(|aggregator| aggregator.asn != Asn::TRANS);
        if stale && self.as4_aggregator.is_some() {
            return;
        }
        if let (Some(aggregator), Some(four)) = (&mut self.attrs.aggregator, self.as4_aggregator) {
            *aggregator = four;
        }
        if let Some(four) = self.as4_path.take() {
            self.attrs.as_path = std::mem::take(&mut self.attrs.as_path).merged(four);
        }
    }
}

/// Reads all of `value` by `take`, or nothing if that leaves or lacks octets.
fn whole<T>(mut value: &[u8], take: impl FnOnce(&mut &[u8]) -> Option<T>) -> Option<T> {
    take(&mut value).filter(|_| value.is_empty())
}

/// All of `value` as words of four octets: at least one, and none cut off.
fn words(value: &[u8]) -> Option<Vec<u32>> {
    let (words, rest) = value.as_chunks();
    (rest.is_empty() && !words.is_empty())
        .then(|| words.iter().copied().map(u32::from_be_bytes).collect())
}

fn decode_as_path(mut value: &[u8], width: AsWidth) -> Result<AsPath, &'static str> {
    let mut segments = Vec::new();
    while let Some(kind) = take_u8(&mut value) {
        let kind = SegmentKind::from_code(kind).ok_or("a segment of an undefined type")?;
        let count = take_u8(&mut value).ok_or("a segment without length")?;
        if count == 0 {
            return Err("a segment without numbers");
        }
        let mut asns = Vec::with_capacity(count.into());
        for _ in 0..count {
            let asn = match width {
                AsWidth::Two => take_u16(&mut value).map(u32::from),
                AsWidth::Four => take_u32(&mut value),
            };
            match asn {
                None => return Err("a segment that runs over the end"),
                Some(0) => return Err("AS 0, which is reserved"), // RFC 7607
                Some(asn) => asns.push(Asn(asn)),
            }
        }
        segments.push(Segment { kind, asns });
    }
    Ok(AsPath(segments))
}

fn decode_aggregator(value: &[u8], width: AsWidth) -> Option<Aggregator> {
    whole(value, |value| {
        let asn = match width {
            AsWidth::Two => take_u16(value).map(u32::from),
            AsWidth::Four => take_u32(value),
        };
        Some(Aggregator {
            asn: Asn(asn?),
            address: take_ipv4(value)?,
        })
    })
}

#[cfg(test)]
mod tests;
