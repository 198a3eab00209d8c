//! `up`, `down`, `status`, `apply`, `delete`: a lab that stands between commands.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Result, bail};
use margay_api::load::Key;
use margay_policy::model::PodId;
use margay_sync::status::NodeStatus;
use margay_tests::lab::cluster::{Lab, Options, Progress};
use margay_tests::lab::guard;
use margay_tests::lab::objects::Objects;

use crate::words::{remark, say};

/// Raises a lab and leaves it standing.
pub(crate) fn up(name: &str, world: Option<&Path>, external: Vec<IpAddr>) -> Result<()> {
    let objects = match world {
        Some(folder) => Objects::read(folder)?,
        None => crate::world::shop(),
    };
    for problem in &objects.problems {
        remark(problem);
    }
    let mut externals: BTreeSet<IpAddr> = external.into_iter().collect();
    if externals.is_empty() {
        externals = crate::world::externals();
    }
    let progress = Progress(Box::new(|step| remark(format_args!("  {step}"))));
    let options = Options {
        name: Some(name.to_owned()),
        objects,
        externals,
        progress,
        ..Options::default()
    };
    let mut lab = Lab::up(options)?;
    lab.serve_apart(&std::env::current_exe()?)?;
    lab.start_pods(&lab.wanted_pods())?;
    lab.settle()?;
    lab.keep()?;
    status(name)?;
    say(&format!(
        "\nIt stays up until `margay-lab down`. Its objects are in {}/{name}/world.",
        guard::RUN
    ))?;
    say(
        "Next: margay-lab exec POD -- ping ADDRESS; margayctl status; margayctl policy explain FROM TO tcp/80",
    )
}

/// Removes a lab.
pub(crate) fn down(name: &str) -> Result<()> {
    if !Path::new(guard::RUN).join(name).exists() {
        bail!("no lab `{name}` is up");
    }
    guard::remove(name)?;
    say(&format!("lab `{name}` is removed"))
}

/// Shows a lab.
pub(crate) fn status(name: &str) -> Result<()> {
    let lab = Lab::open(name)?;
    say(&format!(
        "{:<10} {:<32} {:<12} BGP",
        "NODE", "ADDRESSES", "FELIX"
    ))?;
    for node in &lab.topology().nodes {
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        let (felix, sessions) = match lab.ask_felix::<NodeStatus>(&node.name, "/status") {
            Ok(status) => {
                let up = status
                    .peers
                    .values()
                    .filter(|peer| peer.state == "Established")
                    .count();
                let felix = if status.realised == status.received {
                    "in sync"
                } else {
                    "behind"
                };
                (
                    felix.to_owned(),
                    format!("{up} of {} sessions up", status.peers.len()),
                )
            }
            Err(error) => ("away".to_owned(), format!("{error:#}")),
        };
        say(&format!(
            "{:<10} {:<32} {felix:<12} {sessions}",
            node.name,
            addresses.join(" ")
        ))?;
    }
    say(&format!("\n{:<28} {:<10} ADDRESSES", "POD", "NODE"))?;
    for (id, pod) in lab.pods() {
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        say(&format!(
            "{:<28} {:<10} {}",
            id.to_string(),
            pod.node,
            addresses.join(" ")
        ))?;
    }
    let externals: Vec<String> = lab
        .topology()
        .externals
        .iter()
        .map(ToString::to_string)
        .collect();
    say(&format!(
        "\nhost beyond the router: {}",
        externals.join(" ")
    ))
}

/// Creates or changes objects, and starts or restarts pods accordingly.
pub(crate) fn apply(name: &str, file: &Path) -> Result<()> {
    let mut lab = Lab::open(name)?;
    let objects = Objects::read(file)?;
    let before = lab.cluster();
    for (key, document) in &objects.documents {
        lab.apply(document.clone())?;
        say(&format!("{key} applied"))?;
    }
    for key in objects.documents.keys().filter(|key| key.kind == "Pod") {
        let id = pod_id(key);
        let after = lab.cluster();
        if let Ok(record) = lab.pod(&id) {
            let old = before.pods.get(&id);
            let new = after.pods.get(&id);
            let same_place = new.is_some_and(|new| {
                !new.finished
                    && new.node.as_ref().is_some_and(|node| node.0 == record.node)
                    && old.is_none_or(|old| {
                        old.ports == new.ports && old.host_network == new.host_network
                    })
                    && new.addresses == record.addresses
            });
            if same_place {
                continue;
            }
            lab.stop_pods(std::slice::from_ref(&id))?;
        }
        if lab.wanted_pods().contains(&id) {
            lab.start_pods(std::slice::from_ref(&id))?;
            say(&format!("pod {id} started"))?;
        }
    }
    refuse_problems(&objects)
}

/// Deletes objects, and ends pods among them.
pub(crate) fn delete(name: &str, file: &Path) -> Result<()> {
    let mut lab = Lab::open(name)?;
    let objects = Objects::read(file)?;
    for key in objects.documents.keys() {
        let id = pod_id(key);
        if key.kind == "Pod" && lab.pod(&id).is_ok() {
            lab.stop_pods(std::slice::from_ref(&id))?;
        }
        lab.delete(key)?;
        say(&format!("{key} deleted"))?;
    }
    refuse_problems(&objects)
}

fn refuse_problems(objects: &Objects) -> Result<()> {
    if objects.problems.is_empty() {
        Ok(())
    } else {
        bail!("{}", objects.problems.join("\n"))
    }
}

fn pod_id(key: &Key) -> PodId {
    PodId::new(key.namespace.clone(), key.name.clone())
}
