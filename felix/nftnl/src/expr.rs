//! Expressions: what the rules of nf_tables are made of.
//!
//! A rule's expressions run in order. Some load something of the packet into registers, some compare
//! registers and end the rule, some act. Values are in network order unless said otherwise.

mod codec;

use std::fmt;

/// Name of a chain, set or table.
pub type Name = String;

/// One expression (`NFTA_LIST_ELEM` of `NFTA_RULE_EXPRESSIONS`).
///
/// Two values are equal exactly if the kernel's expressions are: what the kernel adds or renames when it dumps is taken
/// out in decoding, except for [`Expr::Counter`]'s numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Loads something about the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Into where.
        to: Register,
    },
    /// Loads octets of the packet.
    Payload {
        /// Counted from where.
        base: Base,
        /// First octet.
        offset: u32,
        /// How many.
        length: u32,
        /// Into where.
        to: Register,
    },
    /// Loads something of the packet's connection; ends the rule if there is none, or if its family has no such thing.
    Ct {
        /// What.
        key: CtKey,
        /// Into where.
        to: Register,
    },
    /// Writes the connection's mark (host order).
    SetCtMark {
        /// From where.
        from: Register,
    },
    /// Ends the rule unless a register compares so with a constant.
    Compare {
        /// How.
        op: Comparison,
        /// The register.
        register: Register,
        /// The constant; its length says how many octets count.
        value: Data,
    },
    /// `to = (from & mask) ^ xor`.
    Bitwise {
        /// From where.
        from: Register,
        /// Into where.
        to: Register,
        /// The mask.
        mask: Data,
        /// The bits that are flipped then, as long as `mask`.
        xor: Data,
    },
    /// Loads a constant.
    Immediate {
        /// Into where.
        to: Register,
        /// The constant.
        value: Data,
    },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Ends the rule unless a key is (or is not) in a set.
    Lookup {
        /// The set.
        set: Name,
        /// The key's first register.
        key: Register,
        /// Which of both.
        test: Test,
    },
    /// Ends the rule with the verdict that a map has for a key; goes on if it has none.
    VerdictMap {
        /// The map.
        map: Name,
        /// The key's first register.
        key: Register,
    },
    /// Ends the rule unless a register is (or is not) in a range, both ends included.
    Range {
        /// The register.
        register: Register,
        /// Which of both.
        test: Test,
        /// First value.
        first: Data,
        /// Last value.
        last: Data,
    },
    /// Gives the connection the source address of the link that it leaves by.
    Masquerade,
    /// Counts.
    Counter {
        /// Packets so far.
        packets: u64,
        /// Octets so far.
        octets: u64,
    },
    /// An expression that this crate cannot make, of somebody else's rule.
    Other {
        /// Its name.
        name: String,
        /// Its attributes, as they came.
        attributes: Vec<u8>,
    },
}

/// A 32-bit register, one of 16; longer values fill those behind it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(u8);

impl Register {
    /// The first.
    pub const FIRST: Self = Self(0);

    /// The register with this number.
    ///
    /// # Panics
    /// If there is none: `number` is over 15.
    pub const fn new(number: u8) -> Self {
        assert!(number < 16, "nf_tables has 16 registers");
        Self(number)
    }

    /// The register behind a value of `octets` octets that begins here; `None` if there is none.
    pub const fn after(self, octets: u8) -> Option<Self> {
        let next = self.0 + octets.div_ceil(4);
        if next < 16 { Some(Self(next)) } else { None }
    }

    /// As the kernel writes it: `NFT_REG_1`–`NFT_REG_4` where a group of four begins, `NFT_REG32_*` elsewhere.
    fn code(self) -> u32 {
        let number = u32::from(self.0);
        if number.is_multiple_of(4) {
            1 + number / 4
        } else {
            8 + number
        }
    }

    fn of(code: u32) -> Option<Self> {
        match code {
            1..=4 => u8::try_from((code - 1) * 4).ok().map(Self),
            8..=23 => u8::try_from(code - 8).ok().map(Self),
            _ => None,
        }
    }
}

/// A constant of at most 16 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Data {
    octets: [u8; 16],
    length: u8,
}

impl Data {
    /// These octets; `None` if they are none or more than 16.
    pub fn new(octets: &[u8]) -> Option<Self> {
        let length = u8::try_from(octets.len())
            .ok()
            .filter(|length| (1..=16).contains(length))?;
        let mut data = Self {
            octets: [0; 16],
            length,
        };
        data.octets[..octets.len()].copy_from_slice(octets);
        Some(data)
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.octets()
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

macro_rules! data_of_octets {
    ($($length:literal)*) => {$(
        impl From<[u8; $length]> for Data {
            fn from(octets: [u8; $length]) -> Self {
                let mut data = Self { octets: [0; 16], length: $length };
                data.octets[..$length].copy_from_slice(&octets);
                data
            }
        }
    )*};
}
data_of_octets!(1 2 3 4 16);

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            fn code(self) -> u32 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            fn of(code: u32) -> Result<Self, crate::error::DecodeError> {
                match code {
                    $($code => Ok(Self::$variant),)*
                    value => Err(crate::error::DecodeError::Value { what: $what, value }),
                }
            }
        }
    };
}

codes! {
    /// What can be known of a packet (`enum nft_meta_keys`, those that are used).
    MetaKey, "meta key" {
        /// The packet's mark, host order.
        Mark = 3,
        /// Name of the link it came in by, 16 octets, padded with zeros.
        InName = 6,
        /// Name of the link it goes out by, 16 octets, padded with zeros.
        OutName = 7,
        /// Family, 1 octet: 2 is IPv4, 10 is IPv6.
        Family = 15,
        /// Protocol above IP, 1 octet.
        Protocol = 16,
    }
}

codes! {
    /// Where octets of a packet are counted from (`enum nft_payload_bases`).
    Base, "payload base" {
        /// The link header.
        Link = 0,
        /// The IP header.
        Network = 1,
        /// What follows the IP header.
        Transport = 2,
    }
}

codes! {
    /// How to compare (`enum nft_cmp_ops`).
    Comparison, "comparison" {
        /// `==`
        Equal = 0,
        /// `!=`
        NotEqual = 1,
        /// `<`
        Less = 2,
        /// `<=`
        LessOrEqual = 3,
        /// `>`
        Greater = 4,
        /// `>=`
        GreaterOrEqual = 5,
    }
}

/// What can be known of a connection (`enum nft_ct_keys`, those that are used).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtKey {
    /// Its state, a bit, 4 octets in host order.
    State,
    /// Direction of this packet, 1 octet: 0 is original, 1 is reply.
    Direction,
    /// Its mark, 4 octets in host order.
    Mark,
    /// Protocol above IP, 1 octet.
    Protocol,
    /// IPv4 source address of that direction's packets.
    Source4(Direction),
    /// IPv4 destination address of that direction's packets.
    Destination4(Direction),
    /// IPv6 source address of that direction's packets.
    Source6(Direction),
    /// IPv6 destination address of that direction's packets.
    Destination6(Direction),
    /// Source port of that direction's packets.
    SourcePort(Direction),
    /// Destination port of that direction's packets.
    DestinationPort(Direction),
}

/// Direction in a connection (`enum ip_conntrack_dir`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// As the first packet.
    Original,
    /// As the answers.
    Reply,
}

/// Whether a match wants it so or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// It must be so.
    Is,
    /// It must not be so.
    IsNot,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It is dropped.
    Drop,
    /// The next rule.
    Continue,
    /// Back to the chain that jumped here; in a base chain, its default verdict.
    Return,
    /// Into a chain and back.
    Jump(Name),
    /// Into a chain for good.
    Goto(Name),
}
