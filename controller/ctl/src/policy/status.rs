//! `margayctl policy status`: on how many nodes each policy is in force.

use std::fmt::Write;

use margay_sync::status::{PolicyPage, PolicyStatus};
use serde_json::json;

use crate::output::{Answer, Paint, list, table};
use crate::places::Places;

/// Each policy with how far it has got, and its values that fail closed.
pub(super) async fn run(places: &Places) -> anyhow::Result<Answer> {
    let page = ask(places).await?;
    Ok(Answer::new(render(&page), json!(page)))
}

/// What all replicas know together: one knows how far an agent is only if the agent speaks with it.
///
/// # Errors
/// Those of [`Socket::get`](crate::client::Socket::get).
pub(crate) async fn ask(places: &Places) -> anyhow::Result<PolicyPage> {
    let mut page = places.controller.get::<PolicyPage>("/policy").await?;
    for replica in &places.replicas {
        let other = replica.get::<PolicyPage>("/policy").await?;
        merge(&mut page, &other);
    }
    Ok(page)
}

/// A node that waits in the eyes of each replica waits.
fn merge(page: &mut PolicyPage, other: &PolicyPage) {
    for (name, policy) in &mut page.policies {
        let Some(other) = other.policies.get(name) else {
            continue;
        };
        let before = policy.waiting.len();
        policy.waiting.retain(|node| other.waiting.contains(node));
        policy.realised += u32::try_from(before - policy.waiting.len()).unwrap_or(0);
    }
}

fn render(PolicyPage { policies }: &PolicyPage) -> String {
    if policies.is_empty() {
        return "there is no policy: every pod reaches every pod\n".to_owned();
    }
    let mut text = table(
        ["POLICY", "REALISED", "WAITING FOR"],
        policies.iter().map(
            |(
                name,
                PolicyStatus {
                    realised,
                    nodes,
                    waiting,
                    ..
                },
            )| {
                let paint = if realised == nodes {
                    Paint::Good
                } else {
                    Paint::Warn
                };
                let realised = match nodes {
                    0 => "selects no pod".to_owned(),
                    _ => paint.on(format!("{realised} of {nodes}")),
                };
                [name.clone(), realised, list(waiting, " ")]
            },
        ),
    );
    for (name, policy) in policies {
        for problem in &policy.problems {
            let _ = writeln!(text, "{} {name}: {problem}", Paint::Warn.on("problem"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
