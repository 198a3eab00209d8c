//! The cluster as policy sees it: small projections of API objects, already defaulted and checked.
//!
//! Conversion from Kubernetes objects is in `margay-api`. What could not be understood there has
//! become [`PeerSelector::Unusable`] or [`PortSelector::Unusable`]: an allow matches nothing, a deny
//! or pass denies (DESIGN §3.2 row 8).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// All objects that policy depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Pods by namespace and name.
    pub pods: BTreeMap<PodId, Pod>,
    /// Policies of every kind; as JSON a list of pairs, because an id is no string.
    #[serde(with = "pairs")]
    pub policies: BTreeMap<PolicyId, Policy>,
}

/// One object of a [`Cluster`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// A node.
    Node(NodeName, Node),
    /// A namespace, by name.
    Namespace(String, Namespace),
    /// A pod.
    Pod(PodId, Pod),
    /// A policy.
    Policy(PolicyId, Policy),
}

/// Names one object of a [`Cluster`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKey {
    /// A node.
    Node(NodeName),
    /// A namespace, by name.
    Namespace(String),
    /// A pod.
    Pod(PodId),
    /// A policy.
    Policy(PolicyId),
}

impl Object {
    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Node(name, _) => ObjectKey::Node(name.clone()),
            Self::Namespace(name, _) => ObjectKey::Namespace(name.clone()),
            Self::Pod(id, _) => ObjectKey::Pod(id.clone()),
            Self::Policy(id, _) => ObjectKey::Policy(id.clone()),
        }
    }
}

impl Cluster {
    /// Adds or replaces one object.
    pub fn apply(&mut self, object: Object) {
        match object {
            Object::Node(name, node) => drop(self.nodes.insert(name, node)),
            Object::Namespace(name, namespace) => drop(self.namespaces.insert(name, namespace)),
            Object::Pod(id, pod) => drop(self.pods.insert(id, pod)),
            Object::Policy(id, policy) => drop(self.policies.insert(id, policy)),
        }
    }

    /// Removes one object; nothing happens if there is none.
    pub fn delete(&mut self, key: &ObjectKey) {
        match key {
            ObjectKey::Node(name) => drop(self.nodes.remove(name)),
            ObjectKey::Namespace(name) => drop(self.namespaces.remove(name)),
            ObjectKey::Pod(id) => drop(self.pods.remove(id)),
            ObjectKey::Policy(id) => drop(self.policies.remove(id)),
        }
    }
}

/// Maps whose keys are no strings, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Name of a cluster node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cluster node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.addresses` of types `InternalIP` and `ExternalIP`, in the object's order.
    pub addresses: Vec<IpAddr>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// `metadata.labels`.
    pub labels: Labels,
}

/// Namespace and name of a pod; written `namespace/name`, also as a JSON string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodId {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl PodId {
    /// The pod `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<PodId> for String {
    fn from(id: PodId) -> Self {
        id.to_string()
    }
}

/// A pod id that is not `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a pod: write namespace/name")]
pub struct PodIdError(pub String);

impl TryFrom<String> for PodId {
    type Error = PodIdError;

    fn try_from(text: String) -> Result<Self, PodIdError> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self::new(namespace, name))
            }
            _ => Err(PodIdError(text)),
        }
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `metadata.uid`; empty if the object has none.
    pub uid: String,
    /// `metadata.creationTimestamp` in RFC 3339 (sorts as text); empty if absent. With `uid` and the
    /// name it decides which of several live pods is the newest and so owns an address.
    pub created: String,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.nodeName`; `None` while unscheduled.
    pub node: Option<NodeName>,
    /// `spec.hostNetwork`: then the pod is its node's address, never subject nor peer.
    pub host_network: bool,
    /// `status.phase` is `Succeeded` or `Failed`: the pod has lost its addresses.
    pub finished: bool,
    /// `status.podIPs`.
    pub addresses: BTreeSet<IpAddr>,
    /// What the node's agent reported: counts while `addresses` is empty.
    pub reported: BTreeSet<IpAddr>,
    /// Named and unnamed ports of regular and init containers, in the object's order.
    pub ports: Vec<ContainerPort>,
}

impl Pod {
    /// The addresses the pod claims for itself: none once it finished or with `hostNetwork`.
    pub fn claims(&self) -> &BTreeSet<IpAddr> {
        static NONE: BTreeSet<IpAddr> = BTreeSet::new();
        if self.finished || self.host_network {
            &NONE
        } else if self.addresses.is_empty() {
            &self.reported
        } else {
            &self.addresses
        }
    }

    /// Whether the pod has traffic of its own that policy can concern: live, without `hostNetwork`.
    pub fn is_workload(&self) -> bool {
        !self.finished && !self.host_network
    }

    /// Of several workloads that claim an address, the one with the greatest age key owns it:
    /// the newest, then by uid, then by name (DESIGN §3.2 row 15).
    pub fn age<'a>(&'a self, id: &'a PodId) -> (&'a str, &'a str, &'a PodId) {
        (&self.created, &self.uid, id)
    }
}

/// One entry of a container's `ports`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerPort {
    /// `name`, if it has one.
    pub name: Option<String>,
    /// `protocol`, TCP if absent.
    pub protocol: Protocol,
    /// `containerPort`, 1–65535.
    pub number: u16,
}

/// A protocol that policy can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP, IP protocol 17.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP, IP protocol 132.
    #[serde(rename = "SCTP")]
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Ingress (to the pod) or egress (from the pod).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Connections to the pod.
    Ingress,
    /// Connections from the pod.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Which object a policy is; orders policies of equal order by name, then namespace, then kind
/// (DESIGN §3.2 row 16).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyId {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The kind.
    pub kind: PolicyKind,
}

/// Kinds of policy objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1` `NetworkPolicy`.
    NetworkPolicy,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PolicyKind::NetworkPolicy => "NetworkPolicy",
        };
        if self.namespace.is_empty() {
            write!(f, "{kind} {}", self.name)
        } else {
            write!(f, "{kind} {}/{}", self.namespace, self.name)
        }
    }
}

/// Where a policy stands in the one ordered list of tiers (DESIGN §3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tier {
    /// Position: lower is judged first.
    pub order: u32,
    /// Name, for people; breaks ties of `order`.
    pub name: String,
    /// What happens at its end once it selected the pod.
    pub end: TierEnd,
}

/// The end of a tier that selected the pod and decided nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TierEnd {
    /// Deny.
    Deny,
    /// Go on with the next tier.
    NextTier,
}

impl Tier {
    /// The tier `default` (order 1 000 000, ends in deny), where `NetworkPolicy` lives.
    pub fn default_tier() -> Self {
        Self {
            order: 1_000_000,
            name: "default".to_owned(),
            end: TierEnd::Deny,
        }
    }
}

/// A policy of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The tier that holds it.
    pub tier: Tier,
    /// Position in the tier, lower first; ties by [`PolicyId`]. `NetworkPolicy` has 1000.
    pub order: u32,
    /// The pods it applies to.
    pub subject: PodSelector,
    /// Rules for connections to the subject; `None` if the policy does not cover this direction.
    pub ingress: Option<Vec<Rule>>,
    /// Rules for connections from the subject; `None` if the policy does not cover this direction.
    pub egress: Option<Vec<Rule>>,
}

impl Policy {
    /// Rules of a direction, `None` if the policy does not cover it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Selects pods by namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodSelector {
    /// Which namespaces.
    pub namespaces: NamespaceScope,
    /// Which pods in them.
    pub pods: LabelSelector,
}

/// Which namespaces a [`PodSelector`] looks into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceScope {
    /// One namespace by name, known or not (a policy's own).
    Named(String),
    /// Namespaces by label. A namespace whose object is unknown matches only the empty selector.
    Matching(LabelSelector),
}

/// A Kubernetes label selector: all requirements must hold; none = everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelSelector {
    /// Sorted and without repetitions, so that equal selectors compare equal.
    pub requirements: BTreeSet<Requirement>,
}

/// One requirement on one label key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// The key is present and its value is one of these.
    In(String, BTreeSet<String>),
    /// The key is absent, or its value is none of these.
    NotIn(String, BTreeSet<String>),
    /// The key is present.
    Exists(String),
    /// The key is absent.
    DoesNotExist(String),
    /// An operator or value that cannot be understood: matches nothing.
    Unusable(String),
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What to do on a match.
    pub action: Action,
    /// The other end; `None` = anyone, also outside the cluster. An empty list matches nobody.
    pub peers: Option<Vec<PeerSelector>>,
    /// Destination ports; `None` = every port of every protocol. An empty list matches nothing.
    pub ports: Option<Vec<PortSelector>>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Final for this direction.
    Allow,
    /// Final for this direction: dropped.
    Deny,
    /// Leave the tier.
    Pass,
}

/// The other end of a connection, in a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerSelector {
    /// Live pods without `hostNetwork`.
    Pods(PodSelector),
    /// Addresses, pods' or not. Masked, of one family each; `except` are inside `cidr`.
    Cidr {
        /// The block.
        cidr: IpNet,
        /// Holes in it.
        except: Vec<IpNet>,
    },
    /// Cannot be understood (why, in the user's words).
    Unusable(String),
}

/// A destination port, in a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortSelector {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// Ports `first..=last` of a protocol.
    Range(Protocol, u16, u16),
    /// The ports of that name and protocol of the destination pod.
    Named(Protocol, String),
    /// Cannot be understood (why, in the user's words).
    Unusable(String),
}
