//! Interprets a [`Ruleset`] for a packet as the kernel would.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ruleset::{
    Action, ChainName, CtDirection, CtState, EPOCH_MASK, Family, Field, HookPoint, Key, KeyValue,
    LINK_PREFIX, Match, Rule, Ruleset, Set, SetKind, Side, Test, Verdict,
};

/// Chains that a packet may have open (`NFT_JUMP_STACK_SIZE`).
const JUMP_STACK: usize = 16;

/// A packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The hook.
    pub hook: HookPoint,
    /// Where it came in; `None` from a process of the node.
    pub in_link: Option<String>,
    /// Where it goes out; `None` before routing, and to a process of the node.
    pub out_link: Option<String>,
    /// Its source as it stands in the header now.
    pub source: IpAddr,
    /// Its destination as it stands in the header now.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// ICMP type, if it is ICMP.
    pub icmp_type: Option<u8>,
    /// Its connection; `None` before conntrack and for what conntrack leaves alone.
    pub connection: Option<Connection>,
}

/// What conntrack knows of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The packet's state.
    pub state: CtState,
    /// The packet's direction.
    pub direction: CtDirection,
    /// Original source.
    pub client: IpAddr,
    /// Reply source.
    pub server: IpAddr,
    /// Reply source port; the identifier for ICMP echo.
    pub server_port: u16,
    /// The connection's mark.
    pub mark: u32,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it passes the hook.
    pub accepted: bool,
    /// The mark of its connection afterwards; 0 without a connection.
    pub mark: u32,
    /// Whether its source is rewritten.
    pub masqueraded: bool,
    /// The rules that matched: chain and index.
    pub trace: Vec<(ChainName, usize)>,
}

/// Sends a packet through all base chains of its hook.
///
/// A rule that asks for something the packet does not have does not match (`NFT_BREAK`). A chain or
/// set that does not exist has no rule and no element; the kernel refuses such a table.
pub fn run(ruleset: &Ruleset, packet: &Packet) -> Outcome {
    let mut run = Run {
        ruleset,
        packet: packet.clone(),
        masqueraded: false,
        trace: Vec::new(),
    };
    let mut bases: Vec<_> = ruleset
        .chains
        .iter()
        .filter_map(|(name, chain)| chain.hook.map(|hook| (hook, name)))
        .filter(|(hook, _)| hook.point == packet.hook)
        .collect();
    bases.sort_by_key(|(hook, name)| (hook.priority, *name));
    let accepted = bases.into_iter().all(|(_, name)| run.base_chain(name));
    let mark = run
        .packet
        .connection
        .as_ref()
        .map_or(0, |connection| connection.mark);
    Outcome {
        accepted,
        mark,
        masqueraded: run.masqueraded,
        trace: run.trace,
    }
}

struct Run<'a> {
    ruleset: &'a Ruleset,
    packet: Packet,
    masqueraded: bool,
    trace: Vec<(ChainName, usize)>,
}

impl<'a> Run<'a> {
    /// Whether the packet passes.
    fn base_chain(&mut self, name: &'a str) -> bool {
        let mut stack: Vec<(&'a str, usize)> = Vec::new();
        let mut place = (name, 0);
        loop {
            let (chain, index) = place;
            let rules = self
                .ruleset
                .chains
                .get(chain)
                .map_or(&[][..], |chain| &chain.rules);
            let Some(rule) = rules.get(index) else {
                match stack.pop() {
                    Some(back) => place = back,
                    None => return true, // the default verdict of base chains
                }
                continue;
            };
            let next = (chain, index + 1);
            match self.rule(rule, next) {
                None => place = next,
                Some(Verdict::Accept) => return true,
                Some(Verdict::Drop) => return false,
                Some(Verdict::Return) => match stack.pop() {
                    Some(back) => place = back,
                    None => return true,
                },
                Some(Verdict::Jump(target)) => {
                    if stack.len() == JUMP_STACK {
                        return false; // the kernel refuses such a table
                    }
                    stack.push(next);
                    place = (target, 0);
                }
                Some(Verdict::Goto(target)) => place = (target, 0),
            }
        }
    }

    /// What a rule says, if it matches and says something.
    fn rule(&mut self, rule: &'a Rule, (chain, next): (&str, usize)) -> Option<&'a Verdict> {
        if !rule
            .matches
            .iter()
            .all(|matches| self.matches(matches).unwrap_or(false))
        {
            return None;
        }
        let verdict = match &rule.action {
            Action::Verdict(verdict) => Some(verdict),
            Action::Map(fields, map) => {
                let set = self.ruleset.sets.get(map)?;
                Some(find(set, &self.key(fields)?)?.as_ref()?)
            }
            Action::Stamp(epoch) => {
                let connection = self.packet.connection.as_mut()?;
                connection.mark = connection.mark & !EPOCH_MASK | epoch;
                None
            }
            Action::Masquerade => {
                self.masqueraded = true;
                Some(&Verdict::Accept)
            }
        };
        self.trace.push((chain.to_owned(), next - 1));
        verdict
    }

    /// `None` if the packet lacks what the match looks at.
    fn matches(&self, matches: &Match) -> Option<bool> {
        let packet = &self.packet;
        Some(match matches {
            Match::OurLink(side, test) => {
                let link = match side {
                    Side::In => packet.in_link.as_ref()?,
                    Side::Out => packet.out_link.as_ref()?,
                };
                holds(link.starts_with(LINK_PREFIX), *test)
            }
            Match::Family(family) => Family::of(&packet.source) == *family,
            Match::Protocol(protocol) => packet.protocol == *protocol,
            Match::Icmp6Types(types) => types.contains(&packet.icmp_type?),
            // Without a connection the kernel says invalid (untracked is a connection state here).
            Match::CtStates(states) => {
                let connection = packet.connection.as_ref();
                states.contains(&connection.map_or(CtState::Invalid, |connection| connection.state))
            }
            Match::Direction(direction) => packet.connection.as_ref()?.direction == *direction,
            Match::ServerPort(first, last) => {
                (*first..=*last).contains(&packet.connection.as_ref()?.server_port)
            }
            Match::Address(field, net, test) => match self.field(field)? {
                KeyValue::Address(address) => holds(net.contains(&address), *test),
                KeyValue::Link(_)
                | KeyValue::Prefix(_)
                | KeyValue::Id(_)
                | KeyValue::Protocol(_)
                | KeyValue::Port(_)
                | KeyValue::Mark(_) => return None,
            },
            Match::In(fields, set, test) => {
                let key = self.key(fields)?;
                let found = self
                    .ruleset
                    .sets
                    .get(set)
                    .and_then(|set| find(set, &key))
                    .is_some();
                holds(found, *test)
            }
        })
    }

    fn key(&self, fields: &[Field]) -> Option<Key> {
        fields.iter().map(|field| self.field(field)).collect()
    }

    fn field(&self, field: &Field) -> Option<KeyValue> {
        let packet = &self.packet;
        let connection = packet.connection.as_ref();
        let address = |address: IpAddr, family| {
            (Family::of(&address) == family).then_some(KeyValue::Address(address))
        };
        match field {
            Field::InLink => packet.in_link.clone().map(KeyValue::Link),
            Field::OutLink => packet.out_link.clone().map(KeyValue::Link),
            Field::Source(family) => address(packet.source, *family),
            Field::Destination(family) => address(packet.destination, *family),
            Field::Client(family) => address(connection?.client, *family),
            Field::Server(family) => address(connection?.server, *family),
            Field::Protocol => Some(KeyValue::Protocol(packet.protocol)),
            Field::ServerPort => Some(KeyValue::Port(connection?.server_port)),
            Field::Id(id) => Some(KeyValue::Id(*id)),
            Field::Epoch => Some(KeyValue::Mark(connection?.mark & EPOCH_MASK)),
        }
    }
}

fn holds(found: bool, test: Test) -> bool {
    match test {
        Test::Is => found,
        Test::IsNot => !found,
    }
}

fn find<'a>(set: &'a Set, key: &Key) -> Option<&'a Option<Verdict>> {
    match set.kind {
        SetKind::Set | SetKind::Map => set.elements.get(key),
        SetKind::Ranges => match key.as_slice() {
            [KeyValue::Address(address)] => {
                let full = IpNet::from(*address);
                // Elements are disjoint and ordered by their first address.
                let (candidate, value) = set
                    .elements
                    .range(..=vec![KeyValue::Prefix(full)])
                    .next_back()?;
                match candidate.as_slice() {
                    [KeyValue::Prefix(net)] if net.contains(address) => Some(value),
                    _ => None,
                }
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests;
