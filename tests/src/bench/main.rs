//! `margay-bench`: the project's figures, each beside a peer's from the same run.
//!
//! `margay-bench [TABLE …]` runs all tables or those named, prints rows and writes
//! `target/bench/TABLE.json`. Exit status 1 if a row missed what it is to reach.

mod cni;
mod compile;
mod latency;
mod nft;
mod packets;
mod report;
mod routes;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use report::Report;

/// Name and program of a table. Pod starts come first: a table leaves namespaces with all that is in them, which the kernel takes down
/// behind its back while the next is measured.
type Table = (&'static str, fn(&mut Report) -> Result<()>);

const TABLES: &[Table] = &[
    ("cni", cni::run),
    ("latency", latency::run),
    ("compile", |report| {
        compile::run(report);
        Ok(())
    }),
    ("nft", nft::run),
    ("packets", packets::run),
    ("routes", routes::run),
];

fn main() -> Result<ExitCode> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !TABLES.iter().any(|(table, _)| table == name))
    {
        let known: Vec<&str> = TABLES.iter().map(|(table, _)| *table).collect();
        bail!(
            "there is no table `{unknown}`; there are {}",
            known.join(", ")
        );
    }
    let mut reached = true;
    for (name, run) in TABLES {
        if !wanted.is_empty() && !wanted.iter().any(|it| it == name) {
            continue;
        }
        let mut report = Report::default();
        run(&mut report)?;
        report.save(Path::new("target/bench"), name)?;
        reached &= report.reached();
    }
    Ok(if reached {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
