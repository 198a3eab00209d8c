//! `exec`: a command inside a namespace of a standing lab.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use margay_policy::model::PodId;
use margay_tests::lab::cluster::Lab;

/// Becomes `command` inside `target`.
pub(crate) fn exec(name: &str, target: &str, command: &[String]) -> Result<ExitCode> {
    let lab = Lab::open(name)?;
    let netns = match target {
        "router" => lab.router(),
        "host" => lab.host(),
        pod if pod.contains('/') => lab.pod_netns(&PodId::try_from(pod.to_owned())?)?,
        node => lab
            .node(node)
            .context("a pod is written namespace/name; there are also `router` and `host`")?,
    };
    netns
        .enter()
        .with_context(|| format!("cannot enter {target}"))?;
    let (program, arguments) = command.split_first().context("no command")?;
    Err(Command::new(program).args(arguments).exec())
        .with_context(|| format!("cannot run {program}"))
}
