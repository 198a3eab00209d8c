//! `margayctl doctor`: looks for what keeps a node from working.
//!
//! Each topic has a file that reads facts from the kernel and judges them apart. What it reads is what
//! its own network namespace shows; a lab's node is examined from a thread inside the node's namespace, a cluster's by
//! the margayctl in its felix' pod.

mod agent;
mod finding;
mod firewall;
mod forwarding;
mod kernel;
mod managers;
mod mtu;
mod namespace;
mod port;
mod proc;
mod remote;

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use margay_sync::status::NodeStatus;
use serde_json::json;

use self::finding::{Finding, Level, Told, warning};
use self::namespace::Namespace;
use crate::output::{Answer, Paint, count};
use crate::places::Places;

#[derive(Args)]
pub(crate) struct Doctor {
    /// Only this node [default: the node we are on; of a lab or a cluster seen from outside, every node]
    #[arg(long)]
    node: Option<String>,
    /// The port of BGP
    #[arg(long, default_value_t = 179)]
    bgp_port: u16,
    /// We are in felix' pod, asked by a margayctl outside
    #[arg(long, hide = true)]
    in_pod: bool,
}

/// How much of the node is seen.
#[derive(Clone, Copy)]
enum Sight {
    /// All.
    Whole,
    /// What felix' pod shares with it: the network and the kernel, but neither programs nor other processes.
    OfPod,
}

/// What was found, by node.
type Results = BTreeMap<String, Vec<Told>>;

/// Who is examined.
struct Patient {
    name: String,
    /// Where it lives; `None` if that cannot be told, because its felix does not answer.
    namespace: Option<Namespace>,
    /// What its felix says; `None` if there is no socket of one.
    felix: Option<anyhow::Result<NodeStatus>>,
}

/// Examines this node, or the nodes of a lab or a cluster; failed if something does not work.
pub(crate) async fn run(args: &Doctor, places: anyhow::Result<Places>) -> anyhow::Result<Answer> {
    let results = match places {
        Ok(places) if places.cluster.is_some() => remote::examine(args, &places).await?,
        places => examine_here(args, places).await?,
    };
    let failed = results
        .values()
        .flatten()
        .any(|finding| finding.level == Level::Failure);
    Ok(Answer {
        text: render(&results),
        data: Some(json!(results)),
        failed,
    })
}

/// What is found on nodes that are on this machine.
async fn examine_here(args: &Doctor, places: anyhow::Result<Places>) -> anyhow::Result<Results> {
    let sight = if args.in_pod {
        Sight::OfPod
    } else {
        Sight::Whole
    };
    let mut results = Results::new();
    for patient in patients(args, places).await? {
        let Patient {
            name,
            namespace,
            felix,
        } = patient;
        let bgp_port = args.bgp_port;
        let findings = match namespace {
            Some(namespace) => namespace.run(move || examine(felix.as_ref(), bgp_port, sight))?,
            None => agent::examine(felix.as_ref()),
        };
        results.insert(name, findings.into_iter().map(Told::from).collect());
    }
    Ok(results)
}

/// The nodes to examine. Without any socket: the machine as it is, before an installation.
async fn patients(args: &Doctor, places: anyhow::Result<Places>) -> anyhow::Result<Vec<Patient>> {
    let places = match (places, &args.node) {
        (Ok(places), _) => places,
        (Err(error), Some(_)) => return Err(error),
        (Err(_), None) => {
            return Ok(vec![Patient {
                name: "this machine".to_owned(),
                namespace: Some(Namespace::Own),
                felix: None,
            }]);
        }
    };
    let mut here = Vec::new();
    let mut elsewhere = Vec::new();
    let all = match args.node {
        None if places.nodes.is_empty() => Vec::new(),
        _ => places.felix(args.node.as_deref())?,
    };
    for (name, socket) in &all {
        let felix = Some(socket.get::<NodeStatus>("/status").await);
        // Without an answer: a node that was asked for by name, or the only one, is taken to be this one.
        let namespace = socket
            .path()
            .and_then(Namespace::of)
            .or((args.node.is_some() || all.len() == 1).then_some(Namespace::Own));
        let list = match namespace {
            Some(Namespace::Own) => &mut here,
            Some(Namespace::Process(_)) | None => &mut elsewhere,
        };
        list.push(Patient {
            name: (*name).to_owned(),
            namespace,
            felix,
        });
    }
    if !here.is_empty() {
        return Ok(here);
    }
    if elsewhere.is_empty() {
        return Ok(vec![Patient {
            name: "this machine".to_owned(),
            namespace: Some(Namespace::Own),
            felix: None,
        }]);
    }
    Ok(elsewhere)
}

/// Runs in the namespace of the node.
fn examine(
    felix: Option<&anyhow::Result<NodeStatus>>,
    bgp_port: u16,
    sight: Sight,
) -> Vec<Finding> {
    let status = felix.and_then(|felix| felix.as_ref().ok());
    let uplinks = proc::uplinks(status);
    let mut findings = kernel::examine();
    findings.extend(forwarding::examine(&uplinks));
    findings.extend(port::examine(status, bgp_port));
    findings.extend(mtu::examine(&uplinks));
    match sight {
        Sight::Whole => {
            findings.extend(firewall::examine());
            findings.extend(managers::examine());
        }
        Sight::OfPod => findings.push(warning(
            "MGY-D009",
            "seen from felix' pod, which shows neither other tables of nftables nor network managers",
            "chains of other tables may drop what ours lets through, and a manager may undo links and routes",
            "copy margayctl to the node for these two, and run there: sudo margayctl doctor",
        )),
    }
    findings.extend(agent::examine(felix));
    findings.sort_by_key(|finding| (finding.level, finding.id));
    findings
}

fn render(results: &Results) -> String {
    let mut text = String::new();
    for (node, findings) in results {
        let (failures, warnings): (Vec<_>, Vec<_>) = findings
            .iter()
            .partition(|finding| finding.level == Level::Failure);
        let verdict = match (failures.len(), warnings.len()) {
            (0, 0) => Paint::Good.on("nothing found"),
            (0, warnings) => Paint::Warn.on(count(warnings, "warning")),
            (failures, 0) => Paint::Bad.on(count(failures, "failure")),
            (failures, warnings) => Paint::Bad.on(format!(
                "{}, {}",
                count(failures, "failure"),
                count(warnings, "warning")
            )),
        };
        let _ = writeln!(text, "{}: {verdict}", Paint::Head.on(node));
        for Told {
            id,
            level,
            what,
            reason,
            fix,
        } in findings
        {
            let paint = match level {
                Level::Failure => Paint::Bad,
                Level::Warning => Paint::Warn,
            };
            let _ = writeln!(
                text,
                "  {} {what}\n      why: {reason}\n      fix: {fix}",
                paint.on(id)
            );
        }
    }
    text
}
