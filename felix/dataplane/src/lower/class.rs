//! Class chains: a rule list in one family.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use margay_policy::model::{Action as PolicyAction, Direction, TierEnd};
use margay_policy::node_policy::{
    AddressSetId, Match as PolicyMatch, Peer, PortRange, Ports, Rule as PolicyRule, RuleList,
    RuleListId, ServiceSetId,
};
use sha2::{Digest, Sha256};

use super::SetId;
use super::base::{RETURN, goto, is_in, prefixes, ranges, rule};
use crate::names;
use crate::ruleset::{Action, Chain, ChainName, Family, Field, Match, Set, SetName, Test, Verdict};

/// Octets of a rule's comment (`nft` refuses to print or read more).
const COMMENT_LENGTH: usize = 128;
/// More prefixes than these go into a set.
const LITERAL_PREFIXES: usize = 4;

/// What a rule list becomes in one family. It depends on the list alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class {
    /// A chain for each tier.
    pub(crate) chains: BTreeMap<ChainName, Chain>,
    /// Sets of CIDRs, named by their content.
    pub(crate) ranges: BTreeMap<SetName, Set>,
    /// Address sets that the chains look into.
    pub(crate) address_sets: BTreeSet<AddressSetId>,
    /// Service sets that the chains look into.
    pub(crate) service_sets: BTreeSet<ServiceSetId>,
}

/// Lowers a rule list for one family.
pub(crate) fn class(id: RuleListId, list: &RuleList, family: Family) -> Class {
    let mut class = Class::default();
    let direction = list.direction;
    let allow = match direction {
        Direction::Egress => RETURN,
        Direction::Ingress => goto(names::STAMP),
    };
    // The first chain must exist: elements go to it.
    let tiers = list.tiers.len().max(1);
    for index in 0..tiers {
        let name = names::class_chain(direction, family, id, index);
        let next = if index + 1 < tiers {
            goto(&names::class_chain(direction, family, id, index + 1))
        } else {
            allow.clone()
        };
        let mut rules = Vec::new();
        if let Some(tier) = list.tiers.get(index) {
            for policy_rule in &tier.rules {
                let action = match policy_rule.action {
                    PolicyAction::Allow => allow.clone(),
                    PolicyAction::Deny => Action::Verdict(Verdict::Drop),
                    PolicyAction::Pass => next.clone(),
                };
                let comment = comment(&policy_rule.origin.to_string());
                let alternatives = class.alternatives(policy_rule, direction, family);
                rules.extend(
                    alternatives
                        .into_iter()
                        .map(|matches| rule(matches, action.clone(), &comment)),
                );
            }
            let (action, comment) = match tier.end {
                TierEnd::Deny => (
                    Action::Verdict(Verdict::Drop),
                    format!("end of tier {}: deny", tier.name),
                ),
                TierEnd::NextTier => (next, format!("end of tier {}: next tier", tier.name)),
            };
            rules.push(rule(Vec::new(), action, &self::comment(&comment)));
        } else {
            rules.push(rule(Vec::new(), next, ""));
        }
        class.chains.insert(name, Chain { hook: None, rules });
    }
    class
}

impl Class {
    /// All sets of the policy that the chains look into.
    pub(crate) fn sets(&self) -> impl Iterator<Item = SetId> {
        let services = self.service_sets.iter().map(|id| SetId::Services(*id));
        self.address_sets
            .iter()
            .map(|id| SetId::Addresses(*id))
            .chain(services)
    }

    /// The combinations of matches that a rule stands for; none if it can match nothing in this family.
    fn alternatives(
        &mut self,
        rule: &PolicyRule,
        direction: Direction,
        family: Family,
    ) -> Vec<Vec<Match>> {
        match &rule.matches {
            PolicyMatch::Service(id) => {
                self.service_sets.insert(*id);
                let key = vec![
                    Field::Id(id.0),
                    Field::Server(family),
                    Field::Protocol,
                    Field::ServerPort,
                ];
                vec![vec![is_in(key, names::services(family))]]
            }
            PolicyMatch::Traffic { peer, ports } => {
                let end = match direction {
                    Direction::Ingress => Field::Client(family),
                    Direction::Egress => Field::Server(family),
                };
                let ports = port_matches(ports);
                if ports.is_empty() {
                    return Vec::new();
                }
                let literal_only = rule.action != PolicyAction::Allow;
                let peers = match peer {
                    Peer::Any => vec![None],
                    Peer::Set(id) => {
                        self.address_sets.insert(*id);
                        vec![Some(is_in(
                            vec![Field::Id(id.0), end],
                            names::members(family),
                        ))]
                    }
                    Peer::Cidrs(nets) => self.cidrs(nets, end, family, literal_only),
                };
                let mut alternatives = Vec::with_capacity(peers.len() * ports.len());
                for peer in peers {
                    for ports in &ports {
                        // Ports first: a packet that they stop costs no lookup.
                        alternatives.push(ports.iter().chain(&peer).cloned().collect());
                    }
                }
                alternatives
            }
        }
    }

    /// Matches of a CIDR list; `None` is any address. `literal_only`: the kernel may miss an element of a
    /// range set in the moment of a commit, so only rules whose miss denies may look into one.
    fn cidrs(
        &mut self,
        nets: &[IpNet],
        end: Field,
        family: Family,
        literal_only: bool,
    ) -> Vec<Option<Match>> {
        let nets = prefixes(nets.iter().copied(), family);
        if nets.iter().any(|net| net.prefix_len() == 0) {
            vec![None]
        } else if nets.len() <= LITERAL_PREFIXES || literal_only {
            nets.into_iter()
                .map(|net| Some(Match::Address(end, net, Test::Is)))
                .collect()
        } else {
            let name = ranges_name(&nets, family);
            let matches = is_in(vec![end], &name);
            self.ranges.insert(name, ranges(family, nets));
            vec![Some(matches)]
        }
    }
}

/// Alternatives for ports; an empty alternative is every protocol.
fn port_matches(ports: &Ports) -> Vec<Vec<Match>> {
    match ports {
        Ports::Any => vec![Vec::new()],
        Ports::Ranges(ranges) => ranges
            .iter()
            .filter(|range| range.first <= range.last)
            .map(
                |&PortRange {
                     protocol,
                     first,
                     last,
                 }| {
                    let mut matches = vec![Match::Protocol(protocol.number())];
                    if (first, last) != (0, u16::MAX) {
                        matches.push(Match::ServerPort(first, last));
                    }
                    matches
                },
            )
            .collect(),
    }
}

/// The name of the set of these prefixes: equal lists share one, and its content never changes.
fn ranges_name(nets: &[IpNet], family: Family) -> SetName {
    let mut hash = Sha256::new();
    for net in nets {
        hash.update(net.to_string());
        hash.update(b"\n");
    }
    let digest: [u8; 32] = hash.finalize().into();
    let (half, _) = digest.split_first_chunk().expect("16 of 32 octets");
    format!(
        "c{}-{:032x}",
        names::digit(family),
        u128::from_be_bytes(*half)
    )
}

/// Cut to what fits.
fn comment(text: &str) -> String {
    let mut end = text.len().min(COMMENT_LENGTH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Whether the rules of a list can only allow: then more members allow more.
pub(crate) fn only_allows(list: &RuleList) -> bool {
    list.tiers
        .iter()
        .flat_map(|tier| &tier.rules)
        .all(|rule| rule.action == PolicyAction::Allow)
}
