//! Probes: flows as JSON lines, answered with verdicts.

use margay_policy::flow::Flow;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A line of a probes file: a flow, and fields of others that are copied to the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The flow.
    #[serde(flatten)]
    pub flow: Flow,
    /// Every other field, `verdict` and `origin` of an earlier answer too.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A line that is no probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ProbeError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, for people.
    pub reason: String,
}

/// Reads probes, one a line; empty lines do not count.
///
/// # Errors
/// [`ProbeError`] for the first line that is none.
pub fn read(text: &str) -> Result<Vec<Probe>, ProbeError> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| ProbeError {
                line: index + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}
