//! `probe`: a world's probes as real packets, in a lab of its own.

use std::path::Path;

use anyhow::Result;
use margay_tests::lab::cluster::{Lab, Options};
use margay_tests::lab::objects::Objects;
use margay_tests::lab::probe::{externals_of, line, read};
use margay_tests::lab::prober::Effort;

use crate::words::{remark, show_line};

/// Prints every probe with its verdict; what is going on goes to standard error.
pub(crate) fn run(name: Option<String>, world: &Path, probes: &Path) -> Result<()> {
    let probes = read(probes)?;
    let objects = Objects::read(world)?;
    for problem in &objects.problems {
        remark(problem);
    }
    let flows: Vec<_> = probes.iter().map(|probe| probe.flow.clone()).collect();
    let externals = externals_of(&flows, &objects);
    let mut lab = Lab::up(Options {
        name,
        objects,
        externals,
        ..Options::default()
    })?;
    lab.start_pods(&lab.wanted_pods())?;
    lab.settle()?;
    let answers = lab.probe(&flows, Effort::default())?;
    for (probe, answer) in probes.iter().zip(&answers) {
        show_line(&line(probe, answer)?)?;
    }
    Ok(())
}
