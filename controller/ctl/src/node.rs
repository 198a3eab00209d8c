//! `margayctl node cleanup`: takes away what Margay left on this machine.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use margay_netlink::{Batch, Connection, LinkRef};
use margay_nftnl::TableId;
use serde_json::json;

use crate::output::{Answer, count};

/// Links of pods begin so.
const LINKS: &str = "mgy";
/// Who entered a route: felix.
const ROUTES: u8 = 180;
const TABLE: &str = "margay";
const PLUGIN: &str = "margay-cni";
/// The plugin that ours stands in for where nobody has put one.
const STAND_IN: &str = "loopback";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Removes rules, links, routes, files and the CNI plugin of Margay from this machine, once felix is gone
    Cleanup(Cleanup),
}

#[derive(Args)]
pub(crate) struct Cleanup {
    /// The runtime's folder of CNI plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin: PathBuf,
    /// The network configuration that felix wrote
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/cni/net.d/10-margay.conflist"
    )]
    cni_config: PathBuf,
    /// felix' folder for what outlives a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/margay")]
    state: PathBuf,
}

/// Removes everything, and says what was there.
///
/// # Errors
/// felix still runs, or something cannot be removed: then what stands before it in the answer is gone already.
pub(crate) fn run(command: &Command, run: Option<&Path>) -> anyhow::Result<Answer> {
    let Command::Cleanup(Cleanup {
        cni_bin,
        cni_config,
        state,
    }) = command;
    let run = run.unwrap_or(Path::new("/run/margay"));
    if UnixStream::connect(run.join("felix.sock")).is_ok() {
        bail!(
            "felix runs on this machine and would put everything back: first `kubectl delete -f manifests/margay.yaml`"
        );
    }
    // The runtime shall not start pods through us any more.
    let mut removed = Vec::new();
    file(cni_config, &mut removed)?;
    let stand_in = cni_bin.join(STAND_IN);
    if fs::read_link(&stand_in).is_ok_and(|target| target == Path::new(PLUGIN)) {
        file(&stand_in, &mut removed)?;
    }
    file(&cni_bin.join(PLUGIN), &mut removed)?;
    kernel(&mut removed)?;
    for folder in [state.as_path(), run] {
        tree(folder, &mut removed)?;
    }
    let mut text = String::new();
    for what in &removed {
        text += "removed ";
        text += what;
        text += "\n";
    }
    text += if removed.is_empty() {
        "nothing of Margay's is on this machine\n"
    } else {
        "forwarding of packets was left as it is: others may need it\n"
    };
    Ok(Answer::new(text, json!({ "removed": removed })))
}

/// Rules, links and routes.
fn kernel(removed: &mut Vec<String>) -> anyhow::Result<()> {
    let mut connection = Connection::open().context("cannot speak with the kernel")?;
    let links = connection.links().context("cannot read the links")?;
    let links: Vec<_> = links
        .into_iter()
        .filter(|link| link.name.starts_with(LINKS))
        .collect();
    let mut batch = Batch::new();
    for link in &links {
        batch.delete_link(&LinkRef::Index(link.index));
    }
    connection.run(batch).context("cannot remove the links")?;
    // Routes over those links went with them.
    let routes = connection
        .routes(ROUTES)
        .context("cannot read the routes")?;
    let mut batch = Batch::new();
    for route in &routes {
        batch.delete_route(route);
    }
    connection.run(batch).context("cannot remove the routes")?;
    for (number, what) in [(links.len(), "link"), (routes.len(), "route")] {
        if number > 0 {
            removed.push(count(number, what));
        }
    }
    // The rules last: while there is a link, they hold.
    let mut socket = margay_nftnl::Socket::open().context("cannot speak with nf_tables")?;
    let table = TableId::inet(TABLE);
    let there = socket.table(&table).context("cannot read nf_tables")?;
    if there.is_some() {
        let mut batch = margay_nftnl::Batch::new(table, None);
        batch.delete_table();
        socket
            .commit(batch)
            .context("cannot remove the table inet margay")?;
        removed.push("table inet margay".to_owned());
    }
    Ok(())
}

fn file(path: &Path, removed: &mut Vec<String>) -> anyhow::Result<()> {
    note(path, fs::remove_file(path), removed)
}

fn tree(path: &Path, removed: &mut Vec<String>) -> anyhow::Result<()> {
    let outcome = match fs::remove_dir_all(path) {
        // Somebody mounted a disk of its own there: what was in it is gone.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            if fs::read_dir(path)?.next().is_none() {
                return Ok(());
            }
            Err(error)
        }
        outcome => outcome,
    };
    note(path, outcome, removed)
}

fn note(path: &Path, outcome: io::Result<()>, removed: &mut Vec<String>) -> anyhow::Result<()> {
    match outcome {
        Ok(()) => removed.push(path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
