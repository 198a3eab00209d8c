//! Rules, from their expressions: the way of [`super::super::encode`] backwards.
//!
//! It need not be strict: whoever calls encodes the result again and compares.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use margay_dataplane::ruleset::{
    Action, CtDirection, CtState, EPOCH_MASK, Family, Field, Match, Rule, Side, Test,
};
use margay_nftnl as nft;
use margay_nftnl::{Base, Comparison, CtKey, Data, Direction, Expr, MetaKey};

use super::known_verdict;
use crate::nft::encode::{header_family, is_family, link_prefix};

/// What the expressions most probably say; `None` if nothing of ours.
pub(super) fn decode(rule: &nft::Rule) -> Option<Rule> {
    let mut exprs = rule.exprs();
    let mut matches = Vec::new();
    let comment = rule.comment().to_owned();
    loop {
        if let Some(action) = action(exprs) {
            return Some(Rule {
                matches,
                action,
                comment,
            });
        }
        matches.push(take_match(&mut exprs)?);
    }
}

/// The action that is all of what is left.
fn action(exprs: &[Expr]) -> Option<Action> {
    match exprs {
        [Expr::Verdict(verdict)] => known_verdict(verdict).map(Action::Verdict),
        [Expr::Masquerade] => Some(Action::Masquerade),
        [
            Expr::Ct {
                key: CtKey::Mark, ..
            },
            Expr::Bitwise { xor, .. },
            Expr::SetCtMark { .. },
        ] => number(*xor).map(Action::Stamp),
        [.., Expr::VerdictMap { map, .. }] => {
            let mut exprs = exprs;
            let key = take_key(&mut exprs);
            (exprs.len() == 1).then(|| Action::Map(key, map.clone()))
        }
        _ => None,
    }
}

fn take_match(exprs: &mut &[Expr]) -> Option<Match> {
    if let Some(found) = take_simple(exprs) {
        return Some(found);
    }
    let key = take_key(exprs);
    if key.is_empty()
        && let Some(family) = guard(exprs)
    {
        *exprs = &exprs[2..];
        return Some(Match::Family(family));
    }
    let [field, ..] = key[..] else { return None };
    match *exprs {
        [Expr::Lookup { set, test, .. }, rest @ ..] => {
            *exprs = rest;
            let test = match test {
                nft::Test::Is => Test::Is,
                nft::Test::IsNot => Test::IsNot,
            };
            Some(Match::In(key, set.clone(), test))
        }
        [
            Expr::Bitwise { mask, .. },
            Expr::Compare { op, value, .. },
            rest @ ..,
        ] => {
            *exprs = rest;
            let prefix = IpNet::with_netmask(address(*value)?, address(*mask)?).ok()?;
            Some(Match::Address(field, prefix, equality(*op)?))
        }
        [Expr::Compare { op, value, .. }, rest @ ..] => {
            *exprs = rest;
            Some(Match::Address(
                field,
                IpNet::from(address(*value)?),
                equality(*op)?,
            ))
        }
        _ => None,
    }
}

/// A match that begins with an expression of its own kind.
fn take_simple(exprs: &mut &[Expr]) -> Option<Match> {
    let (found, rest) = match *exprs {
        [
            Expr::Meta {
                key: key @ (MetaKey::InName | MetaKey::OutName),
                ..
            },
            Expr::Compare { op, value, .. },
            rest @ ..,
        ] if *value == link_prefix() => {
            let side = if *key == MetaKey::InName {
                Side::In
            } else {
                Side::Out
            };
            (Match::OurLink(side, equality(*op)?), rest)
        }
        [
            Expr::Meta {
                key: MetaKey::Protocol,
                ..
            },
            Expr::Compare { value, .. },
            rest @ ..,
        ] => (Match::Protocol(octet(*value)?), rest),
        [
            Expr::Payload {
                base: Base::Transport,
                ..
            },
            rest @ ..,
        ] => {
            let length = rest
                .iter()
                .take_while(|expr| octet_test(expr).is_some())
                .count();
            let (tests, rest) = rest.split_at(length);
            let types: BTreeSet<u8> = (0..=u8::MAX)
                .filter(|value| tests.iter().filter_map(octet_test).all(|test| test(*value)))
                .collect();
            (Match::Icmp6Types(types), rest)
        }
        [
            Expr::Ct {
                key: CtKey::State, ..
            },
            Expr::Bitwise { mask, .. },
            Expr::Compare { .. },
            rest @ ..,
        ] => {
            let bits = number(*mask)?;
            let states = CtState::ALL
                .into_iter()
                .filter(|state| bits & state.bit() != 0);
            (Match::CtStates(states.collect()), rest)
        }
        [
            Expr::Ct {
                key: CtKey::Direction,
                ..
            },
            Expr::Compare { value, .. },
            rest @ ..,
        ] => {
            let direction = match octet(*value)? {
                0 => CtDirection::Original,
                _ => CtDirection::Reply,
            };
            (Match::Direction(direction), rest)
        }
        [
            Expr::Ct {
                key: CtKey::SourcePort(Direction::Reply),
                ..
            },
            Expr::Compare { value, .. },
            rest @ ..,
        ] => {
            let port = port(*value)?;
            (Match::ServerPort(port, port), rest)
        }
        [
            Expr::Ct {
                key: CtKey::SourcePort(Direction::Reply),
                ..
            },
            Expr::Range { first, last, .. },
            rest @ ..,
        ] => (Match::ServerPort(port(*first)?, port(*last)?), rest),
        _ => return None,
    };
    *exprs = rest;
    Some(found)
}

/// Which octets pass a test of the first register.
fn octet_test(expr: &Expr) -> Option<Box<dyn Fn(u8) -> bool>> {
    if let Expr::Compare { op, value, .. } = expr {
        let value = octet(*value)?;
        return match op {
            Comparison::Equal => Some(Box::new(move |octet| octet == value)),
            Comparison::NotEqual => Some(Box::new(move |octet| octet != value)),
            Comparison::Less => Some(Box::new(move |octet| octet < value)),
            Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => None,
        };
    }
    let Expr::Range {
        test, first, last, ..
    } = expr
    else {
        return None;
    };
    let (within, range) = (*test == nft::Test::Is, octet(*first)?..=octet(*last)?);
    Some(Box::new(move |octet| range.contains(&octet) == within))
}

/// Takes as many fields as there are, with what makes sure of the family before them; that is a match of its own if
/// none of them needs it.
fn take_key(exprs: &mut &[Expr]) -> Vec<Field> {
    let guard = guard(exprs);
    let mut rest = match guard {
        Some(_) => &exprs[2..],
        None => *exprs,
    };
    let mut key = Vec::new();
    while let Some(field) = take_field(&mut rest) {
        key.push(field);
    }
    if key.iter().find_map(|field| header_family(*field)) != guard {
        return Vec::new();
    }
    *exprs = rest;
    key
}

fn guard(exprs: &[Expr]) -> Option<Family> {
    Family::BOTH
        .into_iter()
        .find(|family| exprs.starts_with(&is_family(*family)))
}

fn take_field(exprs: &mut &[Expr]) -> Option<Field> {
    let (field, rest) = match *exprs {
        [
            Expr::Meta {
                key: MetaKey::InName,
                ..
            },
            rest @ ..,
        ] => (Field::InLink, rest),
        [
            Expr::Meta {
                key: MetaKey::OutName,
                ..
            },
            rest @ ..,
        ] => (Field::OutLink, rest),
        [
            Expr::Meta {
                key: MetaKey::Protocol,
                ..
            },
            rest @ ..,
        ] => (Field::Protocol, rest),
        [
            Expr::Payload {
                base: Base::Network,
                offset,
                length,
                ..
            },
            rest @ ..,
        ] => {
            let field = match (offset, length) {
                (12, 4) => Field::Source(Family::V4),
                (16, 4) => Field::Destination(Family::V4),
                (8, 16) => Field::Source(Family::V6),
                (24, 16) => Field::Destination(Family::V6),
                _ => return None,
            };
            (field, rest)
        }
        [
            Expr::Ct {
                key: CtKey::Mark, ..
            },
            Expr::Bitwise { mask, .. },
            rest @ ..,
        ] if number(*mask) == Some(EPOCH_MASK) => (Field::Epoch, rest),
        [Expr::Ct { key, .. }, rest @ ..] => {
            let field = match key {
                CtKey::Source4(Direction::Original) => Field::Client(Family::V4),
                CtKey::Source6(Direction::Original) => Field::Client(Family::V6),
                CtKey::Source4(Direction::Reply) => Field::Server(Family::V4),
                CtKey::Source6(Direction::Reply) => Field::Server(Family::V6),
                CtKey::SourcePort(Direction::Reply) => Field::ServerPort,
                CtKey::SourcePort(Direction::Original)
                | CtKey::Direction
                | CtKey::Mark
                | CtKey::State
                | CtKey::Protocol
                | CtKey::Destination4(_)
                | CtKey::Destination6(_)
                | CtKey::DestinationPort(_) => return None,
            };
            (field, rest)
        }
        [Expr::Immediate { value, .. }, rest @ ..] => (
            Field::Id(u128::from_be_bytes(value.octets().try_into().ok()?)),
            rest,
        ),
        _ => return None,
    };
    *exprs = rest;
    Some(field)
}

fn equality(op: Comparison) -> Option<Test> {
    match op {
        Comparison::Equal => Some(Test::Is),
        Comparison::NotEqual => Some(Test::IsNot),
        Comparison::Less
        | Comparison::LessOrEqual
        | Comparison::Greater
        | Comparison::GreaterOrEqual => None,
    }
}

fn octet(value: Data) -> Option<u8> {
    match value.octets() {
        [octet] => Some(*octet),
        _ => None,
    }
}

fn port(value: Data) -> Option<u16> {
    Some(u16::from_be_bytes(value.octets().try_into().ok()?))
}

fn number(value: Data) -> Option<u32> {
    Some(u32::from_ne_bytes(value.octets().try_into().ok()?))
}

fn address(value: Data) -> Option<IpAddr> {
    let octets = value.octets();
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}
