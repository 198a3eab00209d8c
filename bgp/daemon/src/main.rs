//! A small BGP daemon: the speaker with a configuration file instead of felix around it.
//!
//! It announces what the file says, and shows what it learns on its control socket; it sets no kernel routes.
//! SIGHUP has it read the file again: sessions whose settings are the same are not touched. SIGTERM ends it in
//! order.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use margay_bgpd::{RouteChange, Status, config, control};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::info;

/// Speaks BGP as a configuration file says.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(serve(&arguments.config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(file: &Path) -> anyhow::Result<()> {
    let config = read(file)?;
    let mut reload = signal(SignalKind::hangup()).context("cannot wait for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let (settings, driver_settings) = watch::channel(config.settings);
    let (route_sender, mut changes) = mpsc::channel(4);
    let (status_sender, status) = watch::channel(Status::default());
    let (routes, shown_routes) = watch::channel(control::Routes::default());
    if let Some(path) = &config.control {
        let listener =
            control::bind(path).with_context(|| format!("cannot answer at {}", path.display()))?;
        tokio::spawn(control::serve(listener, status, shown_routes));
    }
    let mut driver = tokio::spawn(margay_bgpd::run(
        driver_settings,
        route_sender,
        status_sender,
    ));
    loop {
        tokio::select! {
            Some(batch) = changes.recv() => routes.send_modify(|routes| keep(routes, batch)),
            _ = reload.recv() => match read(file) {
                Ok(config) => {
                    info!("configuration read again");
                    settings.send_replace(config.settings);
                }
                // What was read before stays in force.
                Err(error) => tracing::error!("{error:#}"),
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut driver => return ended.context("the speaker ended"),
        }
    }
    info!("shutting down");
    drop(settings);
    driver.await.context("the speaker ended")
}

fn read(file: &Path) -> anyhow::Result<config::Config> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(config::parse(file, &text)?)
}

fn keep(routes: &mut control::Routes, batch: Vec<RouteChange>) {
    for change in batch {
        tracing::debug!(prefix = %change.prefix, next_hops = ?change.next_hops, "route changed");
        if change.next_hops.is_empty() {
            routes.remove(&change.prefix);
        } else {
            routes.insert(change.prefix, change);
        }
    }
}
