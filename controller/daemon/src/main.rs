//! `margay-controller`.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use margay_controller::args::Args;
use margay_controller::controller::Controller;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

/// What is logged unless `RUST_LOG` says otherwise. The client's own word on each failed request is left out: who made
/// the request tells, once.
const FILTER: &str = "info,kube_client=off";

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(FILTER)))
        .with_writer(std::io::stderr)
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
