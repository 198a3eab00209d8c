//! `margayctl ruleset [NODE]`: the rules of our table as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use crate::nodes::Which;
use crate::output::{Answer, Paint, remark};
use crate::places::Places;

/// The ruleset that felix keeps in the kernel, in the language of `nft`.
pub(crate) async fn run(which: &Which, places: &Places) -> anyhow::Result<Answer> {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    let mut failed = false;
    let asked = places.felix(which.node.as_deref())?;
    for (node, socket) in &asked {
        match socket.text("/ruleset").await {
            Ok(ruleset) => {
                all.insert(node, ruleset);
            }
            Err(error) if asked.len() == 1 => return Err(error),
            Err(error) => {
                remark(format_args!("{node}: {error:#}"));
                failed = true;
            }
        }
    }
    let mut text = String::new();
    for (node, ruleset) in &all {
        if asked.len() > 1 {
            let _ = writeln!(text, "{}", Paint::Head.on(format!("# {node}")));
        }
        text += ruleset;
    }
    let answer = Answer::new(text, json!(all));
    Ok(Answer { failed, ..answer })
}
