//! `margayctl policy …`.

mod evaluate;
mod explain;
pub(crate) mod status;
mod world;

use clap::Subcommand;

use crate::output::Answer;
use crate::places::Places;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// On how many nodes each policy is in force, and its values that fail closed
    Status,
    /// Judges the connections of a file in a world of YAML files; no kernel, no cluster
    Evaluate(evaluate::Evaluate),
    /// Says why a connection is allowed or denied, and how far each rule missed it
    Explain(explain::Explain),
}

/// Runs the subcommand; sockets are only looked for where they are needed.
pub(crate) async fn run(
    command: Command,
    places: impl AsyncFnOnce() -> anyhow::Result<Places>,
) -> anyhow::Result<Answer> {
    match command {
        Command::Status => status::run(&places().await?).await,
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Explain(args) => explain::run(args, places).await,
    }
}
