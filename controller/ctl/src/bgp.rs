//! `margayctl bgp`: sessions, with the reason when one is down; routes with all attributes; one session in full.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use margay_sync::message::Family;
use margay_sync::status::PeerStatus;
use serde_json::{Map, Value, json};
use tokio::time::{MissedTickBehavior, interval};

mod speaker;

use crate::nodes::{self, Node, Source};
use crate::output::{Answer, Format, Paint, colours, duration, list, remark, table};
use crate::places::Places;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// State of each session; the reason and what to look at when it is down
    Status(Status),
    /// The speaker's table: all paths with their attributes, and why one is preferred
    Routes(speaker::Routes),
    /// One session in full: capabilities, timers, counters
    Peer(speaker::Peer),
}

#[derive(Args)]
pub(crate) struct Status {
    /// Only the sessions of this node [default: of all nodes]
    node: Option<String>,
    /// Go on until interrupted: on a terminal redraw each second, elsewhere print each change
    #[arg(short, long)]
    watch: bool,
    /// The control socket of a margay-bgpd, instead of felix'
    #[arg(long, value_name = "PATH", conflicts_with_all = ["node", "watch"])]
    socket: Option<PathBuf>,
}

/// The sessions, once or until interrupted.
pub(crate) async fn run(
    command: Command,
    places: impl AsyncFnOnce() -> anyhow::Result<Places>,
    format: Format,
) -> anyhow::Result<Answer> {
    let (node, watch) = match command {
        Command::Routes(routes) => return speaker::routes(routes, places).await,
        Command::Peer(peer) => return speaker::peer(peer, places).await,
        Command::Status(Status {
            socket: Some(socket),
            ..
        }) => return speaker::sessions(socket).await,
        Command::Status(Status { node, watch, .. }) => (node, watch),
    };
    let places = places().await?;
    if watch {
        let never = follow(node.as_deref(), &places, format).await?;
        match never {}
    }
    sessions(node.as_deref(), &places).await
}

async fn sessions(node: Option<&str>, places: &Places) -> anyhow::Result<Answer> {
    let found = nodes::ask(places, node).await?;
    if let Err(error) = &found.controller {
        // Only what the nodes' own sockets said is shown then; that may be all there is to know.
        if places.nodes.is_empty() {
            remark(format_args!("{error:#}"));
        }
    }
    Ok(Answer::new(render(&found.nodes), data(&found.nodes)))
}

/// Shows the sessions again and again.
async fn follow(node: Option<&str>, places: &Places, format: Format) -> anyhow::Result<Infallible> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = None;
    loop {
        ticks.tick().await;
        let answer = match sessions(node, places).await {
            Ok(answer) => answer,
            Err(error) => Answer::plain(format!("{error:#}\n")),
        };
        // Seconds pass in every session; only the rest is a change worth printing.
        let state = (
            answer.data.clone().map(without_clock),
            answer.data.is_none().then(|| answer.text.clone()),
        );
        let redraw = std::io::stdout().is_terminal() && format == Format::Table;
        if !redraw && shown.as_ref() == Some(&state) {
            continue;
        }
        shown = Some(state);
        let text = answer.render(format, colours())?;
        let home = if redraw { "\x1b[H\x1b[J" } else { "" };
        let mut out = std::io::stdout().lock();
        write!(out, "{home}{text}")
            .and_then(|()| out.flush())
            .context("cannot write the answer")?;
    }
}

fn without_clock(mut data: Value) -> Value {
    for node in data.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(node) = node.as_object_mut() {
            node.remove("age");
            for peer in node
                .get_mut("peers")
                .and_then(Value::as_object_mut)
                .into_iter()
                .flat_map(Map::values_mut)
            {
                if let Some(peer) = peer.as_object_mut() {
                    peer.remove("since_seconds");
                }
            }
        }
    }
    data
}

fn data(nodes: &[Node]) -> Value {
    nodes
        .iter()
        .map(|node| {
            let mut value = json!(node.source);
            if let Some(value) = value.as_object_mut() {
                let peers = node.status.as_ref().map(|status| &status.peers);
                value.insert("peers".to_owned(), json!(peers));
            }
            (node.name.clone(), value)
        })
        .collect::<Map<String, Value>>()
        .into()
}

fn render(nodes: &[Node]) -> String {
    let rows = nodes.iter().flat_map(|node| {
        node.status
            .iter()
            .flat_map(|status| &status.peers)
            .map(|(name, peer)| row(node, name, peer))
    });
    let mut text = table(
        [
            "NODE", "PEER", "ADDRESS", "AS", "STATE", "SINCE", "IN", "OUT", "FAMILIES", "REASON",
        ],
        rows,
    );
    for node in nodes {
        match (&node.source, &node.status) {
            (Source::Nobody { reason }, _) => {
                let _ = writeln!(
                    text,
                    "{} {reason}",
                    Paint::Bad.on(format!("{}:", node.name))
                );
            }
            (source @ Source::Controller { .. }, _) if source.is_fresh() => {}
            (Source::Controller { age, reason }, _) => {
                let why = if reason.is_empty() {
                    String::new()
                } else {
                    format!(": {reason}")
                };
                let _ = writeln!(
                    text,
                    "{} as reported {} ago{why}",
                    Paint::Warn.on(format!("{}:", node.name)),
                    duration(*age)
                );
            }
            (Source::Felix, Some(status)) if status.peers.is_empty() => {
                let _ = writeln!(
                    text,
                    "{}: no peers (no other node, and no BGPPeer selects it)",
                    node.name
                );
            }
            (Source::Felix, _) => {}
        }
        for (name, peer) in node.status.iter().flat_map(|status| &status.peers) {
            if peer.state != "Established" && !peer.hint.is_empty() {
                let _ = writeln!(
                    text,
                    "{} {}",
                    Paint::Warn.on(format!("{} {name}:", node.name)),
                    peer.hint
                );
            }
        }
    }
    text
}

fn row(node: &Node, name: &str, peer: &PeerStatus) -> [String; 10] {
    let PeerStatus {
        address,
        asn,
        state,
        reason,
        hint: _,
        since_seconds,
        received,
        announced,
        families,
    } = peer;
    let paint = match (node.source.is_fresh(), state.as_str()) {
        (true, "Established") => Paint::Good,
        (true, _) => Paint::Bad,
        // It was so when the node reported.
        (false, _) => Paint::Warn,
    };
    [
        node.name.clone(),
        name.to_owned(),
        address.to_string(),
        asn.to_string(),
        paint.on(state),
        duration(*since_seconds),
        received.to_string(),
        announced.to_string(),
        list(
            families.iter().map(|family| match family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            }),
            " ",
        ),
        reason.clone(),
    ]
}
