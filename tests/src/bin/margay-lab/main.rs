//! `margay-lab`: a cluster of network namespaces on this machine, to look at, to play with, to test.

mod args;
mod demo;
mod exec;
mod pod;
mod probe;
mod serve;
mod standing;
mod words;
mod world;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let said = std::env::var("RUST_LOG").ok();
    let filter = said.and_then(|said| said.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    // Where a panic aborts, no guard's drop removes the lab.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if cfg!(panic = "abort") {
            margay_tests::lab::guard::remove_live();
        }
    }));
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            if !error.is::<words::Unread>() {
                words::remark(format_args!("margay-lab: {error:#}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let given = arguments.name;
    let name = given.as_deref().unwrap_or("lab");
    match arguments.command {
        Command::Up { world, external } => standing::up(name, world.as_deref(), external)?,
        Command::Down => standing::down(name)?,
        Command::Status => standing::status(name)?,
        Command::Exec { target, command } => return exec::exec(name, &target, &command),
        Command::Apply { file } => standing::apply(name, &file)?,
        Command::Delete { file } => standing::delete(name, &file)?,
        Command::Pod { command } => pod::run(name, command)?,
        Command::Probe { world, probes } => probe::run(given, &world, &probes)?,
        Command::Demo => return demo::run(given),
        Command::Serve => serve::run(name)?,
    }
    Ok(ExitCode::SUCCESS)
}
