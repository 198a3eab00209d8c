//! `margayctl drift [NODE]`: what others changed of ours, and how fast it was repaired.

use std::collections::BTreeMap;

use margay_sync::status::Drift;
use serde_json::json;

use crate::nodes::{self, Which};
use crate::output::{Answer, table};
use crate::places::Places;

/// The last repairs of each node, newest last.
pub(crate) async fn run(which: &Which, places: &Places) -> anyhow::Result<Answer> {
    let found = nodes::ask(places, which.node.as_deref()).await?;
    let all: BTreeMap<&str, &[Drift]> = found
        .nodes
        .iter()
        .filter_map(|node| Some((node.name.as_str(), node.status.as_ref()?.drift.as_slice())))
        .collect();
    let rows = all
        .iter()
        .flat_map(|(node, drift)| drift.iter().map(|drift| row(node, drift)));
    let text = if all.values().all(|drift| drift.is_empty()) {
        "nobody has changed anything of ours\n".to_owned()
    } else {
        table(["NODE", "WHEN", "WHAT", "NAME", "BY", "REPAIRED IN"], rows)
    };
    Ok(Answer::new(text, json!(all)))
}

fn row(node: &str, drift: &Drift) -> [String; 6] {
    let Drift {
        at,
        what,
        name,
        by,
        repair_microseconds,
    } = drift;
    let by = if by.is_empty() { "unknown" } else { by };
    let took = match repair_microseconds {
        0..10_000 => format!("{repair_microseconds} us"),
        _ => format!("{} ms", repair_microseconds / 1000),
    };
    [
        node.to_owned(),
        at.clone(),
        what.clone(),
        name.clone(),
        by.to_owned(),
        took,
    ]
}
