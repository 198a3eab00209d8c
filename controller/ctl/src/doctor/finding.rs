//! What the doctor found.

use serde::Serialize;

/// One result of the examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
