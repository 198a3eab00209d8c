//! What a speaker says on its socket, in felix or in a `margay-bgpd`: sessions, routes with all attributes, what a
//! peer tells and is told.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::client::Socket;
use crate::output::{Answer, Misuse, Paint, duration, list, table};
use crate::places::Places;
use crate::similar::did_you_mean;

/// Where a `margay-bgpd` answers as a rule.
const USUAL: &str = "/run/margay-bgpd.sock";

/// Whose speaker is meant.
#[derive(Args)]
pub(super) struct Where {
    /// Only the speaker of this node [default: of every node that can be asked]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// The control socket of a margay-bgpd, instead of felix'
    #[arg(long, value_name = "PATH", conflicts_with = "node")]
    socket: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Routes {
    /// Only what packets to this address take, or this prefix
    wanted: Option<String>,
    /// What this peer has told us instead, behind the import filter
    #[arg(long, value_name = "PEER", conflicts_with = "wanted")]
    received: Option<String>,
    /// What this peer is told instead, as it sees it
    #[arg(long, value_name = "PEER", conflicts_with_all = ["wanted", "received"])]
    advertised: Option<String>,
    #[command(flatten)]
    at: Where,
}

#[derive(Args)]
pub(crate) struct Peer {
    /// Its name
    name: String,
    #[command(flatten)]
    at: Where,
}

/// Sockets to ask, each with the node that it is of; `None` is a `margay-bgpd`'s.
type Sockets = Vec<(Option<String>, Socket)>;

impl Where {
    async fn sockets(
        self,
        places: impl AsyncFnOnce() -> anyhow::Result<Places>,
    ) -> anyhow::Result<Sockets> {
        if let Some(path) = self.socket {
            return Ok(vec![(None, at(path))]);
        }
        let found = match places().await {
            Ok(places) => places.felix(self.node.as_deref()).map(|found| {
                let found = found.into_iter();
                found
                    .map(|(node, socket)| (Some(node.to_owned()), socket.clone()))
                    .collect()
            }),
            Err(error) => Err(error),
        };
        match found {
            Err(_) if self.node.is_none() && Path::new(USUAL).exists() => {
                Ok(vec![(None, at(USUAL.into()))])
            }
            found => found,
        }
    }
}

/// Puts together what several sockets said: one alone stands for itself.
fn together(mut answers: Vec<(Option<String>, String, Value)>) -> Answer {
    if answers.len() == 1
        && let Some((_, text, data)) = answers.pop()
    {
        return Answer::new(text, data);
    }
    let mut all = String::new();
    let mut data = serde_json::Map::new();
    for (node, text, value) in answers {
        let node = node.unwrap_or_default();
        let _ = writeln!(all, "{}\n{text}", Paint::Head.on(&node));
        data.insert(node, value);
    }
    Answer::new(all, Value::Object(data))
}

fn at(path: PathBuf) -> Socket {
    Socket::new(path, "margay-bgpd")
}

/// All sessions.
pub(super) async fn sessions(socket: PathBuf) -> anyhow::Result<Answer> {
    let page: Value = at(socket).get("/bgp").await?;
    let mut text = table(
        [
            "PEER", "ADDRESS", "AS", "STATE", "SINCE", "IN", "OUT", "FAMILIES", "REASON",
        ],
        peers(&page).map(|(name, peer)| {
            [
                name.clone(),
                word(&peer["address"]),
                word(&peer["asn"]),
                state(peer),
                duration(peer["since_seconds"].as_u64().unwrap_or_default()),
                word(&peer["received"]),
                word(&peer["announced"]),
                words(&peer["families"], " "),
                word(&peer["reason"]),
            ]
        }),
    );
    if text.is_empty() {
        text.push_str("no peers\n");
    }
    for (name, peer) in peers(&page) {
        for said in [&peer["hint"]]
            .into_iter()
            .chain(peer["notes"].as_array().into_iter().flatten())
        {
            let said = word(said);
            if said != "-" {
                let _ = writeln!(text, "{} {said}", Paint::Warn.on(format!("{name}:")));
            }
        }
    }
    for (place, listener) in page["listeners"].as_object().into_iter().flatten() {
        if listener["state"] != "up" {
            let place = Paint::Bad.on(format!("{place}:"));
            let _ = writeln!(text, "{place} {}", word(&listener["reason"]));
        }
    }
    Ok(Answer::new(text, page))
}

/// One session, with all that is known of it.
pub(super) async fn peer(
    Peer { name, at }: Peer,
    places: impl AsyncFnOnce() -> anyhow::Result<Places>,
) -> anyhow::Result<Answer> {
    let mut answers = Vec::new();
    let mut names = BTreeSet::new();
    for (node, socket) in at.sockets(places).await? {
        let page: Value = socket.get("/bgp").await?;
        names.extend(peers(&page).map(|(name, _)| name.clone()));
        if let Some((_, peer)) = peers(&page).find(|(other, _)| **other == name) {
            answers.push((node, one_peer(&name, peer), peer.clone()));
        }
    }
    if answers.is_empty() {
        let guess = did_you_mean(&name, names.iter().map(String::as_str));
        let there = list(&names, ", ");
        return Err(Misuse(format!("there is no peer `{name}`{guess}; peers: {there}")).into());
    }
    Ok(together(answers))
}

fn one_peer(name: &str, peer: &Value) -> String {
    let traffic = &peer["traffic"];
    let bfd = &peer["bfd"];
    let since = duration(peer["since_seconds"].as_u64().unwrap_or_default());
    let rows = [
        ("address", word(&peer["address"])),
        ("AS", word(&peer["asn"])),
        ("state", format!("{} for {since}", state(peer))),
        ("reason", word(&peer["reason"])),
        ("hint", word(&peer["hint"])),
        ("notes", words(&peer["notes"], "; ")),
        ("identifier", word(&peer["bgp_id"])),
        ("our address", word(&peer["local_address"])),
        ("hold time", word(&peer["hold_time"])),
        ("hold timer", seconds(&peer["hold_left_seconds"])),
        ("next dial in", seconds(&peer["dial_in_seconds"])),
        ("families", words(&peer["families"], " ")),
        ("capabilities", words(&peer["capabilities"], ", ")),
        ("several paths in", words(&peer["paths_in"], " ")),
        ("several paths out", words(&peer["paths_out"], " ")),
        ("End-of-RIB", words(&peer["end_of_rib"], " ")),
        ("range", word(&peer["range"])),
        ("sessions so far", word(&peer["sessions"])),
        ("routes received", word(&peer["received"])),
        ("routes announced", word(&peer["announced"])),
        (
            "UPDATEs in, out",
            format!(
                "{}, {}",
                word(&traffic["updates_in"]),
                word(&traffic["updates_out"])
            ),
        ),
        (
            "octets in, out",
            format!(
                "{}, {}",
                word(&traffic["octets_in"]),
                word(&traffic["octets_out"])
            ),
        ),
        ("bad UPDATEs", word(&peer["errors"])),
        ("UPDATEs not used", word(&peer["refused"])),
        (
            "BFD",
            if bfd.is_null() {
                "-".to_owned()
            } else {
                format!(
                    "{}, the peer {}; lost after {} ms of silence",
                    word(&bfd["state"]),
                    word(&bfd["remote_state"]),
                    word(&bfd["detection_time_ms"])
                )
            },
        ),
    ];
    let rows = rows.map(|(what, value)| [what.to_owned(), value]);
    table([name, ""], rows)
}

/// The table, a part of it, or what a peer tells or is told.
pub(super) async fn routes(
    routes: Routes,
    places: impl AsyncFnOnce() -> anyhow::Result<Places>,
) -> anyhow::Result<Answer> {
    let Routes {
        wanted,
        received,
        advertised,
        at,
    } = routes;
    let page = match (&wanted, &received, &advertised) {
        (Some(wanted), _, _) => format!("/bgp/routes/{wanted}"),
        (None, Some(peer), _) => format!("/bgp/peers/{peer}/received"),
        (None, None, Some(peer)) => format!("/bgp/peers/{peer}/advertised"),
        (None, None, None) => "/bgp/routes".to_owned(),
    };
    let mut answers = Vec::new();
    let sockets = at.sockets(places).await?;
    let several = sockets.len() > 1;
    for (node, socket) in sockets {
        match socket.get::<Value>(&page).await {
            Ok(data) => answers.push((node, rendered(&data), data)),
            // Not every node has this route, or this peer.
            Err(error) if several => {
                answers.push((node, format!("{error:#}\n"), Value::Null));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(together(answers))
}

fn rendered(data: &Value) -> String {
    let all = data
        .as_array()
        .map_or(std::slice::from_ref(data), Vec::as_slice);
    let rows = all
        .iter()
        .flat_map(|route| match route["paths"].as_array() {
            Some(paths) => paths
                .iter()
                .map(|path| row(&route["prefix"], path))
                .collect(),
            None => vec![row(&route["prefix"], route)],
        });
    let mut text = table(
        [
            "",
            "PREFIX",
            "NEXT HOP",
            "FROM",
            "AS PATH",
            "PREF",
            "MED",
            "COMMUNITIES",
            "WHY",
        ],
        rows,
    );
    if text.is_empty() {
        text.push_str("no routes\n");
    }
    text
}

fn row(prefix: &Value, path: &Value) -> [String; 9] {
    let is = |what: &str| path[what] == true;
    let mark = match (is("selected"), is("stale")) {
        (true, true) => "*s",
        (true, false) => "*",
        (false, true) => "s",
        (false, false) => "",
    };
    let communities = ["communities", "large_communities", "extended_communities"];
    let communities: Vec<String> = communities
        .into_iter()
        .flat_map(|kind| path[kind].as_array().into_iter().flatten().map(word))
        .collect();
    [
        mark.to_owned(),
        word(prefix),
        word(&path["next_hop"]),
        word(&path["peer"]),
        word(&path["as_path"]),
        word(&path["local_pref"]),
        word(&path["med"]),
        communities.join(" "),
        word(&path["why"]),
    ]
}

fn peers(page: &Value) -> impl Iterator<Item = (&String, &Value)> {
    page["peers"].as_object().into_iter().flatten()
}

fn state(peer: &Value) -> String {
    let paint = if peer["state"] == "Established" {
        Paint::Good
    } else {
        Paint::Bad
    };
    paint.on(word(&peer["state"]))
}

/// A value for people; a dash for nothing.
fn word(value: &Value) -> String {
    match value.as_str() {
        Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
        None if value.is_null() => "-".to_owned(),
        None => value.to_string(),
    }
}

/// Of what a daemon older than this program may not tell.
fn seconds(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), duration)
}

fn words(values: &Value, separator: &str) -> String {
    crate::output::list(values.as_array().into_iter().flatten().map(word), separator)
}

#[cfg(test)]
mod tests;
