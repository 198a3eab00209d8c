//! The specification's error object.

use serde::{Deserialize, Serialize};

/// Error codes of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum Code {
    /// 1: the configuration's version is not spoken.
    IncompatibleVersion,
    /// 2: a field of the configuration asks for what is not supported.
    UnsupportedField,
    /// 3: the container is unknown.
    UnknownContainer,
    /// 4: an environment variable is missing or unusable.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: something is not JSON of the right form.
    Decode,
    /// 7: the configuration is unusable.
    InvalidConfig,
    /// 11: a passing condition; the runtime should try again later.
    TryAgainLater,
    /// 50: the plugin cannot serve ADD now.
    NotAvailable,
    /// 51: as 50, and containers of the network may have limited connectivity.
    LimitedConnectivity,
    /// 100: what is attached is not what should be.
    Broken,
}

const CODES: [(Code, u32); 11] = [
    (Code::IncompatibleVersion, 1),
    (Code::UnsupportedField, 2),
    (Code::UnknownContainer, 3),
    (Code::InvalidEnvironment, 4),
    (Code::Io, 5),
    (Code::Decode, 6),
    (Code::InvalidConfig, 7),
    (Code::TryAgainLater, 11),
    (Code::NotAvailable, 50),
    (Code::LimitedConnectivity, 51),
    (Code::Broken, 100),
];

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        CODES
            .iter()
            .find_map(|(known, number)| (*known == code).then_some(*number))
            .unwrap_or(100)
    }
}

impl TryFrom<u32> for Code {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        CODES
            .iter()
            .find_map(|(code, known)| (*known == number).then_some(*code))
            .ok_or_else(|| format!("{number} is no error code of CNI"))
    }
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// The code.
    pub code: Code,
    /// What was wrong and where.
    #[serde(rename = "msg")]
    pub message: String,
    /// What to do about it, or what lies behind it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// With details.
    #[must_use]
    pub fn with(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}
