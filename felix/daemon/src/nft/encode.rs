//! From the ruleset's values to those of nf_tables. Each match and action has one fixed sequence of
//! expressions, so that [`super::read`] can tell our rules from others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use margay_dataplane::ruleset as ours;
use margay_dataplane::ruleset::{
    Action, ChainType, CtDirection, EPOCH_MASK, Family, Field, HookPoint, KeyType, KeyValue,
    LINK_PREFIX, Match, SetKind, Side,
};
use margay_nftnl as nft;
use margay_nftnl::{Base, Comparison, CtKey, Data, Direction, Expr, MetaKey, Register};

/// A rule as the kernel gets it.
pub(super) fn rule(rule: &ours::Rule) -> nft::Rule {
    let ours::Rule {
        matches,
        action,
        comment,
    } = rule;
    let mut exprs = Vec::new();
    for matches in matches {
        encode_match(matches, &mut exprs);
    }
    match action {
        Action::Verdict(of) => exprs.push(Expr::Verdict(verdict(of))),
        Action::Map(key, map) => {
            load_key(key, &mut exprs);
            exprs.push(Expr::VerdictMap {
                map: map.clone(),
                key: R0,
            });
        }
        Action::Stamp(mark) => exprs.extend([
            Expr::Ct {
                key: CtKey::Mark,
                to: R0,
            },
            bitwise(
                R0,
                (!EPOCH_MASK).to_ne_bytes().into(),
                mark.to_ne_bytes().into(),
            ),
            Expr::SetCtMark { from: R0 },
        ]),
        Action::Masquerade => exprs.push(Expr::Masquerade),
    }
    nft::Rule::new(exprs, comment)
}

/// A chain without its rules.
pub(super) fn chain(name: &str, hook: Option<ours::Hook>) -> nft::Chain {
    let base = hook.map(
        |ours::Hook {
             point,
             priority,
             chain_type,
         }| nft::BaseChain {
            hook: hook_number(point),
            priority,
            chain_type: chain_type_name(chain_type).to_owned(),
            default_verdict: nft::DefaultVerdict::Accept,
        },
    );
    nft::Chain {
        name: name.to_owned(),
        base,
    }
}

/// A set without its elements.
pub(super) fn set(name: &str, key: &[KeyType], kind: SetKind, room: Option<u32>) -> nft::Set {
    let fields: Vec<nft::FieldType> = key.iter().map(|field| field_type(*field)).collect();
    let (order, value) = match kind {
        SetKind::Set => (nft::SetOrder::Keys, nft::SetValue::Nothing),
        SetKind::Map => (nft::SetOrder::Keys, nft::SetValue::Verdict),
        SetKind::Ranges => (nft::SetOrder::Ranges, nft::SetValue::Nothing),
    };
    nft::Set {
        name: name.to_owned(),
        key: nft::KeyType::of(&fields),
        order,
        value,
        limit: room,
    }
}

/// The elements that stand for one of ours: two for a range, unless it ends where the addresses do.
pub(super) fn element(
    key: &[KeyValue],
    verdict: Option<&ours::Verdict>,
) -> impl Iterator<Item = nft::Element> + use<> {
    let verdict = verdict.map(self::verdict);
    let (key, end) = match key {
        [KeyValue::Prefix(prefix)] => {
            let (first, behind) = range(*prefix);
            (first, behind)
        }
        [value] => (
            nft::Key::of(octets(value).as_slice()).unwrap_or_default(),
            None,
        ),
        values => {
            let mut key = nft::Key::new();
            for value in values {
                key.push(octets(value).as_slice());
            }
            (key, None)
        }
    };
    let first = nft::Element {
        key,
        role: nft::Role::Key,
        verdict,
    };
    let end = end.map(|key| nft::Element {
        key,
        role: nft::Role::End,
        verdict: None,
    });
    std::iter::once(first).chain(end)
}

/// A verdict as the kernel gets it.
pub(super) fn verdict(verdict: &ours::Verdict) -> nft::Verdict {
    match verdict {
        ours::Verdict::Accept => nft::Verdict::Accept,
        ours::Verdict::Drop => nft::Verdict::Drop,
        ours::Verdict::Return => nft::Verdict::Return,
        ours::Verdict::Jump(chain) => nft::Verdict::Jump(chain.clone()),
        ours::Verdict::Goto(chain) => nft::Verdict::Goto(chain.clone()),
    }
}
pub(super) const R0: Register = Register::FIRST;

fn encode_match(matches: &Match, exprs: &mut Vec<Expr>) {
    match matches {
        Match::OurLink(side, test) => {
            let key = match side {
                Side::In => MetaKey::InName,
                Side::Out => MetaKey::OutName,
            };
            exprs.push(Expr::Meta { key, to: R0 });
            exprs.push(compare(equality(*test), link_prefix()));
        }
        Match::Family(family) => exprs.extend(is_family(*family)),
        Match::Protocol(protocol) => {
            exprs.push(Expr::Meta {
                key: MetaKey::Protocol,
                to: R0,
            });
            exprs.push(compare(Comparison::Equal, [*protocol].into()));
        }
        Match::Icmp6Types(types) => {
            exprs.push(Expr::Payload {
                base: Base::Transport,
                offset: 0,
                length: 1,
                to: R0,
            });
            exprs.extend(one_of(types));
        }
        Match::CtStates(states) => {
            let bits = states.iter().fold(0, |bits, state| bits | state.bit());
            exprs.push(Expr::Ct {
                key: CtKey::State,
                to: R0,
            });
            exprs.push(bitwise(R0, bits.to_ne_bytes().into(), [0; 4].into()));
            exprs.push(compare(Comparison::NotEqual, [0; 4].into()));
        }
        Match::Direction(direction) => {
            exprs.push(Expr::Ct {
                key: CtKey::Direction,
                to: R0,
            });
            let reply = u8::from(*direction == CtDirection::Reply);
            exprs.push(compare(Comparison::Equal, [reply].into()));
        }
        Match::ServerPort(first, last) => {
            exprs.push(Expr::Ct {
                key: CtKey::SourcePort(Direction::Reply),
                to: R0,
            });
            exprs.push(between(
                nft::Test::Is,
                first.to_be_bytes().into(),
                last.to_be_bytes().into(),
            ));
        }
        Match::Address(field, prefix, test) => {
            load_key(std::slice::from_ref(field), exprs);
            let (mask, network) = (data(prefix.netmask()), data(prefix.network()));
            if prefix.prefix_len() < prefix.max_prefix_len() {
                exprs.push(bitwise(R0, mask, zeros(mask)));
            }
            exprs.push(compare(equality(*test), network));
        }
        Match::In(key, set, test) => {
            load_key(key, exprs);
            exprs.push(Expr::Lookup {
                set: set.clone(),
                key: R0,
                test: nft_test(*test),
            });
        }
    }
}

/// Loads the fields of a key into registers one behind the other, after what makes sure that the packet is of
/// the family whose header is read.
fn load_key(key: &[Field], exprs: &mut Vec<Expr>) {
    exprs.extend(
        key.iter()
            .find_map(|field| header_family(*field))
            .into_iter()
            .flat_map(is_family),
    );
    let mut to = R0;
    for field in key {
        let length = load(*field, to, exprs);
        to = to.after(length).unwrap_or(to);
    }
}

/// The family whose header a field is in; connections know theirs.
pub(super) fn header_family(field: Field) -> Option<Family> {
    match field {
        Field::Source(family) | Field::Destination(family) => Some(family),
        Field::InLink
        | Field::OutLink
        | Field::Client(_)
        | Field::Server(_)
        | Field::Protocol
        | Field::ServerPort
        | Field::Id(_)
        | Field::Epoch => None,
    }
}

/// Loads one field; how many octets it has.
fn load(field: Field, to: Register, exprs: &mut Vec<Expr>) -> u8 {
    let (expr, length) = match field {
        Field::InLink => (
            Expr::Meta {
                key: MetaKey::InName,
                to,
            },
            16,
        ),
        Field::OutLink => (
            Expr::Meta {
                key: MetaKey::OutName,
                to,
            },
            16,
        ),
        Field::Source(Family::V4) => (header(12, 4, to), 4),
        Field::Source(Family::V6) => (header(8, 16, to), 16),
        Field::Destination(Family::V4) => (header(16, 4, to), 4),
        Field::Destination(Family::V6) => (header(24, 16, to), 16),
        Field::Client(Family::V4) => (
            Expr::Ct {
                key: CtKey::Source4(Direction::Original),
                to,
            },
            4,
        ),
        Field::Client(Family::V6) => (
            Expr::Ct {
                key: CtKey::Source6(Direction::Original),
                to,
            },
            16,
        ),
        Field::Server(Family::V4) => (
            Expr::Ct {
                key: CtKey::Source4(Direction::Reply),
                to,
            },
            4,
        ),
        Field::Server(Family::V6) => (
            Expr::Ct {
                key: CtKey::Source6(Direction::Reply),
                to,
            },
            16,
        ),
        Field::Protocol => (
            Expr::Meta {
                key: MetaKey::Protocol,
                to,
            },
            1,
        ),
        Field::ServerPort => (
            Expr::Ct {
                key: CtKey::SourcePort(Direction::Reply),
                to,
            },
            2,
        ),
        Field::Id(id) => (
            Expr::Immediate {
                to,
                value: id.to_be_bytes().into(),
            },
            16,
        ),
        Field::Epoch => (
            Expr::Ct {
                key: CtKey::Mark,
                to,
            },
            4,
        ),
    };
    exprs.push(expr);
    if field == Field::Epoch {
        exprs.push(bitwise(to, EPOCH_MASK.to_ne_bytes().into(), [0; 4].into()));
    }
    length
}

fn header(offset: u32, length: u32, to: Register) -> Expr {
    Expr::Payload {
        base: Base::Network,
        offset,
        length,
        to,
    }
}

pub(super) fn is_family(family: Family) -> [Expr; 2] {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    [
        Expr::Meta {
            key: MetaKey::Family,
            to: R0,
        },
        compare(Comparison::Equal, [number].into()),
    ]
}

/// That an octet is one of these: in the range from the least to the greatest, and in none of the gaps. (A set
/// would have to have a name.)
fn one_of(values: &BTreeSet<u8>) -> Vec<Expr> {
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return vec![compare(Comparison::Less, [0].into())]; // nothing is less
    };
    let within = between(nft::Test::Is, [*first].into(), [*last].into());
    let gaps = values
        .iter()
        .zip(values.iter().skip(1))
        .filter(|(low, high)| *high - *low > 1);
    let outside =
        gaps.map(|(low, high)| between(nft::Test::IsNot, [low + 1].into(), [high - 1].into()));
    std::iter::once(within).chain(outside).collect()
}

fn between(test: nft::Test, first: Data, last: Data) -> Expr {
    if first == last {
        let op = match test {
            nft::Test::Is => Comparison::Equal,
            nft::Test::IsNot => Comparison::NotEqual,
        };
        return compare(op, first);
    }
    Expr::Range {
        register: R0,
        test,
        first,
        last,
    }
}

fn compare(op: Comparison, value: Data) -> Expr {
    Expr::Compare {
        op,
        register: R0,
        value,
    }
}

fn bitwise(register: Register, mask: Data, xor: Data) -> Expr {
    Expr::Bitwise {
        from: register,
        to: register,
        mask,
        xor,
    }
}

fn equality(test: ours::Test) -> Comparison {
    match test {
        ours::Test::Is => Comparison::Equal,
        ours::Test::IsNot => Comparison::NotEqual,
    }
}

fn nft_test(test: ours::Test) -> nft::Test {
    match test {
        ours::Test::Is => nft::Test::Is,
        ours::Test::IsNot => nft::Test::IsNot,
    }
}

/// The octets that every name of our links begins with; what follows them does not count.
pub(super) fn link_prefix() -> Data {
    Data::new(LINK_PREFIX.as_bytes()).expect("a prefix has 1 to 15 octets")
}

fn data(address: IpAddr) -> Data {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn zeros(like: Data) -> Data {
    match like.octets().len() {
        4 => [0; 4].into(),
        _ => [0; 16].into(),
    }
}

/// A value of at most 16 octets, without padding.
struct Octets {
    octets: [u8; 16],
    length: usize,
}

impl Octets {
    fn of(value: &[u8]) -> Self {
        let length = value.len().min(16);
        let mut octets = [0; 16];
        octets[..length].copy_from_slice(&value[..length]);
        Self { octets, length }
    }

    fn as_slice(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

fn octets(value: &KeyValue) -> Octets {
    match value {
        KeyValue::Link(name) => Octets {
            length: 16,
            ..Octets::of(name.as_bytes())
        },
        KeyValue::Address(IpAddr::V4(address)) => Octets::of(&address.octets()),
        KeyValue::Address(IpAddr::V6(address)) => Octets::of(&address.octets()),
        KeyValue::Prefix(prefix) => Octets::of(data(prefix.network()).octets()),
        KeyValue::Id(id) => Octets::of(&id.to_be_bytes()),
        KeyValue::Protocol(protocol) => Octets::of(&[*protocol]),
        KeyValue::Port(port) => Octets::of(&port.to_be_bytes()),
        KeyValue::Mark(mark) => Octets::of(&mark.to_ne_bytes()),
    }
}

/// Where a range begins, and the first address behind it.
fn range(prefix: IpNet) -> (nft::Key, Option<nft::Key>) {
    let key = |octets: &[u8]| nft::Key::of(octets).unwrap_or_default();
    match prefix {
        IpNet::V4(net) => {
            let behind = u32::from(net.broadcast()).checked_add(1);
            (
                key(&net.network().octets()),
                behind.map(|behind| key(&behind.to_be_bytes())),
            )
        }
        IpNet::V6(net) => {
            let behind = u128::from(net.broadcast()).checked_add(1);
            (
                key(&net.network().octets()),
                behind.map(|behind| key(&behind.to_be_bytes())),
            )
        }
    }
}

/// nf_tables' type of a field. A content id is an IPv6 address to it.
pub(super) fn field_type(field: KeyType) -> nft::FieldType {
    match field {
        KeyType::Link => nft::FieldType::LINK,
        KeyType::Ip4 => nft::FieldType::IPV4,
        KeyType::Ip6 | KeyType::Id => nft::FieldType::IPV6,
        KeyType::Protocol => nft::FieldType::PROTOCOL,
        KeyType::Port => nft::FieldType::PORT,
        KeyType::Mark => nft::FieldType::MARK,
    }
}

/// `enum nf_inet_hooks`.
pub(super) fn hook_number(point: HookPoint) -> u32 {
    match point {
        HookPoint::Prerouting => 0,
        HookPoint::Input => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    }
}

pub(super) fn chain_type_name(chain_type: ChainType) -> &'static str {
    match chain_type {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
    }
}
