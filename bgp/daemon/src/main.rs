//! A small BGP daemon: the speaker with a configuration file instead of felix around it.
//!
//! It announces what the file says, and shows what it learns on its control socket; it sets no kernel routes.
//! When the file changes, or on SIGHUP, it is read again: sessions whose settings are the same are not touched.
//! SIGTERM ends the daemon in order.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use margay_bgpd::{Questions, Status, config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

mod doors;

use doors::Doors;

/// How often to look whether the configuration has changed.
const LOOK: Duration = Duration::from_secs(1);

const USAGE: &str = "\
Speaks BGP as a configuration file says.

Usage: margay-bgpd --config <FILE.toml>

Options:
      --config <FILE.toml>  The configuration file (TOML)
  -h, --help                Print help
  -V, --version             Print version
";

/// What the command line asks for.
enum Asked {
    Speak { config: PathBuf },
    Help,
    Version,
}

/// Reads the command line: two options need no library, which would be a tenth of this program.
fn asked(mut arguments: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut config = None;
    while let Some(argument) = arguments.next() {
        let value = argument
            .to_str()
            .and_then(|text| text.strip_prefix("--config="));
        if let Some(value) = value {
            config = Some(value.into());
        } else if argument == "--config" {
            let value = arguments.next();
            config = Some(value.ok_or("--config needs a value: <FILE.toml>")?.into());
        } else if argument == "--help" || argument == "-h" {
            return Ok(Asked::Help);
        } else if argument == "--version" || argument == "-V" {
            return Ok(Asked::Version);
        } else {
            let argument = argument.to_string_lossy();
            return Err(format!("unexpected argument '{argument}'"));
        }
    }
    let config = config.ok_or("what to do is missing: --config <FILE.toml>")?;
    Ok(Asked::Speak { config })
}

#[expect(
    clippy::print_stdout,
    reason = "what was asked for at a terminal is answered there"
)]
fn main() -> ExitCode {
    let config = match asked(std::env::args_os().skip(1)) {
        Ok(Asked::Speak { config }) => config,
        Ok(Asked::Help) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Version) => {
            println!("margay-bgpd {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(complaint) => {
            eprint!("error: {complaint}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // No regular expressions, which would be a quarter of this program.
    let said = std::env::var("RUST_LOG").ok();
    let filter = said.and_then(|said| said.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .init();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(serve(&config)));
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
    // Nobody sets routes here.
    let (route_sender, _) = mpsc::channel(1);
    let (status_sender, status) = watch::channel(Status::default());
    let (questions, to_answer) = Questions::new();
    let mut doors = Doors::new(status, questions);
    let here = || file.display().to_string();
    doors.control(config.control).await.with_context(here)?;
    doors.metrics(config.metrics).await.with_context(here)?;
    let mut driver = tokio::spawn(margay_bgpd::run_with_questions(
        driver_settings,
        route_sender,
        status_sender,
        to_answer,
    ));
    let mut files = config.files;
    files.insert(file.to_owned());
    let mut seen = stamps(&files);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = reload.recv() => {}
            _ = look.tick() => if stamps(&files) == seen { continue },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut driver => return ended.context("the speaker ended"),
        }
        match read(file) {
            Ok(config) => {
                info!("configuration read again");
                for outcome in [
                    doors.control(config.control).await,
                    doors.metrics(config.metrics).await,
                ] {
                    if let Err(error) = outcome.with_context(here) {
                        tracing::error!("{error:#}");
                    }
                }
                files = config.files;
                files.insert(file.to_owned());
                settings.send_if_modified(|current| {
                    let modified = *current != config.settings;
                    *current = config.settings;
                    modified
                });
            }
            // What was read before stays in force.
            Err(error) => tracing::error!("{error:#}"),
        }
        seen = stamps(&files);
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

/// When each file was last changed, and how long it is; a file that is not there is another one too.
fn stamps(files: &BTreeSet<PathBuf>) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}
