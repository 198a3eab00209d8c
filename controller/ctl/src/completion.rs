//! `margayctl completion SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::output::Answer;

#[derive(Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

/// The completion script.
pub(crate) fn run(args: &Completion) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::Cli::command(),
        "margayctl",
        &mut script,
    );
    Answer::plain(String::from_utf8_lossy(&script).into_owned())
}
