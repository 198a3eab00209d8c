//! Content ids: 128 bits of SHA-256 over a canonical encoding.
//!
//! Every value is written with a tag or a length in front, so that no two values have one encoding.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::model::{
    Action, Direction, LabelSelector, NamespaceScope, PodSelector, PolicyKind, Protocol,
    Requirement, TierEnd,
};
use crate::node_policy::{
    AddressSetId, Match, Origin, Peer, Ports, Rule, RuleList, RuleListId, ServiceSetId,
};
use crate::rules::{ServiceDefinition, ServicePeers};

/// The id of the set of pods that a selector takes.
pub(crate) fn address_set_id(selector: &PodSelector) -> AddressSetId {
    let mut canonical = Canonical::new("address set");
    canonical.pod_selector(selector);
    AddressSetId(canonical.finish())
}

/// The id of a set of named ports.
pub(crate) fn service_set_id(definition: &ServiceDefinition) -> ServiceSetId {
    let mut canonical = Canonical::new("service set");
    match &definition.peers {
        ServicePeers::Any => canonical.tag(0),
        ServicePeers::Of { selectors, blocks } => {
            canonical.tag(1);
            canonical.length(selectors.len());
            for selector in selectors {
                canonical.pod_selector(selector);
            }
            canonical.blocks(blocks);
        }
    }
    canonical.length(definition.names.len());
    for (protocol, name) in &definition.names {
        canonical.protocol(*protocol);
        canonical.text(name);
    }
    ServiceSetId(canonical.finish())
}

/// The id of a rule list.
pub(crate) fn rule_list_id(list: &RuleList) -> RuleListId {
    let RuleList { direction, tiers } = list;
    let mut canonical = Canonical::new("rule list");
    canonical.direction(*direction);
    canonical.length(tiers.len());
    for tier in tiers {
        canonical.text(&tier.name);
        canonical.tag(match tier.end {
            TierEnd::Deny => 0,
            TierEnd::NextTier => 1,
        });
        canonical.length(tier.rules.len());
        for rule in &tier.rules {
            canonical.rule(rule);
        }
    }
    RuleListId(canonical.finish())
}

struct Canonical(Sha256);

impl Canonical {
    fn new(what: &str) -> Self {
        let mut canonical = Self(Sha256::new());
        canonical.text(what);
        canonical
    }

    fn finish(self) -> u128 {
        let digest = self.0.finalize();
        digest
            .iter()
            .take(16)
            .fold(0, |id, octet| id << 8 | u128::from(*octet))
    }

    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }

    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text.as_bytes());
    }

    fn pod_selector(&mut self, selector: &PodSelector) {
        let PodSelector { namespaces, pods } = selector;
        match namespaces {
            NamespaceScope::Named(name) => {
                self.tag(0);
                self.text(name);
            }
            NamespaceScope::Matching(selector) => {
                self.tag(1);
                self.label_selector(selector);
            }
        }
        self.label_selector(pods);
    }

    fn label_selector(&mut self, selector: &LabelSelector) {
        self.length(selector.requirements.len());
        for requirement in &selector.requirements {
            let (tag, key, values) = match requirement {
                Requirement::In(key, values) => (0, key, Some(values)),
                Requirement::NotIn(key, values) => (1, key, Some(values)),
                Requirement::Exists(key) => (2, key, None),
                Requirement::DoesNotExist(key) => (3, key, None),
                Requirement::Unusable(reason) => (4, reason, None),
            };
            self.tag(tag);
            self.text(key);
            if let Some(values) = values {
                self.length(values.len());
                for value in values {
                    self.text(value);
                }
            }
        }
    }

    fn rule(&mut self, rule: &Rule) {
        let Rule {
            matches,
            action,
            origin,
        } = rule;
        match matches {
            Match::Traffic { peer, ports } => {
                self.tag(0);
                self.peer(peer);
                self.ports(ports);
            }
            Match::Service(id) => {
                self.tag(1);
                self.0.update(id.0.to_be_bytes());
            }
        }
        self.tag(match action {
            Action::Allow => 0,
            Action::Deny => 1,
            Action::Pass => 2,
        });
        let Origin {
            policy,
            direction,
            rule,
        } = origin;
        self.text(&policy.name);
        self.text(&policy.namespace);
        self.tag(match policy.kind {
            PolicyKind::NetworkPolicy => 0,
        });
        self.direction(*direction);
        self.length(*rule);
    }

    fn peer(&mut self, peer: &Peer) {
        match peer {
            Peer::Any => self.tag(0),
            Peer::Set(id) => {
                self.tag(1);
                self.0.update(id.0.to_be_bytes());
            }
            Peer::Cidrs(blocks) => {
                self.tag(2);
                self.blocks(blocks);
            }
        }
    }

    fn ports(&mut self, ports: &Ports) {
        match ports {
            Ports::Any => self.tag(0),
            Ports::Ranges(ranges) => {
                self.tag(1);
                self.length(ranges.len());
                for range in ranges {
                    self.protocol(range.protocol);
                    self.0.update(range.first.to_be_bytes());
                    self.0.update(range.last.to_be_bytes());
                }
            }
        }
    }

    fn blocks(&mut self, blocks: &[IpNet]) {
        self.length(blocks.len());
        for block in blocks {
            match block.addr() {
                IpAddr::V4(address) => {
                    self.tag(4);
                    self.0.update(address.octets());
                }
                IpAddr::V6(address) => {
                    self.tag(6);
                    self.0.update(address.octets());
                }
            }
            self.tag(block.prefix_len());
        }
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.tag(protocol.number());
    }

    fn direction(&mut self, direction: Direction) {
        self.tag(match direction {
            Direction::Ingress => 0,
            Direction::Egress => 1,
        });
    }
}
