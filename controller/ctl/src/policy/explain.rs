//! `margayctl policy explain FROM TO PORT`: the verdict, what decided it, and how far other rules missed.

use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, anyhow};
use clap::Args;
use margay_policy::explain::{Check, Explanation, Kind, Trial, Tried, Who};
use margay_policy::flow::{End, Family, Flow, Transport};
use margay_policy::model::{Action, Cluster, Direction, Labels, Protocol};
use margay_policy::verdict::{Evaluator, FlowError, Judgement, Reason};
use serde_json::json;

use super::world;
use crate::output::{Answer, Misuse, Paint, count, list};
use crate::places::Places;

#[derive(Args)]
pub(crate) struct Explain {
    /// Who begins the connection: namespace/pod, node/NAME or an IP address
    from: End,
    /// Who is connected to: namespace/pod, node/NAME or an IP address
    to: End,
    /// tcp/5432, udp/dns (the pod's port of that name), sctp/9, icmp; tcp may be left away
    port: Port,
    /// 4 or 6 [default: both, where both ends have addresses]
    #[arg(long, value_parser = family)]
    family: Option<Family>,
    /// A folder of YAML instead of the cluster's objects
    #[arg(long, value_name = "DIR")]
    world: Option<PathBuf>,
}

/// Protocol and port as people write them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    protocol: Transport,
    number: Number,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Number {
    Number(u16),
    /// What the server calls it.
    Name(String),
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, port) = match text.split_once('/') {
            Some((protocol, port)) => (protocol.parse::<Transport>(), port),
            None => match text.parse() {
                Ok(protocol @ Transport::Icmp) => (Ok(protocol), "0"),
                Ok(_) | Err(_) => (Ok(Transport::Port(Protocol::Tcp)), text),
            },
        };
        let protocol = protocol.map_err(|error| error.to_string())?;
        let number = match (protocol, port.parse::<u16>()) {
            (Transport::Port(_), Ok(0)) => return Err("there is no port 0".to_owned()),
            (_, Ok(number)) => Number::Number(number),
            (Transport::Port(_), Err(_))
                if port.starts_with(|letter: char| letter.is_ascii_alphabetic()) =>
            {
                Number::Name(port.to_owned())
            }
            (_, Err(_)) => {
                return Err(format!(
                    "`{port}` is no port: write tcp/5432, udp/dns or icmp"
                ));
            }
        };
        Ok(Self { protocol, number })
    }
}

fn family(text: &str) -> Result<Family, String> {
    let number: u8 = text
        .parse()
        .map_err(|_| format!("`{text}` is no IP family: write 4 or 6"))?;
    Family::try_from(number).map_err(|error| error.to_string())
}

/// Explains the connection in every family that it can have.
///
/// # Errors
/// The objects cannot be had, or there can be no such connection.
pub(super) async fn run(
    args: Explain,
    places: impl AsyncFnOnce() -> anyhow::Result<Places>,
) -> anyhow::Result<Answer> {
    let cluster = if let Some(folder) = &args.world {
        world::read(folder)?.cluster
    } else {
        let places = places().await?;
        match &places.cluster {
            Some(cluster) => cluster.cluster().await?,
            None => places.controller.get::<Cluster>("/world").await.context(
                "cannot ask the controller for its objects; `--world DIR` explains a folder of YAML",
            )?,
        }
    };
    let evaluator = Evaluator::new(&cluster);
    let explanations = explain(&args, &evaluator)?;
    Ok(Answer::new(render_all(&explanations), json!(explanations)))
}

fn explain(args: &Explain, evaluator: &Evaluator) -> anyhow::Result<Vec<Explanation>> {
    let ports = numbers(&args.port, &args.to, evaluator)?;
    let families = match args.family {
        Some(family) => vec![family],
        None => vec![Family::V4, Family::V6],
    };
    let mut explanations = Vec::new();
    let mut refusal: Option<FlowError> = None;
    for family in families {
        for port in &ports {
            let flow = Flow {
                from: args.from.clone(),
                to: args.to.clone(),
                protocol: args.port.protocol,
                port: *port,
                family,
            };
            match evaluator.explain(&flow) {
                Ok(explanation) => explanations.push(explanation),
                // Of two families, the one in which an address was written says what is wrong.
                Err(error @ FlowError::WrongFamily { .. }) => refusal = refusal.or(Some(error)),
                Err(error) => refusal = Some(error),
            }
        }
    }
    match refusal {
        Some(error) if explanations.is_empty() => {
            let words = world::with_guess(&error, evaluator.cluster());
            Err(if world::is_mistake(&error) {
                Misuse(words).into()
            } else {
                anyhow!(words)
            })
        }
        Some(_) | None => Ok(explanations),
    }
}

/// The numbers that the port may be; several if the server gave several ports one name.
fn numbers(port: &Port, to: &End, evaluator: &Evaluator) -> anyhow::Result<Vec<u16>> {
    let name = match &port.number {
        Number::Number(number) => return Ok(vec![*number]),
        Number::Name(name) => name,
    };
    let id = match to {
        End::Pod(id) => Some(id),
        End::Address(address) => evaluator.owner(*address),
        End::Node(_) => None,
    };
    let Some(pod) = id.and_then(|id| evaluator.cluster().pods.get(id)) else {
        return Err(Misuse(format!(
            "`{name}` is the name of a port, which only a pod can have, and {to} is none"
        ))
        .into());
    };
    let found: Vec<u16> = pod
        .ports
        .iter()
        .filter(|port_of_pod| {
            port_of_pod.name.as_ref() == Some(name)
                && Transport::Port(port_of_pod.protocol) == port.protocol
        })
        .map(|port| port.number)
        .collect();
    if found.is_empty() {
        let all = pod.ports.iter().map(|port| {
            let name = port.name.as_deref().unwrap_or("unnamed");
            format!(
                "{}/{} ({name})",
                port.protocol.to_string().to_lowercase(),
                port.number
            )
        });
        let all = list(all, ", ");
        return Err(Misuse(format!(
            "{to} has no {} port of the name `{name}`; its ports: {all}",
            port.protocol
        ))
        .into());
    }
    Ok(found)
}

/// One after the other; a family that says the same as the one before only says so.
fn render_all(explanations: &[Explanation]) -> String {
    let mut text = String::new();
    for (index, explanation) in explanations.iter().enumerate() {
        let same = explanations[..index].iter().find(|earlier| {
            earlier.verdict == explanation.verdict && earlier.flow.port == explanation.flow.port
        });
        if index > 0 {
            text.push('\n');
        }
        if same.is_some() {
            let Explanation {
                flow,
                client,
                server,
                ..
            } = explanation;
            let _ = writeln!(
                text,
                "over {} ({} to {}): the same",
                flow.family, client.address, server.address
            );
        } else {
            render(&mut text, explanation);
        }
    }
    text
}

fn render(text: &mut String, explanation: &Explanation) {
    let Explanation {
        flow,
        verdict,
        client,
        server,
        egress,
        ingress,
    } = explanation;
    let _ = writeln!(text, "{flow}: {}\n", verdict_word(verdict.allow));
    let _ = writeln!(text, "  from  {}", who(client));
    let _ = writeln!(text, "  to    {}", who(server));
    for (judgement, tried) in [(&verdict.egress, egress), (&verdict.ingress, ingress)] {
        if let Some(judgement) = judgement {
            text.push('\n');
            render_direction(text, judgement, tried);
        }
    }
    if verdict.egress.is_none() && verdict.ingress.is_none() {
        text.push_str("\nneither end is a pod that policy can concern\n");
    }
}

fn verdict_word(allow: bool) -> String {
    if allow {
        Paint::Good.on("allow")
    } else {
        Paint::Bad.on("deny")
    }
}

fn who(Who { address, kind }: &Who) -> String {
    match kind {
        Kind::Pod {
            pod,
            node,
            labels,
            namespace_labels,
        } => {
            let node = node
                .as_ref()
                .map_or("no node".to_owned(), |node| format!("node {node}"));
            let namespace = namespace_labels
                .as_ref()
                .map_or("not known".to_owned(), label_words);
            format!(
                "pod {pod} ({address} on {node}; labels {}; labels of its namespace {namespace})",
                label_words(labels)
            )
        }
        Kind::Node { node } => format!("node {node} itself ({address}): no selector takes it"),
        Kind::External => format!("{address}, outside the cluster: no selector takes it"),
    }
}

fn label_words(labels: &Labels) -> String {
    let words = list(
        labels.iter().map(|(key, value)| format!("{key}={value}")),
        ",",
    );
    if words == "-" {
        "none".to_owned()
    } else {
        words
    }
}

fn render_direction(text: &mut String, judgement: &Judgement, tried: &[Tried]) {
    let Judgement {
        pod,
        direction,
        allow,
        chain: _,
        reason,
    } = judgement;
    let _ = write!(
        text,
        "{} of {pod}: {}",
        Paint::Head.on(direction),
        verdict_word(*allow)
    );
    match reason {
        Reason::NotIsolated => {
            let _ = writeln!(text, ", because no policy selects the pod for {direction}");
        }
        Reason::OwnNode => {
            let _ = writeln!(text, ", because the pod's own node may always reach it");
        }
        Reason::Rule { origin, tier } => {
            let _ = writeln!(text, " by {origin} (tier {tier})");
            let decided = tried.last().and_then(|tried| tried.rules.last());
            if let Some(trial) = decided {
                let _ = writeln!(text, "  {}; {}", trial.peer.wants, trial.port.wants);
            }
        }
        Reason::EndOfTier { tier, policies } => {
            let isolated = match policies.len() {
                1 => "one policy isolates the pod, and none of its rules matches".to_owned(),
                number => {
                    format!("{number} policies isolate the pod, and none of their rules matches")
                }
            };
            let _ = writeln!(text, ", because {isolated} (tier {tier}):");
            render_misses(text, *direction, tried);
        }
        Reason::Passed => {
            let _ = writeln!(text, ", because every tier passed it on:");
            render_misses(text, *direction, tried);
        }
    }
}

fn render_misses(text: &mut String, direction: Direction, tried: &[Tried]) {
    let other = match direction {
        Direction::Ingress => "client",
        Direction::Egress => "server",
    };
    let closest = tried
        .iter()
        .flat_map(|tried| &tried.rules)
        .filter(|trial| trial.action == Action::Allow)
        .map(Trial::distance)
        .min();
    for Tried {
        policy,
        tier: _,
        unclear,
        rules,
    } in tried
    {
        let rest = match rules.len() {
            0 => " has no rule, so it allows nothing".to_owned(),
            number => format!(" ({})", count(number, "rule")),
        };
        let _ = writeln!(text, "  {policy}{rest}");
        if *unclear {
            let _ = writeln!(
                text,
                "    selects the pod by a value that cannot be understood, so it allows nothing"
            );
        }
        for trial in rules {
            let Trial {
                rule,
                action,
                peer,
                port,
            } = trial;
            let near = *action == Action::Allow
                && Some(trial.distance()) == closest
                && tried_rules(tried) > 1;
            let near = if near {
                Paint::Warn.on("  <- closest")
            } else {
                String::new()
            };
            let action = match action {
                Action::Allow => "",
                Action::Deny => "deny ",
                Action::Pass => "pass ",
            };
            let _ = writeln!(
                text,
                "    [{rule}] {action}{}; {}{near}",
                peer.wants, port.wants
            );
            render_check(text, other, peer);
            render_check(text, "port", port);
        }
    }
}

fn tried_rules(tried: &[Tried]) -> usize {
    tried.iter().map(|tried| tried.rules.len()).sum()
}

fn render_check(text: &mut String, what: &str, Check { wants: _, misses }: &Check) {
    if misses.is_empty() {
        let _ = writeln!(text, "        {what} {}", Paint::Good.on("matches"));
    } else {
        let _ = writeln!(
            text,
            "        {what} {}: {}",
            Paint::Bad.on("misses"),
            misses.join("; ")
        );
    }
}

#[cfg(test)]
mod tests;
