//! What one node needs in order to enforce policy: the result of compiling.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{Action, Direction, PodId, PolicyId, Protocol, TierEnd};

/// Everything policy means for the pods of one node, and nothing else (its *span*).
///
/// Ids are hashes of what they name, so equal content has equal ids on every controller and in
/// every run, and a list that changed is another list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePolicy {
    /// Pods of this node that policy can concern (live, without `hostNetwork`).
    pub endpoints: BTreeMap<PodId, Endpoint>,
    /// Rule lists that the endpoints use.
    pub rule_lists: BTreeMap<RuleListId, RuleList>,
    /// Address sets that the rule lists use.
    pub address_sets: BTreeMap<AddressSetId, BTreeSet<IpAddr>>,
    /// Service sets that the rule lists use.
    pub service_sets: BTreeMap<ServiceSetId, BTreeSet<Service>>,
}

impl NodePolicy {
    /// Applies one change.
    ///
    /// Total: a patch of an unknown set creates it, and what is deleted twice stays deleted.
    pub fn apply(&mut self, change: &PolicyChange) {
        match change {
            PolicyChange::PatchAddressSet { id, add, remove } => {
                let members = self.address_sets.entry(*id).or_default();
                for member in remove {
                    members.remove(member);
                }
                members.extend(add);
            }
            PolicyChange::DeleteAddressSet { id } => drop(self.address_sets.remove(id)),
            PolicyChange::PatchServiceSet { id, add, remove } => {
                let members = self.service_sets.entry(*id).or_default();
                for member in remove {
                    members.remove(member);
                }
                members.extend(add);
            }
            PolicyChange::DeleteServiceSet { id } => drop(self.service_sets.remove(id)),
            PolicyChange::PutRuleList { id, list } => {
                self.rule_lists.insert(*id, list.clone());
            }
            PolicyChange::DeleteRuleList { id } => drop(self.rule_lists.remove(id)),
            PolicyChange::PutEndpoint { pod, endpoint } => {
                self.endpoints.insert(pod.clone(), endpoint.clone());
            }
            PolicyChange::DeleteEndpoint { pod } => drop(self.endpoints.remove(pod)),
        }
    }
}

/// One change of a [`NodePolicy`]. `Put…` creates or replaces.
///
/// A list of changes is ordered so that whatever refers to something finds it: sets, rule lists,
/// endpoints; deletions the other way round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyChange {
    /// An address set gains and loses members (it exists after this, maybe empty).
    PatchAddressSet {
        /// The set.
        id: AddressSetId,
        /// New members.
        add: BTreeSet<IpAddr>,
        /// Members that leave.
        remove: BTreeSet<IpAddr>,
    },
    /// An address set is no longer used.
    DeleteAddressSet {
        /// The set.
        id: AddressSetId,
    },
    /// A service set gains and loses members (it exists after this, maybe empty).
    PatchServiceSet {
        /// The set.
        id: ServiceSetId,
        /// New members.
        add: BTreeSet<Service>,
        /// Members that leave.
        remove: BTreeSet<Service>,
    },
    /// A service set is no longer used.
    DeleteServiceSet {
        /// The set.
        id: ServiceSetId,
    },
    /// A rule list is used now.
    PutRuleList {
        /// The list's id.
        id: RuleListId,
        /// The list.
        list: RuleList,
    },
    /// A rule list is no longer used.
    DeleteRuleList {
        /// The list.
        id: RuleListId,
    },
    /// A pod of this node came or changed.
    PutEndpoint {
        /// The pod.
        pod: PodId,
        /// What is known of it.
        endpoint: Endpoint,
    },
    /// A pod of this node is gone.
    DeleteEndpoint {
        /// The pod.
        pod: PodId,
    },
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `metadata.uid`; empty if the object has none.
    pub uid: String,
    /// The addresses the pod object has (`status.podIPs`), without those that a newer live pod
    /// owns: to be used exactly. Empty: hand out some.
    pub addresses: BTreeSet<IpAddr>,
    /// The list to judge connections to the pod by; `None`: nothing selects it, all is allowed.
    pub ingress: Option<RuleListId>,
    /// The list to judge connections from the pod by; `None`: nothing selects it, all is allowed.
    pub egress: Option<RuleListId>,
}

/// Rules of one direction, in order, shared by all pods that have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleList {
    /// Ingress lists look at the client, egress lists at the server.
    pub direction: Direction,
    /// The tiers that select the pod, in order; never empty. After the last tier with
    /// [`TierEnd::NextTier`]: allow.
    pub tiers: Vec<TierRules>,
}

/// The rules of one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierRules {
    /// Name of the tier, for people.
    pub name: String,
    /// Rules in order; the first match decides.
    pub rules: Vec<Rule>,
    /// What happens if none matches.
    pub end: TierEnd,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it matches.
    pub matches: Match,
    /// What it does.
    pub action: Action,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// A peer and ports, both at once.
    Traffic {
        /// The other end.
        peer: Peer,
        /// The server's port.
        ports: Ports,
    },
    /// The server's address, protocol and port are together in a service set (named ports, egress).
    Service(ServiceSetId),
}

/// The other end: the client for ingress, the server for egress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// Anyone, both families.
    Any,
    /// Members of an address set.
    Set(AddressSetId),
    /// Addresses in these blocks: masked, disjoint, merged, sorted; a `/0` means any of its family.
    Cidrs(Vec<IpNet>),
}

/// The server's port, after Service DNAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ports {
    /// Every protocol, ICMP included.
    Any,
    /// One of these: disjoint, merged, sorted.
    Ranges(Vec<PortRange>),
}

/// Ports `first..=last` of a protocol; 0–65535 is every port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The protocol.
    pub protocol: Protocol,
    /// First port.
    pub first: u16,
    /// Last port, included.
    pub last: u16,
}

/// The object and rule that a compiled rule comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The policy object.
    pub policy: PolicyId,
    /// The direction whose rule it is.
    pub direction: Direction,
    /// Index in that direction's list, from 0.
    pub rule: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.rule)
    }
}

/// A member of a service set: a named port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    /// The pod's address.
    pub address: IpAddr,
    /// The port's protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

macro_rules! content_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = std::num::ParseIntError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                u128::from_str_radix(&text, 16).map(Self)
            }
        }
    };
}

content_id! {
    /// Names an address set by what it is: 128 bits of a hash of selector and namespace scope.
    AddressSetId
}
content_id! {
    /// Names a service set by what it is: 128 bits of a hash of peers, protocol and port name.
    ServiceSetId
}
content_id! {
    /// Names a rule list by its content: 128 bits of a hash.
    RuleListId
}
