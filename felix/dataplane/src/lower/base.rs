//! The fixed chains and sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::epochs::{Epochs, mark};
use crate::local::Nat;
use crate::names;
use crate::ruleset::{
    Action, Chain, ChainType, CtDirection, CtState, Family, Field, Hook, HookPoint, KeyType,
    KeyValue, Match, Rule, Ruleset, Set, SetKind, Side, Test, Verdict,
};

const ICMP6: u8 = 58;
/// Elements of `@epoch` and `@window`: far more than there ever are within a batch, where the old ones still count.
const MARKS: u32 = 1024;
/// Router solicitation, neighbour solicitation and advertisement.
const NEIGHBOUR_DISCOVERY: [u8; 3] = [133, 135, 136];
/// Multicast listener report, done, and report version 2.
const MULTICAST_LISTENER: [u8; 3] = [131, 132, 143];

/// Everything that does not depend on pods and policy; the pods' sets are empty.
pub(crate) fn base(epochs: &Epochs) -> Ruleset {
    let mut sets = BTreeMap::new();
    let mut set = |name: &str, kind, key: &[KeyType]| {
        sets.insert(
            name.to_owned(),
            Set {
                key: key.to_vec(),
                kind,
                room: (key == [KeyType::Mark]).then_some(MARKS),
                elements: BTreeMap::new(),
            },
        );
    };
    set(names::EPOCH, SetKind::Set, &[KeyType::Mark]);
    set(names::WINDOW, SetKind::Set, &[KeyType::Mark]);
    for family in Family::BOTH {
        let address = address_type(family);
        set(
            names::stale(family),
            SetKind::Set,
            &[KeyType::Mark, address],
        );
        set(
            names::pod_source(family),
            SetKind::Set,
            &[KeyType::Link, address],
        );
        set(names::from_pod(family), SetKind::Map, &[address]);
        set(names::to_pod(family), SetKind::Map, &[address]);
        set(
            names::members(family),
            SetKind::Set,
            &[KeyType::Id, address],
        );
        let service = [KeyType::Id, address, KeyType::Protocol, KeyType::Port];
        set(names::services(family), SetKind::Set, &service);
    }

    let hook = |point, priority| {
        Some(Hook {
            point,
            priority,
            chain_type: ChainType::Filter,
        })
    };
    let mut chains = BTreeMap::new();
    let mut chain = |name: &str, hook, rules| {
        chains.insert(name.to_owned(), Chain { hook, rules });
    };
    chain(
        names::PREROUTING,
        hook(HookPoint::Prerouting, -300),
        prerouting(),
    );
    chain(names::FORWARD, hook(HookPoint::Forward, 0), forward());
    chain(names::INPUT, hook(HookPoint::Input, 0), input());
    chain(names::KNOWN, None, known());
    chain(names::CLIENT, None, client());
    chain(names::STAMP, None, vec![stamp(epochs)]);
    for (set, key) in epochs.elements() {
        sets.get_mut(set)
            .expect("made above")
            .elements
            .insert(key, None);
    }
    Ruleset { sets, chains }
}

/// The only rule of `stamp`.
///
/// It must hold no verdict: such a rule would have the kernel validate the whole table at each new
/// epoch. So what follows is the end of the chain: for `known` its next rule, for all others, who come
/// here by `goto`, the default verdict of the base chain, accept.
pub(crate) fn stamp(epochs: &Epochs) -> Rule {
    rule(
        Vec::new(),
        Action::Stamp(mark(epochs.current())),
        "permitted",
    )
}

/// The sets and chains of masquerading, and of announced ranges of Services; empty if there is neither.
pub(crate) fn nat(nat: &Nat) -> Ruleset {
    let mut ruleset = Ruleset::default();
    unused(&nat.services, &mut ruleset);
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let sources = prefixes(nat.sources.iter().copied(), family);
        if sources.is_empty() {
            continue;
        }
        let pools = prefixes(nat.pools.iter().chain(&nat.sources).copied(), family);
        ruleset.sets.insert(
            names::nat_source(family).to_owned(),
            ranges(family, sources),
        );
        ruleset
            .sets
            .insert(names::nat_pools(family).to_owned(), ranges(family, pools));
        let matches = vec![
            is_in(vec![Field::Source(family)], names::nat_source(family)),
            Match::In(
                vec![Field::Destination(family)],
                names::nat_pools(family).to_owned(),
                Test::IsNot,
            ),
        ];
        rules.push(rule(matches, Action::Masquerade, "natOutgoing"));
    }
    if !rules.is_empty() {
        // Not kube-proxy's 100: the order of chains of equal priority is that of their creation.
        let hook = Hook {
            point: HookPoint::Postrouting,
            priority: 90,
            chain_type: ChainType::Nat,
        };
        ruleset.chains.insert(
            names::POSTROUTING.to_owned(),
            Chain {
                hook: Some(hook),
                rules,
            },
        );
    }
    ruleset
}

/// Drops packets to addresses of announced ranges that no Service has: kube-proxy gives those of a Service another
/// destination before. They would go back by the default route to whoever the range was announced to, and come again.
fn unused(services: &BTreeSet<IpNet>, ruleset: &mut Ruleset) {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let found = prefixes(services.iter().copied(), family);
        if found.is_empty() {
            continue;
        }
        let set = names::service_ranges(family);
        ruleset.sets.insert(set.to_owned(), ranges(family, found));
        let there = is_in(vec![Field::Destination(family)], set);
        rules.push(rule(vec![there], DROP, "no Service has this address"));
    }
    if !rules.is_empty() {
        let hook = Hook {
            point: HookPoint::Forward,
            priority: -1,
            chain_type: ChainType::Filter,
        };
        let hook = Some(hook);
        ruleset
            .chains
            .insert(names::UNUSED.to_owned(), Chain { hook, rules });
    }
}

/// A set of ranges of one family.
pub(crate) fn ranges(family: Family, prefixes: Vec<IpNet>) -> Set {
    let elements = prefixes
        .into_iter()
        .map(|prefix| (vec![KeyValue::Prefix(prefix)], None))
        .collect();
    Set {
        key: vec![address_type(family)],
        kind: SetKind::Ranges,
        room: None,
        elements,
    }
}

/// Those of one family: masked, disjoint, merged, sorted.
pub(crate) fn prefixes(all: impl Iterator<Item = IpNet>, family: Family) -> Vec<IpNet> {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for net in all {
        match net {
            IpNet::V4(net) => v4.push(net),
            IpNet::V6(net) => v6.push(net),
        }
    }
    match family {
        Family::V4 => Ipv4Net::aggregate(&v4).into_iter().map(IpNet::V4).collect(),
        Family::V6 => Ipv6Net::aggregate(&v6).into_iter().map(IpNet::V6).collect(),
    }
}

/// The key type of addresses of a family.
pub(crate) fn address_type(family: Family) -> KeyType {
    match family {
        Family::V4 => KeyType::Ip4,
        Family::V6 => KeyType::Ip6,
    }
}

pub(crate) fn is_in(key: Vec<Field>, set: &str) -> Match {
    Match::In(key, set.to_owned(), Test::Is)
}

pub(crate) fn rule(matches: Vec<Match>, action: Action, comment: &str) -> Rule {
    Rule {
        matches,
        action,
        comment: comment.to_owned(),
    }
}

pub(crate) fn goto(chain: &str) -> Action {
    Action::Verdict(Verdict::Goto(chain.to_owned()))
}

fn jump(chain: &str) -> Action {
    Action::Verdict(Verdict::Jump(chain.to_owned()))
}

pub(crate) const RETURN: Action = Action::Verdict(Verdict::Return);
const ACCEPT: Action = Action::Verdict(Verdict::Accept);
const DROP: Action = Action::Verdict(Verdict::Drop);
const ORIGINAL: Match = Match::Direction(CtDirection::Original);
const REPLY: Match = Match::Direction(CtDirection::Reply);

fn prerouting() -> Vec<Rule> {
    let from = |address: Ipv6Addr, length| {
        let net = Ipv6Net::new(address, length).expect("at most 128 bits");
        Match::Address(Field::Source(Family::V6), IpNet::V6(net), Test::Is)
    };
    let types = |types: &[u8]| Match::Icmp6Types(types.iter().copied().collect::<BTreeSet<u8>>());
    let others = vec![Match::OurLink(Side::In, Test::IsNot)];
    let mut rules = vec![rule(others, ACCEPT, "not from a pod")];
    for family in Family::BOTH {
        let own = is_in(
            vec![Field::InLink, Field::Source(family)],
            names::pod_source(family),
        );
        rules.push(rule(vec![own], ACCEPT, "the pod's own address"));
    }
    let link_local = vec![
        Match::Protocol(ICMP6),
        types(&[NEIGHBOUR_DISCOVERY, MULTICAST_LISTENER].concat()),
        from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    ];
    rules.push(rule(
        link_local,
        ACCEPT,
        "neighbour discovery, multicast listeners",
    ));
    let unspecified = vec![
        Match::Protocol(ICMP6),
        types(&NEIGHBOUR_DISCOVERY),
        from(Ipv6Addr::UNSPECIFIED, 128),
    ];
    rules.push(rule(
        unspecified,
        ACCEPT,
        "neighbour discovery before there is an address",
    ));
    rules.push(rule(Vec::new(), DROP, "spoofed source"));
    rules
}

fn forward() -> Vec<Rule> {
    let others = vec![
        Match::OurLink(Side::In, Test::IsNot),
        Match::OurLink(Side::Out, Test::IsNot),
    ];
    // What nearly all packets are, before anything else: `known` would say the same.
    let current = vec![
        Match::CtStates([CtState::Established, CtState::Related].into()),
        is_in(vec![Field::Epoch], names::EPOCH),
    ];
    let mut rules = vec![
        rule(current, ACCEPT, "judged since the last change"),
        rule(others, ACCEPT, "neither from nor to a pod"),
        not_new(),
        rule(Vec::new(), jump(names::CLIENT), ""),
    ];
    rules.extend(server());
    rules
}

fn input() -> Vec<Rule> {
    let types = NEIGHBOUR_DISCOVERY
        .into_iter()
        .chain(MULTICAST_LISTENER)
        .collect();
    vec![
        rule(
            vec![Match::OurLink(Side::In, Test::IsNot)],
            ACCEPT,
            "not from a pod",
        ),
        rule(
            vec![Match::Protocol(ICMP6), Match::Icmp6Types(types)],
            ACCEPT,
            "neighbour discovery, multicast listeners",
        ),
        rule(
            vec![Match::Direction(CtDirection::Reply)],
            ACCEPT,
            "answers to the node's own processes",
        ),
        not_new(),
        // The server is the node itself. The servers' chains do not hang on this hook, so the kernel need not validate
        // them for it.
        rule(Vec::new(), jump(names::CLIENT), ""),
        rule(Vec::new(), goto(names::STAMP), ""),
    ]
}

/// What does not begin a connection: `known` drops it, accepts it, or returns to have it judged.
fn not_new() -> Rule {
    let states = CtState::ALL
        .into_iter()
        .filter(|state| *state != CtState::New);
    rule(
        vec![Match::CtStates(states.collect())],
        jump(names::KNOWN),
        "",
    )
}

fn known() -> Vec<Rule> {
    let foreign = Match::CtStates([CtState::Invalid, CtState::Untracked].into());
    let window = Match::In(vec![Field::Epoch], names::WINDOW.to_owned(), Test::IsNot);
    let mut rules = vec![
        rule(vec![foreign], DROP, "of no connection"),
        rule(
            vec![is_in(vec![Field::Epoch], names::EPOCH)],
            ACCEPT,
            "judged since the last change",
        ),
        rule(vec![window], RETURN, "never judged, or too long ago"),
    ];
    for family in Family::BOTH {
        for end in [Field::Client(family), Field::Server(family)] {
            let stale = is_in(vec![Field::Epoch, end], names::stale(family));
            rules.push(rule(vec![stale], RETURN, "touched by a change since"));
        }
    }
    rules.push(rule(Vec::new(), jump(names::STAMP), "untouched"));
    rules.push(rule(Vec::new(), ACCEPT, "untouched"));
    rules
}

/// What a client may not have is dropped; all else returns at the end.
fn client() -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let map = names::from_pod(family).to_owned();
        let egress = Action::Map(vec![Field::Client(family)], map);
        rules.push(rule(Vec::new(), egress, ""));
    }
    // A client without an element is no pod of ours, or an open one.
    for elsewhere in [
        [Match::OurLink(Side::In, Test::IsNot), ORIGINAL],
        [REPLY, Match::OurLink(Side::Out, Test::IsNot)],
    ] {
        rules.push(rule(elsewhere.into(), RETURN, "its client is no pod here"));
    }
    for family in Family::BOTH {
        for (direction, link) in [(ORIGINAL, Field::InLink), (REPLY, Field::OutLink)] {
            let stranger = Match::In(
                vec![link, Field::Client(family)],
                names::pod_source(family).to_owned(),
                Test::IsNot,
            );
            rules.push(rule(
                vec![direction, stranger],
                DROP,
                "its client is no known pod",
            ));
        }
    }
    rules
}

/// By the server's chains, which do not return.
fn server() -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let map = names::to_pod(family).to_owned();
        let ingress = Action::Map(vec![Field::Server(family)], map);
        rules.push(rule(Vec::new(), ingress, ""));
    }
    // A server without an element is no pod of ours, or a closed one.
    for elsewhere in [
        [Match::OurLink(Side::Out, Test::IsNot), ORIGINAL],
        [REPLY, Match::OurLink(Side::In, Test::IsNot)],
    ] {
        rules.push(rule(
            elsewhere.into(),
            goto(names::STAMP),
            "its server is no pod here",
        ));
    }
    rules.push(rule(Vec::new(), DROP, "its server is no known pod"));
    rules
}
