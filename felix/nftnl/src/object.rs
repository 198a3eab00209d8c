//! Tables, chains, rules, sets and their elements as values, as they are in the kernel.

mod codec;

use std::fmt;

use crate::expr::{Expr, Name, Verdict};

/// A table: its family and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// The family.
    pub family: Family,
    /// The name.
    pub name: Name,
}

impl TableId {
    /// A table of the family `inet`.
    pub fn inet(name: &str) -> Self {
        Self {
            family: Family::INET,
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// An nf_tables family, by its number (`NFPROTO_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family(pub u8);

impl Family {
    /// IPv4 and IPv6 together.
    pub const INET: Self = Self(1);
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("inet"),
            2 => f.write_str("ip"),
            3 => f.write_str("arp"),
            5 => f.write_str("netdev"),
            7 => f.write_str("bridge"),
            10 => f.write_str("ip6"),
            other => write!(f, "family {other}"),
        }
    }
}

/// A table as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which.
    pub id: TableId,
    /// Its flags.
    pub flags: TableFlags,
    /// The netlink socket that owns it.
    pub owner: Option<u32>,
}

/// Flags of a table (`enum nft_table_flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TableFlags(pub u32);

impl TableFlags {
    /// Its base chains see nothing.
    pub const DORMANT: Self = Self(1);
    /// Only the socket that set this may change the table; without [`Self::PERSIST`] it goes when the socket does.
    pub const OWNER: Self = Self(2);
    /// An owned table stays, without owner, when its owner goes (since Linux 6.9). Cannot be added or taken away later.
    pub const PERSIST: Self = Self(4);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The name, at most 255 octets.
    pub name: Name,
    /// Where packets enter; `None` for chains that are only jumped to.
    pub base: Option<BaseChain>,
}

/// What a base chain has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// The hook's number (`enum nf_inet_hooks`).
    pub hook: u32,
    /// Lower comes first.
    pub priority: i32,
    /// `filter`, `nat` or `route`.
    pub chain_type: String,
    /// What happens to a packet at its end.
    pub default_verdict: DefaultVerdict,
}

/// Default verdict of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultVerdict {
    /// The packet passes.
    Accept,
    /// The packet is dropped.
    Drop,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    exprs: Vec<Expr>,
    comment: String,
}

impl Rule {
    /// Octets that a comment may have (`NFTNL_UDATA_COMMENT_MAXLEN`).
    pub const COMMENT_LIMIT: usize = 128;

    /// A rule with these expressions and a comment for people, as `nft` shows it (empty: none). What of the comment is
    /// over [`Self::COMMENT_LIMIT`] or behind a zero is cut off.
    pub fn new(exprs: Vec<Expr>, comment: &str) -> Self {
        let end = comment.find('\0').unwrap_or(comment.len());
        let end = comment.floor_char_boundary(end.min(Self::COMMENT_LIMIT));
        Self {
            exprs,
            comment: comment[..end].to_owned(),
        }
    }

    /// What it does.
    pub fn exprs(&self) -> &[Expr] {
        &self.exprs
    }

    /// What it says to people.
    pub fn comment(&self) -> &str {
        &self.comment
    }
}

/// A rule of the kernel, where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRule {
    /// Its chain.
    pub chain: Name,
    /// Its name in its table, for deleting and replacing.
    pub handle: u64,
    /// The rule.
    pub rule: Rule,
}

/// A set or verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The name, at most 255 octets.
    pub name: Name,
    /// Type of the key.
    pub key: KeyType,
    /// Whether elements are keys or the ends of ranges.
    pub order: SetOrder,
    /// What it has for a key.
    pub value: SetValue,
    /// The most elements it may have, if there is a limit. The kernel then makes a hash table that need not grow, whose
    /// look-ups are faster.
    pub limit: Option<u32>,
}

/// How the elements of a set are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOrder {
    /// Single keys (a hash table).
    Keys,
    /// Ranges: each an element where it begins and one behind where it ends (a tree).
    Ranges,
    /// Something else, of somebody else's set: its flags (`enum nft_set_flags`) without that of maps.
    Other(u32),
}

/// What a set has for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// Nothing: a set.
    Nothing,
    /// A verdict: a verdict map.
    Verdict,
    /// Something else, of somebody else's map.
    Other(u32),
}

/// Type of a set's key: one field or several one after the other, each padded to 4 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyType {
    /// The fields' numbers in nft, 6 bits each, the last lowest; the kernel only keeps it for nft.
    pub code: u32,
    /// Octets altogether.
    pub length: u32,
    /// Byte order of the only field; the kernel only keeps it for nft. It is not known of a set that was read.
    pub byte_order: Option<ByteOrder>,
}

impl KeyType {
    /// The type of a key with these fields; one field keeps its length, several are padded.
    pub fn of(fields: &[FieldType]) -> Self {
        match fields {
            [field] => Self {
                code: field.code,
                length: field.length,
                byte_order: Some(field.byte_order),
            },
            fields => Self {
                code: fields.iter().fold(0, |code, field| code << 6 | field.code),
                length: fields
                    .iter()
                    .map(|field| field.length.next_multiple_of(4))
                    .sum(),
                byte_order: None,
            },
        }
    }

    /// Whether both are the same to the kernel.
    pub fn same(&self, other: &Self) -> bool {
        self.code == other.code && self.length == other.length
    }
}

/// Byte orders, with nft's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The machine's.
    Host,
    /// Network order.
    Network,
}

/// Type of a key's field, with nft's number for it (nftables, `include/datatype.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    code: u32,
    length: u32,
    byte_order: ByteOrder,
}

impl FieldType {
    /// `ipv4_addr`
    pub const IPV4: Self = Self::new(7, 4, ByteOrder::Network);
    /// `ipv6_addr`
    pub const IPV6: Self = Self::new(8, 16, ByteOrder::Network);
    /// `inet_proto`
    pub const PROTOCOL: Self = Self::new(12, 1, ByteOrder::Network);
    /// `inet_service`
    pub const PORT: Self = Self::new(13, 2, ByteOrder::Network);
    /// `mark`, host order.
    pub const MARK: Self = Self::new(19, 4, ByteOrder::Host);
    /// `icmpv6_type`
    pub const ICMP6_TYPE: Self = Self::new(29, 1, ByteOrder::Network);
    /// `ifname`
    pub const LINK: Self = Self::new(41, 16, ByteOrder::Host);

    const fn new(code: u32, length: u32, byte_order: ByteOrder) -> Self {
        Self {
            code,
            length,
            byte_order,
        }
    }

    /// Octets of the field, without padding.
    pub const fn length(self) -> u32 {
        self.length
    }
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key.
    pub key: Key,
    /// What the element is.
    pub role: Role,
    /// What a verdict map has for it.
    pub verdict: Option<Verdict>,
}

/// What an element of a set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Ends the range before it: the first key that is not in it any more.
    End,
    /// A key, or the begin of a range.
    Key,
    /// Something else that the kernel has there (a catch-all element).
    Other,
}

/// A key, at most 64 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    octets: [u8; Self::LIMIT],
    length: u8,
}

impl Key {
    /// Octets that a key may have (`NFT_DATA_VALUE_MAXLEN`).
    pub const LIMIT: usize = 64;

    /// No octets yet.
    pub const fn new() -> Self {
        Self {
            octets: [0; Self::LIMIT],
            length: 0,
        }
    }

    /// These octets; `None` if they are more than [`Self::LIMIT`].
    pub fn of(octets: &[u8]) -> Option<Self> {
        let mut key = Self::new();
        key.octets.get_mut(..octets.len())?.copy_from_slice(octets);
        key.length = u8::try_from(octets.len()).ok()?;
        Some(key)
    }

    /// Appends a field of a concatenation, padded with zeros to 4 octets.
    ///
    /// # Panics
    /// If the key gets too long: its type allows no such field.
    pub fn push(&mut self, field: &[u8]) {
        let begin = usize::from(self.length);
        self.octets[begin..begin + field.len()].copy_from_slice(field);
        let end = (begin + field.len()).next_multiple_of(4);
        self.length = u8::try_from(end).expect("a key has at most 64 octets");
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.octets()
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}
