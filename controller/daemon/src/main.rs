//! `margay-controller`.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use margay_controller::args::Args;
use margay_controller::controller::Controller;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is logged unless `RUST_LOG` says otherwise. The client's own word on each failed request is left out: who made
/// the request tells, once.
fn usual() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("kube_client", LevelFilter::OFF)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let said = std::env::var("RUST_LOG").ok();
    let filter = said.and_then(|said| said.parse().ok());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter.unwrap_or_else(usual)))
        .init();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let signalled = async {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM"),
                _ = interrupt.recv() => info!("SIGINT"),
            }
        };
        let mut signalled = std::pin::pin!(signalled);
        let controller = tokio::select! {
            controller = Controller::start(args.into()) => controller?,
            // Nobody has been served yet.
            () = &mut signalled => return Ok(()),
        };
        signalled.await;
        controller.stop().await;
        Ok(())
    })
}
