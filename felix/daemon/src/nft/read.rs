//! From what the kernel has to the ruleset's values; what we could not have made is foreign.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use margay_dataplane::diff::{Actual, ActualBase, ActualChain, ActualRule, ActualSet};
use margay_dataplane::ruleset as ours;
use margay_dataplane::ruleset::{ChainType, Hook, HookPoint, Key, KeyType, KeyValue, SetKind};
use margay_nftnl as nft;
use margay_nftnl::{Generation, Socket, TableId};

use super::encode;

mod rule;

/// The table as it was at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The ruleset's generation then.
    pub generation: Generation,
    /// The table itself; `None` if it is not there.
    pub table: Option<nft::Table>,
    /// What is in it.
    pub actual: Actual,
}

/// Reads the table.
///
/// # Errors
/// [`nft::Error`] of the socket, or if the ruleset does not keep still.
pub fn read(socket: &mut Socket, id: &TableId) -> Result<Reading, nft::Error> {
    let (generation, (table, actual)) = socket.steadily(|socket| {
        let Some(table) = socket.table(id)? else {
            return Ok((None, Actual::default()));
        };
        let mut sets = BTreeMap::new();
        for set in socket.sets(id)? {
            let elements = socket.elements(id, &set.name)?;
            sets.insert(set.name.clone(), actual_set(&set, &elements));
        }
        let mut chains = BTreeMap::new();
        for chain in socket.chains(id)? {
            let empty = ActualChain {
                base: actual_base(&chain),
                rules: Vec::new(),
            };
            chains.insert(chain.name, empty);
        }
        for placed in socket.rules(id)? {
            if let Some(chain) = chains.get_mut(&placed.chain) {
                chain.rules.push(actual_rule(&placed.rule));
            }
        }
        Ok((Some(table), Actual { sets, chains }))
    })?;
    Ok(Reading {
        generation,
        table,
        actual,
    })
}

/// The rule that this one is the encoding of.
pub(super) fn actual_rule(kernel: &nft::Rule) -> ActualRule {
    match rule::decode(kernel) {
        Some(rule) if encode::rule(&rule) == *kernel => ActualRule::Known(rule),
        Some(_) | None => ActualRule::Foreign,
    }
}

fn actual_base(chain: &nft::Chain) -> ActualBase {
    let Some(base) = &chain.base else {
        return ActualBase::Known(None);
    };
    let points = [
        HookPoint::Prerouting,
        HookPoint::Input,
        HookPoint::Forward,
        HookPoint::Output,
        HookPoint::Postrouting,
    ];
    let types = [ChainType::Filter, ChainType::Nat];
    let point = points
        .into_iter()
        .find(|point| encode::hook_number(*point) == base.hook);
    let chain_type = types
        .into_iter()
        .find(|kind| encode::chain_type_name(*kind) == base.chain_type);
    match (point, chain_type, base.default_verdict) {
        (Some(point), Some(chain_type), nft::DefaultVerdict::Accept) => {
            ActualBase::Known(Some(Hook {
                point,
                priority: base.priority,
                chain_type,
            }))
        }
        _ => ActualBase::Foreign,
    }
}

fn actual_set(set: &nft::Set, elements: &[nft::Element]) -> ActualSet {
    known_set(set, elements).map_or(ActualSet::Foreign, ActualSet::Known)
}

fn known_set(set: &nft::Set, elements: &[nft::Element]) -> Option<ours::Set> {
    let key = key_types(&set.key)?;
    let kind = match (set.order, set.value) {
        (nft::SetOrder::Keys, nft::SetValue::Nothing) => SetKind::Set,
        (nft::SetOrder::Keys, nft::SetValue::Verdict) => SetKind::Map,
        (nft::SetOrder::Ranges, nft::SetValue::Nothing) => SetKind::Ranges,
        _ => return None,
    };
    let elements = match kind {
        SetKind::Set | SetKind::Map => elements
            .iter()
            .map(|element| known_element(&key, kind, element))
            .collect::<Option<_>>()?,
        SetKind::Ranges => known_ranges(&key, elements)?,
    };
    Some(ours::Set {
        key,
        kind,
        room: set.limit,
        elements,
    })
}

/// The fields of a key, from nft's numbers for them.
///
/// A content id is an IPv6 address to nft; none of our concatenations begins with an IPv6 address, so there it is an id.
fn key_types(key: &nft::KeyType) -> Option<Vec<KeyType>> {
    const FIELDS: [KeyType; 6] = [
        KeyType::Link,
        KeyType::Ip4,
        KeyType::Ip6,
        KeyType::Protocol,
        KeyType::Port,
        KeyType::Mark,
    ];
    let number = |field: KeyType| nft::KeyType::of(&[encode::field_type(field)]).code;
    let mut code = key.code;
    let mut fields = Vec::new();
    while code != 0 {
        fields.insert(
            0,
            FIELDS
                .into_iter()
                .find(|field| number(*field) == code & 0x3f)?,
        );
        code >>= 6;
    }
    if let [first @ KeyType::Ip6, _, ..] = &mut fields[..] {
        *first = KeyType::Id;
    }
    let types: Vec<nft::FieldType> = fields
        .iter()
        .map(|field| encode::field_type(*field))
        .collect();
    (!fields.is_empty() && nft::KeyType::of(&types).same(key)).then_some(fields)
}

fn known_element(
    types: &[KeyType],
    kind: SetKind,
    element: &nft::Element,
) -> Option<(Key, Option<ours::Verdict>)> {
    let nft::Element {
        key,
        role: nft::Role::Key,
        verdict,
    } = element
    else {
        return None;
    };
    let verdict = match (kind, verdict) {
        (SetKind::Map, Some(verdict)) => Some(known_verdict(verdict)?),
        (SetKind::Set, None) => None,
        _ => return None,
    };
    let mut octets = key.octets();
    let mut values = Vec::with_capacity(types.len());
    for field in types {
        let length = encode::field_type(*field).length() as usize;
        let padded = if types.len() == 1 {
            length
        } else {
            length.next_multiple_of(4)
        };
        let (value, rest) = octets.split_at_checked(padded)?;
        let (value, padding) = value.split_at(length);
        if padding.iter().any(|octet| *octet != 0) {
            return None;
        }
        values.push(known_value(*field, value)?);
        octets = rest;
    }
    octets.is_empty().then_some((values, verdict))
}

fn known_value(field: KeyType, octets: &[u8]) -> Option<KeyValue> {
    Some(match field {
        KeyType::Link => {
            let end = octets.iter().position(|octet| *octet == 0)?;
            if octets[end..].iter().any(|octet| *octet != 0) {
                return None;
            }
            KeyValue::Link(std::str::from_utf8(&octets[..end]).ok()?.to_owned())
        }
        KeyType::Ip4 => KeyValue::Address(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
        KeyType::Ip6 => KeyValue::Address(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        KeyType::Id => KeyValue::Id(u128::from_be_bytes(octets.try_into().ok()?)),
        KeyType::Protocol => KeyValue::Protocol(*octets.first()?),
        KeyType::Port => KeyValue::Port(u16::from_be_bytes(octets.try_into().ok()?)),
        KeyType::Mark => KeyValue::Mark(u32::from_ne_bytes(octets.try_into().ok()?)),
    })
}

/// Prefixes, from where they begin and the first addresses behind them, in order.
fn known_ranges(
    types: &[KeyType],
    elements: &[nft::Element],
) -> Option<BTreeMap<Key, Option<ours::Verdict>>> {
    let mut ranges = BTreeMap::new();
    let mut open: Option<&[u8]> = None;
    for element in elements {
        let octets = element.key.octets();
        match (element.role, open) {
            (nft::Role::Key, None) => open = Some(octets),
            (nft::Role::End, Some(first)) => {
                ranges.insert(
                    vec![KeyValue::Prefix(prefix(types, first, Some(octets))?)],
                    None,
                );
                open = None;
            }
            (nft::Role::Key | nft::Role::End | nft::Role::Other, _) => return None,
        }
    }
    if let Some(first) = open {
        ranges.insert(vec![KeyValue::Prefix(prefix(types, first, None)?)], None);
    }
    Some(ranges)
}

/// The prefix that is exactly this range.
fn prefix(types: &[KeyType], first: &[u8], behind: Option<&[u8]>) -> Option<IpNet> {
    match types {
        [KeyType::Ip4] => {
            let number = |octets: &[u8]| Some(u32::from_be_bytes(octets.try_into().ok()?));
            let first = number(first)?;
            let last = match behind {
                Some(behind) => number(behind)?.checked_sub(1)?,
                None => u32::MAX,
            };
            let length = u8::try_from((first ^ last).leading_zeros()).ok()?;
            let net = Ipv4Net::new(Ipv4Addr::from(first), length).ok()?;
            let exact = u32::from(net.network()) == first && u32::from(net.broadcast()) == last;
            exact.then_some(IpNet::V4(net))
        }
        [KeyType::Ip6] => {
            let number = |octets: &[u8]| Some(u128::from_be_bytes(octets.try_into().ok()?));
            let first = number(first)?;
            let last = match behind {
                Some(behind) => number(behind)?.checked_sub(1)?,
                None => u128::MAX,
            };
            let length = u8::try_from((first ^ last).leading_zeros()).ok()?;
            let net = Ipv6Net::new(Ipv6Addr::from(first), length).ok()?;
            let exact = u128::from(net.network()) == first && u128::from(net.broadcast()) == last;
            exact.then_some(IpNet::V6(net))
        }
        _ => None,
    }
}

/// One of our verdicts; a map of ours never says `continue`.
fn known_verdict(verdict: &nft::Verdict) -> Option<ours::Verdict> {
    Some(match verdict {
        nft::Verdict::Accept => ours::Verdict::Accept,
        nft::Verdict::Drop => ours::Verdict::Drop,
        nft::Verdict::Return => ours::Verdict::Return,
        nft::Verdict::Jump(chain) => ours::Verdict::Jump(chain.clone()),
        nft::Verdict::Goto(chain) => ours::Verdict::Goto(chain.clone()),
        nft::Verdict::Continue => return None,
    })
}
