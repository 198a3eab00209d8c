//! `margayctl routes [NODE]`.

use std::collections::BTreeMap;

use margay_sync::status::RouteStatus;
use serde_json::json;

use crate::nodes::Which;
use crate::output::{Answer, list, remark, table};
use crate::places::Places;

/// The routes that felix keeps, by node.
pub(crate) async fn run(which: &Which, places: &Places) -> anyhow::Result<Answer> {
    let mut all: BTreeMap<&str, Vec<RouteStatus>> = BTreeMap::new();
    let mut failed = false;
    let asked = places.felix(which.node.as_deref())?;
    for (node, socket) in &asked {
        match socket.get::<Vec<RouteStatus>>("/routes").await {
            Ok(mut routes) => {
                routes.sort();
                all.insert(node, routes);
            }
            Err(error) if asked.len() == 1 => return Err(error),
            Err(error) => {
                remark(format_args!("{node}: {error:#}"));
                failed = true;
            }
        }
    }
    let text = table(
        ["NODE", "PREFIX", "NEXT HOPS", "SOURCE"],
        all.iter().flat_map(|(node, routes)| {
            routes.iter().map(
                |RouteStatus {
                     prefix,
                     next_hops,
                     source,
                 }| {
                    [
                        (*node).to_owned(),
                        prefix.to_string(),
                        list(next_hops, " "),
                        source.clone(),
                    ]
                },
            )
        }),
    );
    let text = if text.is_empty() {
        "no routes\n".to_owned()
    } else {
        text
    };
    let answer = Answer::new(text, json!(all));
    Ok(Answer { failed, ..answer })
}
