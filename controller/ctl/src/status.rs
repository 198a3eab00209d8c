//! `margayctl status`.

use std::collections::BTreeMap;
use std::fmt::Write;

use margay_sync::status::{ControllerStatus, Link, NodeStatus, ObjectsPage};
use serde_json::json;

use crate::nodes::{self, Node, Nodes, Source};
use crate::output::{Answer, Paint, count, duration, list, table};
use crate::places::Places;
use crate::policy;

/// The controller, the nodes, and what is wrong with objects.
pub(crate) async fn run(places: &Places) -> anyhow::Result<Answer> {
    let mut status = places.controller.get::<ControllerStatus>("/status").await;
    if let Ok(status) = &mut status
        && !places.replicas.is_empty()
    {
        together(places, status).await?;
    }
    let objects = match &status {
        Ok(_) => places.controller.get::<ObjectsPage>("/objects").await?,
        Err(_) => ObjectsPage::default(),
    };
    let Nodes {
        nodes,
        controller: _,
    } = nodes::ask(places, None).await?;
    let mut text = match &status {
        Ok(status) => controller_line(status),
        Err(error) => format!("{} {error:#}\n", Paint::Bad.on("controller away:")),
    };
    text += "\n";
    text += &node_table(&nodes);
    for node in &nodes {
        text += &remarks(node);
    }
    text += &problems(&objects);
    let by_name: BTreeMap<&str, &Node> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node))
        .collect();
    let controller = match &status {
        Ok(status) => json!(status),
        Err(error) => json!({ "error": format!("{error:#}") }),
    };
    Ok(Answer::new(
        text,
        json!({ "controller": controller, "nodes": by_name, "objects": objects }),
    ))
}

/// Makes it what all replicas know together: agents speak with one of them each.
async fn together(places: &Places, status: &mut ControllerStatus) -> anyhow::Result<()> {
    for replica in &places.replicas {
        status.connected += replica.get::<ControllerStatus>("/status").await?.connected;
    }
    let policies = policy::status::ask(places).await?.policies;
    let realised = policies.values().filter(|policy| policy.waiting.is_empty());
    status.realised = u32::try_from(realised.count()).unwrap_or(u32::MAX);
    Ok(())
}

fn controller_line(status: &ControllerStatus) -> String {
    let ControllerStatus {
        version,
        run: _,
        uptime_seconds,
        folder,
        objects,
        ..
    } = status;
    let objects = list(
        objects
            .iter()
            .map(|(kind, number)| format!("{number} {kind}")),
        ", ",
    );
    let realised = format!(
        "{} of {} policies realised",
        status.realised, status.policies
    );
    let paint = if status.realised == status.policies {
        Paint::Good
    } else {
        Paint::Warn
    };
    format!(
        "{} {version}, up {}, {} of {} connected, {}\nwatching {folder}: {objects}\n",
        Paint::Head.on("controller"),
        duration(*uptime_seconds),
        status.connected,
        count(status.nodes as usize, "node"),
        paint.on(realised),
    )
}

fn node_table(nodes: &[Node]) -> String {
    table(
        [
            "NODE",
            "CONTROLLER",
            "REALISED",
            "PODS",
            "BLOCKS",
            "BGP",
            "DRIFT",
        ],
        nodes.iter().map(|node| match &node.status {
            Some(status) => row(node, status),
            None => [
                node.name.clone(),
                Paint::Bad.on("no answer"),
                "-".into(),
                "-".into(),
                node.view
                    .as_ref()
                    .map_or("-".into(), |view| list(&view.blocks, " ")),
                "-".into(),
                "-".into(),
            ],
        }),
    )
}

fn row(node: &Node, status: &NodeStatus) -> [String; 7] {
    let link = match (&node.source, &status.controller) {
        (Source::Felix, Link::Up) => Paint::Good.on("up"),
        (Source::Felix, Link::Down { .. }) => Paint::Bad.on("down"),
        (Source::Felix, Link::Unknown) => Paint::Warn.on("not tried yet"),
        (source @ Source::Controller { .. }, Link::Up) if source.is_fresh() => Paint::Good.on("up"),
        (Source::Controller { age, .. }, _) => Paint::Warn.on(format!("{} ago", duration(*age))),
        (Source::Nobody { .. }, _) => Paint::Bad.on("no answer"),
    };
    let established = status
        .peers
        .values()
        .filter(|peer| peer.state == "Established")
        .count();
    let all = status.peers.len();
    let paint = if established == all {
        Paint::Good
    } else {
        Paint::Bad
    };
    [
        node.name.clone(),
        link,
        realised(status),
        status.pods.len().to_string(),
        list(
            status
                .blocks
                .iter()
                .map(|(block, used)| format!("{block} ({used} used)")),
            " ",
        ),
        if all == 0 {
            "-".into()
        } else {
            paint.on(format!("{established}/{all}"))
        },
        if status.drift.is_empty() {
            "-".into()
        } else {
            format!("{} repaired", status.drift.len())
        },
    ]
}

/// How far the kernel is behind what felix received.
fn realised(status: &NodeStatus) -> String {
    match (&status.received, &status.realised) {
        (None, _) => Paint::Warn.on("nothing received"),
        (Some(_), None) => Paint::Bad.on("not yet"),
        (Some(received), Some(realised)) if received == realised => {
            Paint::Good.on(format!("revision {}", realised.count))
        }
        (Some(received), Some(realised)) => {
            Paint::Warn.on(format!("revision {} of {}", realised.count, received.count))
        }
    }
}

/// Below the table: the reasons that do not fit into it.
fn remarks(node: &Node) -> String {
    let mut text = String::new();
    let mut remark = |what: &str| {
        let _ = writeln!(text, "{} {what}", Paint::Warn.on(format!("{}:", node.name)));
    };
    match &node.source {
        Source::Felix => {}
        Source::Controller { reason, .. } if reason.is_empty() => {}
        Source::Controller { reason, .. } | Source::Nobody { reason } => remark(reason),
    }
    if let Some(Link::Down { reason }) = node.status.as_ref().map(|status| &status.controller) {
        remark(&format!("controller: {reason}"));
    }
    for (name, peer) in node.status.iter().flat_map(|status| &status.peers) {
        if peer.state != "Established" {
            remark(&format!(
                "BGP {name} ({}) is {}: {}",
                peer.address, peer.state, peer.reason
            ));
        }
    }
    text
}

fn problems(objects: &ObjectsPage) -> String {
    let mut text = String::new();
    for document in &objects.refused {
        let _ = writeln!(
            text,
            "{} {}:{}: {}{}",
            Paint::Bad.on("refused"),
            document.file,
            document.line,
            document.reason,
            if document.in_force.is_empty() {
                String::new()
            } else {
                format!(" (in force as before: {})", list(&document.in_force, ", "))
            }
        );
    }
    for object in &objects.objects {
        let name = match object.namespace.as_str() {
            "" => object.name.clone(),
            namespace => format!("{namespace}/{}", object.name),
        };
        for problem in &object.problems {
            let _ = writeln!(
                text,
                "{} {}:{}: {} {name}: {problem}",
                Paint::Warn.on("problem"),
                object.file,
                object.line,
                object.kind,
            );
        }
    }
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}
