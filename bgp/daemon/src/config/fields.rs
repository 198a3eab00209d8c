//! Values of the file, each with what is allowed.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::str::FromStr;

use ipnet::IpNet;
use margay_bgp::Switch;
use margay_bgp::filter::PrefixMatch;
use margay_bgp::wire::community::{
    ExtendedCommunity, GRACEFUL_SHUTDOWN, LLGR_STALE, LargeCommunity, NO_ADVERTISE, NO_EXPORT,
    NO_EXPORT_SUBCONFED, NO_LLGR,
};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{Asn, BgpId, HoldTime};

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
pub(super) struct AsnField(pub(super) Asn);

impl TryFrom<u32> for AsnField {
    type Error = &'static str;

    fn try_from(asn: u32) -> Result<Self, Self::Error> {
        if asn == 0 {
            return Err("AS number 0 is reserved; 1 to 4294967295 is allowed");
        }
        Ok(Self(Asn(asn)))
    }
}

/// A value that is written as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<T>(pub(super) T);

/// What such a value is, and looks like.
pub(super) trait Written: FromStr {
    const AS: &'static str;
}

impl Written for IpAddr {
    const AS: &'static str = "address, like \"192.0.2.1\" or \"2001:db8::1\"";
}

impl Written for Ipv4Addr {
    const AS: &'static str = "IPv4 address, like \"192.0.2.1\"";
}

impl Written for Ipv6Addr {
    const AS: &'static str = "IPv6 address, like \"2001:db8::1\"";
}

impl Written for IpNet {
    const AS: &'static str = "prefix, like \"10.0.0.0/26\" or \"fd00::/122\"";
}

impl Written for SocketAddr {
    const AS: &'static str = "address with a port, like \"0.0.0.0:179\" or \"[::]:179\"";
}

impl<T: Written> TryFrom<String> for Text<T> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let value = text.parse();
        value
            .map(Self)
            .map_err(|_| format!("`{text}` is no {}", T::AS))
    }
}

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText(PhantomData))
    }
}

/// Makes a value while the reader still knows on which line of a list it is.
struct FromText<T>(PhantomData<T>);

impl<T: TryFrom<String, Error = String>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::try_from(text.to_owned()).map_err(E::custom)
    }
}

macro_rules! from_text {
    ($($field:ty),*) => {$(
        impl<'de> Deserialize<'de> for $field {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(FromText(PhantomData))
            }
        }
    )*};
}

from_text!(
    CommunityField,
    LargeCommunityField,
    ExtendedCommunityField,
    PrefixField
);

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
pub(super) struct PortField(pub(super) NonZeroU16);

impl TryFrom<u32> for PortField {
    type Error = &'static str;

    fn try_from(port: u32) -> Result<Self, Self::Error> {
        let port = u16::try_from(port).ok().and_then(NonZeroU16::new);
        port.map(Self).ok_or("a port is 1 to 65535")
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Text<Ipv4Addr>")]
pub(super) struct RouterId(pub(super) BgpId);

impl TryFrom<Text<Ipv4Addr>> for RouterId {
    type Error = &'static str;

    fn try_from(Text(id): Text<Ipv4Addr>) -> Result<Self, Self::Error> {
        if id.is_unspecified() {
            return Err("0.0.0.0 is no identifier; take an address of this host");
        }
        Ok(Self(BgpId(id)))
    }
}

#[derive(Default, Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct HoldTimeField(pub(super) HoldTime);

impl TryFrom<u16> for HoldTimeField {
    type Error = &'static str;

    fn try_from(seconds: u16) -> Result<Self, Self::Error> {
        let hold_time = HoldTime::from_secs(seconds);
        if hold_time.as_secs() != seconds {
            return Err("a hold time is 0 (none) or 3 to 65535 seconds");
        }
        Ok(Self(hold_time))
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(from = "bool")]
pub(super) struct SwitchField(pub(super) Switch);

impl From<bool> for SwitchField {
    fn from(on: bool) -> Self {
        Self(on.into())
    }
}

/// Hops between us and a peer.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u8")]
pub(super) struct HopsField(pub(super) NonZeroU8);

impl TryFrom<u8> for HopsField {
    type Error = &'static str;

    fn try_from(hops: u8) -> Result<Self, Self::Error> {
        NonZeroU8::new(hops)
            .map(Self)
            .ok_or("1 to 255 hops are allowed; 1 is a neighbour on the same link")
    }
}

/// `64512:1`, or a name.
#[derive(Clone, Copy)]
pub(super) struct CommunityField(pub(super) u32);

impl TryFrom<String> for CommunityField {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let known = [
            ("no-export", NO_EXPORT),
            ("no-advertise", NO_ADVERTISE),
            ("no-export-subconfed", NO_EXPORT_SUBCONFED),
            ("graceful-shutdown", GRACEFUL_SHUTDOWN),
            ("llgr-stale", LLGR_STALE),
            ("no-llgr", NO_LLGR),
        ];
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*value));
        }
        let parts: Option<Vec<u16>> = text.split(':').map(|part| part.parse().ok()).collect();
        if let Some([high, low]) = parts.as_deref() {
            return Ok(Self(u32::from(*high) << 16 | u32::from(*low)));
        }
        let names = known.map(|(name, _)| name).join(", ");
        Err(format!(
            "`{text}` is no community: two numbers up to 65535 like \"64512:1\", or one of {names}"
        ))
    }
}

/// `64512:1:2`.
#[derive(Clone, Copy)]
pub(super) struct LargeCommunityField(pub(super) LargeCommunity);

impl TryFrom<String> for LargeCommunityField {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        let parts = parts.and_then(|parts| parts.try_into().ok());
        parts.map(Self).ok_or_else(|| {
            format!("`{text}` is no large community: three numbers like \"64512:1:2\"")
        })
    }
}

/// Eight octets in hex.
#[derive(Clone, Copy)]
pub(super) struct ExtendedCommunityField(pub(super) ExtendedCommunity);

impl TryFrom<String> for ExtendedCommunityField {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let value = u64::from_str_radix(&text, 16).ok();
        let value = value.filter(|_| text.len() == 16);
        value.map(|value| Self(value.to_be_bytes())).ok_or_else(|| {
            format!(
                "`{text}` is no extended community: eight octets in hex like \"0002fc0000000001\""
            )
        })
    }
}

/// `10.0.0.0/8`, `10.0.0.0/8 ge 24 le 28`, `10.0.0.0/8 or-longer`.
pub(super) struct PrefixField(pub(super) PrefixMatch);

impl TryFrom<String> for PrefixField {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        prefix_match(&text).map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no prefix to match: \"10.0.0.0/8\", with \"or-longer\", \"ge 24\", \
                 \"le 28\" or \"ge 24 le 28\" behind it"
            )
        })
    }
}

fn prefix_match(text: &str) -> Option<PrefixMatch> {
    let words: Vec<_> = text.split_whitespace().collect();
    let (prefix, rest) = words.split_first()?;
    let mut found = PrefixMatch::exact(prefix.parse().ok()?);
    let longest = found.within.max_prefix_len();
    match rest {
        [] => {}
        ["or-longer"] => found = PrefixMatch::or_longer(found.within),
        ["ge", ge] => (found.ge, found.le) = (number(ge)?, longest),
        ["le", le] => found.le = number(le)?,
        ["ge", ge, "le", le] => (found.ge, found.le) = (number(ge)?, number(le)?),
        _ => return None,
    }
    let shortest = found.within.prefix_len();
    (shortest <= found.ge && found.ge <= found.le && found.le <= longest).then_some(found)
}

fn number(text: &str) -> Option<u8> {
    u8::from_str(text).ok()
}
