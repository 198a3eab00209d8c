//! Rows of a benchmark: what was measured beside its peer in the same run, as a table and as JSON.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

/// One row: a figure of ours, the peer's figure from the same run, and what is to be reached.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// Ours, in `unit`.
    pub(crate) ours: f64,
    /// The peer's, in `unit`; `None` where there is nobody to compare with.
    pub(crate) peer: Option<f64>,
    /// Who the peer is.
    pub(crate) peer_name: String,
    /// Unit of both figures.
    pub(crate) unit: &'static str,
    /// What is to be reached, in words.
    pub(crate) reach: String,
    /// Whether it was reached.
    pub(crate) reached: bool,
}

/// All rows of a run, and the file for them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row and shows it.
    pub(crate) fn add(&mut self, row: Row) {
        show(&row);
        self.rows.push(row);
    }

    /// Whether every row reached its goal.
    pub(crate) fn reached(&self) -> bool {
        self.rows.iter().all(|row| row.reached)
    }

    /// Writes the rows as JSON to `folder/name.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn save(&self, folder: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, serde_json::to_string_pretty(&self.rows)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn show(row: &Row) {
    let peer = row.peer.map_or_else(String::new, |peer| {
        format!(
            "  {} {} {}  ratio {:.3}",
            row.peer_name,
            figure(peer),
            row.unit,
            row.ours / peer
        )
    });
    let mark = if row.reached { "ok " } else { "MISS" };
    println!(
        "{mark:4} {:<60} {} {}{peer}  (reach {})",
        row.what,
        figure(row.ours),
        row.unit,
        row.reach
    );
}

fn figure(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

/// The time now.
pub(crate) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the benchmark's only clock")]
    Instant::now()
}

/// How long `work` took.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = now();
    let value = work();
    (now().duration_since(start), value)
}

/// The value below which `percent` of `samples` lie. Sorts them.
pub(crate) fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() * percent / 100).min(samples.len() - 1)]
}

/// Milliseconds as a number.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
