//! `margayctl doctor`: looks for what keeps a node from working.
//!
//! Each topic has a file that reads facts from the kernel and judges them apart. What it reads is what
//! its own network namespace shows; a lab's node is examined from a thread inside the node's namespace.

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

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use margay_sync::status::NodeStatus;
use serde_json::json;

use self::finding::{Finding, Level};
use self::namespace::Namespace;
use crate::output::{Answer, Paint, count};
use crate::places::Places;

#[derive(Args)]
pub(crate) struct Doctor {
    /// Only this node [default: the node we are on; of a lab seen from outside, every node]
    #[arg(long)]
    node: Option<String>,
    /// The port of BGP
    #[arg(long, default_value_t = 179)]
    bgp_port: u16,
}

/// Who is examined.
struct Patient {
    name: String,
    /// Where it lives; `None` if that cannot be told, because its felix does not answer.
    namespace: Option<Namespace>,
    /// What its felix says; `None` if there is no socket of one.
    felix: Option<anyhow::Result<NodeStatus>>,
}

/// Examines this node, or the nodes of a lab; failed if something does not work.
pub(crate) async fn run(args: &Doctor, places: anyhow::Result<Places>) -> anyhow::Result<Answer> {
    let mut results = BTreeMap::new();
    for patient in patients(args, places).await? {
        let Patient {
            name,
            namespace,
            felix,
        } = patient;
        let bgp_port = args.bgp_port;
        let findings = match namespace {
            Some(namespace) => namespace.run(move || examine(felix.as_ref(), bgp_port))?,
            None => agent::examine(felix.as_ref()),
        };
        results.insert(name, findings);
    }
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
fn examine(felix: Option<&anyhow::Result<NodeStatus>>, bgp_port: u16) -> Vec<Finding> {
    let status = felix.and_then(|felix| felix.as_ref().ok());
    let uplinks = proc::uplinks(status);
    let mut findings = kernel::examine();
    findings.extend(forwarding::examine(&uplinks));
    findings.extend(port::examine(status, bgp_port));
    findings.extend(mtu::examine(&uplinks));
    findings.extend(firewall::examine());
    findings.extend(managers::examine());
    findings.extend(agent::examine(felix));
    findings.sort_by_key(|finding| (finding.level, finding.id));
    findings
}

fn render(results: &BTreeMap<String, Vec<Finding>>) -> String {
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
        for Finding {
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
