//! Values that BGP's kinds share: communities, patterns over `AS_PATH`, BFD, passwords.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A standard (RFC 1997) or large (RFC 8092) community: `64512:100`, `64512:100:1`, or a well-known name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Community {
    /// Two numbers of two octets.
    Standard(u32),
    /// Three numbers of four octets.
    Large([u32; 3]),
}

/// Names of well-known communities (IANA).
const NAMED: [(&str, u32); 4] = [
    ("graceful-shutdown", 0xffff_0000),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
];

impl TryFrom<String> for Community {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if let Some((_, value)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Standard(*value));
        }
        let small: Option<Vec<u16>> = text.split(':').map(|part| part.parse().ok()).collect();
        if let Some([high, low]) = small.as_deref() {
            return Ok(Self::Standard(u32::from(*high) << 16 | u32::from(*low)));
        }
        let large: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        if let Some(Ok(large)) = large.map(<[u32; 3]>::try_from) {
            return Ok(Self::Large(large));
        }
        let names = NAMED.map(|(name, _)| name).join(", ");
        Err(format!(
            "`{text}` is no community: write 64512:100 (two numbers up to 65535), 64512:100:1 (a large one), or one of {names}"
        ))
    }
}

impl From<Community> for String {
    fn from(community: Community) -> Self {
        match community {
            Community::Standard(value) => {
                let named = NAMED.iter().find(|(_, known)| *known == value);
                named.map_or_else(
                    || format!("{}:{}", value >> 16, value & 0xffff),
                    |(name, _)| (*name).to_owned(),
                )
            }
            Community::Large([global, first, second]) => format!("{global}:{first}:{second}"),
        }
    }
}

/// A pattern over a whole `AS_PATH`: numbers, ranges (`64512-65534`), `?` for any one number, `*` for any
/// numbers, also none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AsPathPattern(pub Vec<AsPathPart>);

/// A part of an [`AsPathPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsPathPart {
    /// `*`.
    Any,
    /// One number from the first to the second.
    Range(u32, u32),
}

impl FromStr for AsPathPart {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| {
                format!("`{word}` is no part of an AS path: write *, ?, a number, or a range as in 64512-65534")
            })
        };
        match word {
            "*" => Ok(Self::Any),
            "?" => Ok(Self::Range(0, u32::MAX)),
            word => {
                let (low, high) = word.split_once('-').unwrap_or((word, word));
                Ok(Self::Range(number(low)?, number(high)?))
            }
        }
    }
}

impl fmt::Display for AsPathPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Range(0, u32::MAX) => f.write_str("?"),
            Self::Range(low, high) if low == high => write!(f, "{low}"),
            Self::Range(low, high) => write!(f, "{low}-{high}"),
        }
    }
}

impl TryFrom<String> for AsPathPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_whitespace().map(str::parse);
        parts.collect::<Result<_, _>>().map(Self)
    }
}

impl From<AsPathPattern> for String {
    fn from(pattern: AsPathPattern) -> Self {
        let parts: Vec<String> = pattern.0.iter().map(ToString::to_string).collect();
        parts.join(" ")
    }
}

/// BFD beside a session (RFC 5880, RFC 5881; RFC 5883 if the peer is more than a hop away).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Bfd {
    /// Between two packets, in both directions, in milliseconds: 10 to 60000.
    #[schemars(schema_with = "schema::bfd_interval")]
    pub interval_milliseconds: u32,
    /// How many missing packets mean that the peer is gone: 1 to 255.
    #[schemars(schema_with = "schema::bfd_multiplier")]
    pub multiplier: u8,
}

impl Default for Bfd {
    fn default() -> Self {
        Self {
            interval_milliseconds: 300,
            multiplier: 3,
        }
    }
}

impl Bfd {
    pub(super) fn check(self, path: &str) -> Result<(), String> {
        if !(10..=60_000).contains(&self.interval_milliseconds) {
            return Err(format!("{path}.intervalMilliseconds: use 10 to 60000"));
        }
        if self.multiplier == 0 {
            return Err(format!("{path}.multiplier: use 1 to 255"));
        }
        Ok(())
    }
}

/// Where a password (TCP MD5, RFC 2385) is: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.secretKeyRef) != has(self.file)",
    "message": "say where the password is, in one place: secretKeyRef (a Secret in Margay's namespace), or file (on the node)",
}]))]
pub struct PasswordSource {
    /// A key of a Secret in Margay's own namespace (`margay-system`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// A file on each node, by its absolute path; it is read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::absolute_path")]
    pub file: Option<String>,
}

/// A key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
    /// The key in it.
    #[schemars(schema_with = "schema::object_name")]
    pub key: String,
}

impl PasswordSource {
    pub(super) fn check(&self, path: &str) -> Result<(), String> {
        match (&self.secret_key_ref, &self.file) {
            (Some(SecretKeyRef { name, key }), None) if name.is_empty() || key.is_empty() => {
                Err(format!("{path}.secretKeyRef: name and key are both needed"))
            }
            (None, Some(file)) if !file.starts_with('/') => Err(format!(
                "{path}.file: `{file}` is not an absolute path; it is one on the nodes"
            )),
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (None, None) | (Some(_), Some(_)) => Err(format!(
                "{path}: say where the password is, in one place: secretKeyRef or file"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
