//! Nodes of a cluster, each examined by the margayctl in its felix' pod.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::finding::Told;
use super::{Doctor, Results, agent};
use crate::client::Socket;
use crate::places::Places;
use crate::remote::Said;

/// Nodes that are examined at a time.
const AT_ONCE: usize = 16;
/// How long one may take: it dials peers that do not answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is found on the cluster's nodes. One whose pod does not do it has that as its finding.
///
/// # Errors
/// There is no such node, or none at all.
pub(super) async fn examine(args: &Doctor, places: &Places) -> anyhow::Result<Results> {
    let mut results = Results::new();
    for some in places.felix(args.node.as_deref())?.chunks(AT_ONCE) {
        let mut asked = JoinSet::new();
        for (node, socket) in some {
            let (node, socket, port) = ((*node).to_owned(), (*socket).clone(), args.bgp_port);
            asked.spawn(async move {
                let found = ask(&socket, port).await.unwrap_or_else(|error| {
                    let findings = agent::examine(Some(&Err(error)));
                    findings.into_iter().map(Told::from).collect()
                });
                (node, found)
            });
        }
        results.extend(asked.join_all().await);
    }
    Ok(results)
}

async fn ask(socket: &Socket, bgp_port: u16) -> anyhow::Result<Vec<Told>> {
    let pod = socket
        .pod()
        .with_context(|| format!("{socket} is in no pod"))?;
    let doctor = format!("doctor --in-pod --run /run/margay --bgp-port {bgp_port} -o json");
    let said = timeout(PATIENCE, pod.margayctl(doctor.split(' ')))
        .await
        .map_err(|_| anyhow!("{pod} did not answer within {} s", PATIENCE.as_secs()))??;
    let found = read(&said);
    found.map_err(|error| anyhow!("{pod}: {error:#}"))
}

/// What another margayctl printed: it names the node in its own way, and fails if it finds a failure.
fn read(said: &Said) -> anyhow::Result<Vec<Told>> {
    match serde_json::from_slice::<Results>(&said.stdout) {
        Ok(results) => Ok(results.into_values().flatten().collect()),
        Err(_) if !said.stderr.is_empty() => bail!("{}", said.stderr),
        Err(error) => Err(error).context(
            "its margayctl answers with something else than this one expects; are both of the same version?",
        ),
    }
}

#[cfg(test)]
mod tests;
