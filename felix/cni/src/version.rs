//! Versions of the specification.

use serde::{Deserialize, Serialize};

/// A version that the plugin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// 0.3.1.
    #[serde(rename = "0.3.1")]
    V0_3_1,
    /// 0.4.0: adds CHECK.
    #[serde(rename = "0.4.0")]
    V0_4_0,
    /// 1.0.0: addresses no longer say their family.
    #[serde(rename = "1.0.0")]
    V1_0_0,
    /// 1.1.0: adds STATUS and GC.
    #[serde(rename = "1.1.0")]
    V1_1_0,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that a text names, if it is one of ours.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }
}
