//! How TCP connections with a peer are made. Nothing of it needs a new session.

use std::fmt;
use std::num::NonZeroU8;

use crate::bfd::BfdSettings;

/// How TCP connections with a peer, or with those of a range, are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Signs every segment (TCP MD5, RFC 2385). May change at any time: running sessions go on.
    pub password: Option<Password>,
    /// Signs every segment (TCP-AO, RFC 5925), where the kernel can; then `password` does not count. Another one needs new
    /// connections.
    pub ao: Option<AoKey>,
    /// How far the peer may be.
    pub ttl: Ttl,
    /// The link of a link-local address; of a peer without address, the link that it is the router of.
    pub interface: Option<String>,
    /// Whether BFD watches the peer, once a session was established.
    pub bfd: Option<BfdSettings>,
}

/// How far a peer may be, by the TTL (hop limit) of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// As far as the kernel's default reaches.
    #[default]
    Any,
    /// So many hops: 1 is the same link; more is multihop.
    Hops(NonZeroU8),
    /// At most so many hops, and nobody farther away gets a packet in (GTSM, RFC 5082): we send with 255, and drop
    /// what has lost more on its way. The peer must do the same.
    Security(NonZeroU8),
}

impl Ttl {
    /// What our packets start with; `None` for the kernel's default.
    pub(crate) fn sent(self) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Hops(hops) => Some(hops.get()),
            Self::Security(_) => Some(255),
        }
    }

    /// How far the peer may be for BFD (RFC 5881, RFC 5883).
    pub(crate) fn hops(self) -> NonZeroU8 {
        match self {
            Self::Any => NonZeroU8::MIN,
            Self::Hops(hops) | Self::Security(hops) => hops,
        }
    }

    /// What the peer's packets must have left; 0 is no limit.
    pub(crate) fn least(self) -> u8 {
        match self {
            Self::Any | Self::Hops(_) => 0,
            Self::Security(hops) => 255 - (hops.get() - 1),
        }
    }
}

/// A master key tuple of TCP-AO (RFC 5925 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AoKey {
    /// The secret.
    pub key: Password,
    /// `SendID`: which of its keys the peer finds our segments signed with.
    pub send_id: u8,
    /// `RecvID`: which key the peer's segments say they are signed with.
    pub receive_id: u8,
    /// What signs.
    pub algorithm: AoAlgorithm,
}

/// How TCP-AO signs (RFC 5926 §3.1); both sides have the same. Codes have 96 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AoAlgorithm {
    /// `HMAC-SHA-1-96`, with `KDF_HMAC_SHA1`.
    #[default]
    HmacSha1,
    /// `AES-128-CMAC-96`, with `KDF_AES_128_CMAC`.
    Aes128Cmac,
}

impl AoAlgorithm {
    /// What the kernel calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac(sha1)",
            Self::Aes128Cmac => "cmac(aes128)",
        }
    }
}

/// What signs segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    Md5(Password),
    Ao(AoKey),
}

impl Transport {
    pub(crate) fn signature(&self) -> Option<Signature> {
        let ao = self.ao.clone().map(Signature::Ao);
        ao.or_else(|| self.password.clone().map(Signature::Md5))
    }
}

/// A password of TCP MD5 or TCP-AO: 1 to 80 octets. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// The kernel's limit.
const PASSWORD: usize = 80;

/// A text that cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has 1 to 80 octets, this has {0}")]
pub struct PasswordError(usize);

impl TryFrom<String> for Password {
    type Error = PasswordError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if (1..=PASSWORD).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(PasswordError(text.len()))
        }
    }
}

impl Password {
    pub(crate) fn octets(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}
