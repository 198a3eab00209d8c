//! The table `inet margay` as a value, in nftables' words.
//!
//! One [`Rule`] here is one rule in the kernel; each [`Match`] becomes a few expressions, always the
//! same. So a rule in the kernel can be recognised by comparing expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

/// Name of a chain, at most 128 characters.
pub type ChainName = String;
/// Name of a set or map, at most 128 characters.
pub type SetName = String;

/// Bits of the conntrack mark that hold the policy epoch; the rest belongs to others.
pub const EPOCH_MASK: u32 = 0xfff0_0000;
/// What the epoch is shifted by in the mark.
pub const EPOCH_SHIFT: u32 = 20;
/// The first letters of the names of our links.
pub const LINK_PREFIX: &str = "mgy";

/// The whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sets and maps.
    pub sets: BTreeMap<SetName, Set>,
    /// Chains.
    pub chains: BTreeMap<ChainName, Chain>,
}

/// A set, or a verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Fields of the key, concatenated.
    pub key: Vec<KeyType>,
    /// Whether elements are single values or ranges.
    pub kind: SetKind,
    /// How many elements it has room for; `None` if it grows with them.
    pub room: Option<u32>,
    /// The elements; a verdict for each in a map, `None` in a set.
    pub elements: BTreeMap<Key, Option<Verdict>>,
}

/// Kinds of sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Hash of single keys.
    Set,
    /// Verdict map of single keys.
    Map,
    /// Ranges of a single address field: elements are prefixes ([`KeyValue::Prefix`]), disjoint.
    Ranges,
}

/// Type of a key field. In a concatenation each field fills whole 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyType {
    /// Interface name, 16 octets.
    Link,
    /// IPv4 address.
    Ip4,
    /// IPv6 address.
    Ip6,
    /// Content id, 16 octets, big-endian; for nft it is an IPv6 address.
    Id,
    /// IP protocol number, 1 octet.
    Protocol,
    /// Port, 2 octets.
    Port,
    /// Mark, 4 octets in host order: an epoch, shifted.
    Mark,
}

/// One key: a value for each field.
pub type Key = Vec<KeyValue>;

/// Value of a key field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyValue {
    /// [`KeyType::Link`].
    Link(String),
    /// [`KeyType::Ip4`] or [`KeyType::Ip6`].
    Address(IpAddr),
    /// A range of addresses, in [`SetKind::Ranges`] only.
    Prefix(IpNet),
    /// [`KeyType::Id`].
    Id(u128),
    /// [`KeyType::Protocol`].
    Protocol(u8),
    /// [`KeyType::Port`].
    Port(u16),
    /// [`KeyType::Mark`], already shifted and masked.
    Mark(u32),
}

/// States of a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtState {
    /// Belongs to no connection and could begin none.
    Invalid,
    /// Belongs to a connection that saw packets both ways.
    Established,
    /// Belongs to a connection that another one announced, or is an ICMP error about one.
    Related,
    /// Begins a connection, or the other side never answered.
    New,
    /// Conntrack was told to leave it alone.
    Untracked,
}

impl CtState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Invalid,
        Self::Established,
        Self::Related,
        Self::New,
        Self::Untracked,
    ];

    /// The kernel's bit (`NF_CT_STATE_BIT`, `NF_CT_STATE_UNTRACKED_BIT`).
    pub fn bit(self) -> u32 {
        match self {
            Self::Invalid => 1,
            Self::Established => 2,
            Self::Related => 4,
            Self::New => 8,
            Self::Untracked => 64,
        }
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter; `None` for chains that are only jumped to.
    pub hook: Option<Hook>,
    /// Rules in order. The default verdict of base chains is accept.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The hook.
    pub point: HookPoint,
    /// Priority, lower first.
    pub priority: i32,
    /// `filter` or `nat`.
    pub chain_type: ChainType,
}

/// Netfilter hooks of the inet family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Before routing.
    Prerouting,
    /// To a process of the node.
    Input,
    /// Through the node.
    Forward,
    /// From a process of the node.
    Output,
    /// After routing.
    Postrouting,
}

/// Types of base chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    /// Filters.
    Filter,
    /// Sees the first packet of each connection and may rewrite addresses.
    Nat,
}

/// One rule: all matches in order, then the action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// All must match.
    pub matches: Vec<Match>,
    /// What happens then.
    pub action: Action,
    /// For people: where the rule comes from; kept in the kernel as the rule's comment, at most 128
    /// octets. Part of the rule's identity.
    pub comment: String,
}

/// A match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    /// `iifname`/`oifname` begins with [`LINK_PREFIX`] (`Is`), or does not, or there is no such link (`IsNot`
    /// matches only where there is a link; without one the rule does not match).
    OurLink(Side, Test),
    /// `meta nfproto`.
    Family(Family),
    /// `meta l4proto`.
    Protocol(u8),
    /// `icmpv6 type` (after [`Match::Protocol`] 58).
    Icmp6Types(BTreeSet<u8>),
    /// `ct state` is one of these.
    CtStates(BTreeSet<CtState>),
    /// `ct direction`.
    Direction(CtDirection),
    /// The server's port: `ct reply proto-src` in `first..=last` (after [`Match::Protocol`]).
    ServerPort(u16, u16),
    /// An address is in a prefix.
    Address(Field, IpNet, Test),
    /// A key is in a set.
    In(Vec<Field>, SetName, Test),
}

/// What a key field of a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `iifname`.
    InLink,
    /// `oifname`.
    OutLink,
    /// `ip saddr` or `ip6 saddr`: the packet's source.
    Source(Family),
    /// `ip daddr` or `ip6 daddr`: the packet's destination.
    Destination(Family),
    /// `ct original saddr`: who began the connection, before any SNAT.
    Client(Family),
    /// `ct reply saddr`: who answers, after any DNAT.
    Server(Family),
    /// `meta l4proto`.
    Protocol,
    /// `ct reply proto-src`: the port that answers, after any DNAT.
    ServerPort,
    /// A constant.
    Id(u128),
    /// `ct mark & EPOCH_MASK`.
    Epoch,
}

/// IP families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Which of a packet's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where it came in.
    In,
    /// Where it goes out.
    Out,
}

/// Whether a match wants it so or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// `==`.
    Is,
    /// `!=`.
    IsNot,
}

/// Direction of a packet in its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtDirection {
    /// From the client.
    Original,
    /// From the server.
    Reply,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// A fixed verdict.
    Verdict(Verdict),
    /// Looks a key up in a verdict map; the next rule if it is not there.
    Map(Vec<Field>, SetName),
    /// Writes the epoch (shifted, masked) into its bits of the ct mark; then the next rule.
    Stamp(u32),
    /// `masquerade`.
    Masquerade,
}

/// Verdicts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Let it pass this hook.
    Accept,
    /// Drop it.
    Drop,
    /// Back to where it was jumped from.
    Return,
    /// Into a chain and back.
    Jump(ChainName),
    /// Into a chain for good.
    Goto(ChainName),
}
