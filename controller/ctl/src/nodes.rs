//! What is known of each node: from its felix where we reach it, else what it last told the controller.

use std::collections::BTreeMap;

use clap::Args;
use margay_sync::status::{NodeStatus, NodeView, NodesPage};
use serde::Serialize;

use crate::places::{Places, unknown_node};

#[derive(Args)]
pub(crate) struct Which {
    /// Only this node [default: every node that can be asked]
    pub(crate) node: Option<String>,
}

/// A node as far as it can be seen from here.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Who told us.
    #[serde(flatten)]
    pub(crate) source: Source,
    /// What it says of itself.
    pub(crate) status: Option<NodeStatus>,
    /// What the controller says of it; `None` if that is away or does not know the node.
    #[serde(skip)]
    pub(crate) view: Option<NodeView>,
}

/// Who told us about a node.
#[derive(Debug, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub(crate) enum Source {
    /// Its felix, now.
    Felix,
    /// The controller, from the node's last report.
    Controller {
        /// How old that is, in seconds.
        age: u64,
        /// Why not its felix, in words; empty if it has no socket here.
        reason: String,
    },
    /// Nobody, for this reason.
    Nobody {
        /// In words.
        reason: String,
    },
}

/// A felix that is well reports more often than this, in seconds.
const FRESH: u64 = 60;

impl Source {
    /// Whether it is as good as asking now: from a node that has no socket here and reported lately.
    pub(crate) fn is_fresh(&self) -> bool {
        match self {
            Self::Felix => true,
            Self::Controller { age, reason } => *age < FRESH && reason.is_empty(),
            Self::Nobody { .. } => false,
        }
    }
}

/// All nodes, or one, and why the controller could not be asked if so.
pub(crate) struct Nodes {
    /// By name.
    pub(crate) nodes: Vec<Node>,
    /// What the controller's socket said.
    pub(crate) controller: anyhow::Result<()>,
}

/// Asks every felix, and the controller about the others.
///
/// # Errors
/// There is no node `only`, or nobody answers at all.
pub(crate) async fn ask(places: &Places, only: Option<&str>) -> anyhow::Result<Nodes> {
    let page = places.controller.get::<NodesPage>("/nodes").await;
    let (views, controller) = match page {
        Ok(page) => (page.nodes, Ok(())),
        Err(error) => (BTreeMap::new(), Err(error)),
    };
    let mut views: BTreeMap<String, NodeView> = views
        .into_iter()
        .map(|(name, view)| (name.0, view))
        .collect();
    let mut nodes = Vec::new();
    for (name, socket) in &places.nodes {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        nodes.push(match socket.get::<NodeStatus>("/status").await {
            Ok(status) => {
                // A machine's host name need not be the node's.
                let named = status.node.as_ref().map(|node| node.0.clone());
                let name = named.unwrap_or_else(|| name.clone());
                Node {
                    view: views.remove(&name),
                    name,
                    source: Source::Felix,
                    status: Some(status),
                }
            }
            Err(error) => reported(name.clone(), views.remove(name), &format!("{error:#}")),
        });
    }
    let known: Vec<String> = places.nodes.keys().chain(views.keys()).cloned().collect();
    for (name, view) in views {
        if only.is_none_or(|only| only == name) {
            nodes.push(reported(name, Some(view), ""));
        }
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if nodes.is_empty() {
        controller?;
        if let Some(only) = only {
            return Err(unknown_node(only, known.iter().map(String::as_str)).into());
        }
        return Ok(Nodes {
            nodes,
            controller: Ok(()),
        });
    }
    Ok(Nodes { nodes, controller })
}

/// A node whose felix cannot be asked from here.
fn reported(name: String, view: Option<NodeView>, reason: &str) -> Node {
    let report = view.as_ref().and_then(|view| view.report.clone());
    let age = view.as_ref().and_then(|view| view.report_age_seconds);
    let source = match (&report, age) {
        (Some(_), Some(age)) => Source::Controller {
            age,
            reason: reason.to_owned(),
        },
        (_, _) if reason.is_empty() => Source::Nobody {
            reason: "it has not reported to this controller yet".to_owned(),
        },
        (_, _) => Source::Nobody {
            reason: reason.to_owned(),
        },
    };
    Node {
        name,
        source,
        status: report,
        view,
    }
}
