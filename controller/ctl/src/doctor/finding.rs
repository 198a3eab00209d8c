//! What the doctor found.

use serde::{Deserialize, Serialize};

/// One result of the examination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Stable, for searching and for scripts: `MGY-D` and three digits.
    pub(super) id: &'static str,
    /// How bad it is.
    pub(super) level: Level,
    /// What was found, in one line.
    pub(super) what: String,
    /// Why that matters to Margay.
    pub(super) reason: String,
    /// What to do.
    pub(super) fix: String,
}

/// A [`Finding`] as it is told, by us or by the margayctl of another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// [`Finding::id`].
    pub(super) id: String,
    /// [`Finding::level`].
    pub(super) level: Level,
    /// [`Finding::what`].
    pub(super) what: String,
    /// [`Finding::reason`].
    pub(super) reason: String,
    /// [`Finding::fix`].
    pub(super) fix: String,
}

impl From<Finding> for Told {
    fn from(finding: Finding) -> Self {
        let Finding {
            id,
            level,
            what,
            reason,
            fix,
        } = finding;
        Self {
            id: id.to_owned(),
            level,
            what,
            reason,
            fix,
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Something does not work.
    Failure,
    /// Something may not work, or could not be looked at.
    Warning,
}

/// Something that does not work.
pub(super) fn failure(
    id: &'static str,
    what: impl Into<String>,
    reason: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        id,
        level: Level::Failure,
        what: what.into(),
        reason: reason.into(),
        fix: fix.into(),
    }
}

/// Something that may not work, or could not be looked at.
pub(super) fn warning(
    id: &'static str,
    what: impl Into<String>,
    reason: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        level: Level::Warning,
        ..failure(id, what, reason, fix)
    }
}
