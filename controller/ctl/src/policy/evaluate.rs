//! `margayctl policy evaluate --world DIR --probes FILE`: what policy decides, without a kernel.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use margay_api::probe::Probe;
use margay_policy::verdict::Evaluator;
use serde_json::Value;

use super::world;
use crate::output::Answer;

/// Bad probes that are named at most.
const NAMED: usize = 10;

#[derive(Args)]
pub(crate) struct Evaluate {
    /// A folder of YAML: nodes, namespaces, pods, policies
    #[arg(long, value_name = "DIR")]
    world: PathBuf,
    /// JSON lines `{"from":"ns/pod","to":"ns/pod","protocol":"TCP","port":80,"family":4}`; `-` for stdin.
    /// An end is ns/pod, node/NAME or an address
    #[arg(long, value_name = "FILE")]
    probes: PathBuf,
}

/// Each probe as a JSON line with `verdict` and `origin`.
///
/// # Errors
/// The world or the probes cannot be read, or a line is no probe; then nothing is answered.
pub(super) fn run(Evaluate { world, probes }: &Evaluate) -> anyhow::Result<Answer> {
    let world = world::read(world)?;
    let evaluator = Evaluator::new(&world.cluster);
    let text = read(probes)?;
    let mut answers = String::new();
    let mut bad = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        match parse(line).and_then(|probe| judge(&evaluator, probe)) {
            Ok(probe) => {
                answers += &serde_json::to_string(&probe).context("cannot write JSON")?;
                answers.push('\n');
            }
            Err(reason) => bad.push(format!("{}:{}: {reason}", probes.display(), index + 1)),
        }
    }
    if bad.is_empty() {
        return Ok(Answer::plain(answers));
    }
    let more = match bad.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("\nand {more} more"),
    };
    bad.truncate(NAMED);
    Err(anyhow!("{}{more}", bad.join("\n")))
}

fn parse(line: &str) -> Result<Probe, String> {
    serde_json::from_str(line)
        .map_err(|error| format!("no probe: {error}").replace(" at line 1 column ", " at column "))
}

/// The probe with its answer; fields of its own are kept.
fn judge(evaluator: &Evaluator, mut probe: Probe) -> Result<Probe, String> {
    let (allow, origin) = match evaluator.verdict(&probe.flow) {
        Ok(verdict) => (verdict.allow, verdict.to_string()),
        Err(error) if world::is_mistake(&error) => {
            return Err(world::with_guess(&error, evaluator.cluster()));
        }
        // Nothing can get through where an end has no address.
        Err(error) => (false, error.to_string()),
    };
    let verdict = if allow { "allow" } else { "deny" };
    probe
        .extra
        .insert("verdict".to_owned(), Value::from(verdict));
    probe.extra.insert("origin".to_owned(), Value::from(origin));
    Ok(probe)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    text.with_context(|| format!("cannot read probes from {}", path.display()))
}
