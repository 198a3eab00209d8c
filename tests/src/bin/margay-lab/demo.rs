//! `demo`: what Margay does, step by step, with what was expected beside what was seen.

mod matrix;
mod routes;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use margay_api::load::Key;
use margay_policy::model::PodId;
use margay_sync::status::NodeStatus;
use margay_tests::lab::clock::now;
use margay_tests::lab::cluster::{Lab, Options, Progress};
use margay_tests::lab::prober::{Protocol, Shot};
use margay_tests::lab::traffic::{Kind, Samples, Traffic};
use serde_json::{Value, json};

use crate::words::show_line;
use crate::world;
use matrix::Matrix;

/// The node whose felix is killed.
const VICTIM: &str = "n2";

/// Runs the demo; failure if anything seen was not as expected.
pub(crate) fn run(name: Option<String>) -> Result<ExitCode> {
    let start = now();
    show_line(
        "A cluster of three nodes, a router that runs BIRD and a host beyond it: all network namespaces.\n",
    )?;
    let progress = Progress(Box::new(move |step| {
        // Without a standard output there is nobody to tell.
        let _closed = said(start, step);
    }));
    let options = Options {
        name,
        objects: world::shop(),
        externals: world::externals(),
        progress,
        ..Options::default()
    };
    let mut lab = Lab::up(options)?;
    let pods = lab.wanted_pods();
    lab.start_pods(&pods)?;
    said(start, &format!("{} pods attached by CNI ADD", pods.len()))?;
    lab.settle()?;
    said(start, "policies in every kernel, routes everywhere")?;

    show_line("\na. Nodes, BGP sessions, and the routes as BIRD sees them\n")?;
    sessions(&lab)?;
    routes::show(&lab)?;

    show_line("\nb. Who reaches whom\n")?;
    let mut matrix = Matrix::new(&lab);
    matrix.look(&mut lab)?;
    matrix.show()?;
    said(start, &matrix.summary())?;
    let mut wrong = matrix.differences();

    show_line("\nc. A policy file is changed: only namespace `play` may reach the frontend\n")?;
    let noticed = tighten_frontend(&mut lab)?;
    lab.settle()?;
    let before = matrix.clone();
    matrix.look(&mut lab)?;
    matrix.show_changes(&before)?;
    said(start, &format!("{noticed}; {}", matrix.summary()))?;
    wrong += matrix.differences();

    show_line(&format!(
        "\nd. kill -9 of felix on {VICTIM} while pods talk, a policy change meanwhile, felix again\n"
    ))?;
    let lost = survive(&mut lab, start)?;
    let before = matrix.clone();
    matrix.look(&mut lab)?;
    matrix.show_changes(&before)?;
    said(
        start,
        &format!(
            "the change made meanwhile is in force: {}",
            matrix.summary()
        ),
    )?;
    wrong += matrix.differences();

    drop(lab);
    said(start, "everything is removed")?;
    show_line(
        "\ne. To play with it: `target/debug/margay-lab up`, then `margay-lab exec play/alice -- ping …`, `margay-lab apply -f …`,",
    )?;
    show_line(
        "   `target/debug/margayctl policy explain play/alice shop/db tcp/5432`, and `margay-lab down`.",
    )?;
    if wrong == 0 && lost == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    show_line(&format!(
        "\nNOT AS EXPECTED: {wrong} cells differ, {lost} packets were lost"
    ))?;
    Ok(ExitCode::FAILURE)
}

/// A step that is done, with the time since the beginning.
fn said(start: Instant, step: &str) -> Result<()> {
    show_line(&format!(
        "[{:6.2} s] {step}",
        now().duration_since(start).as_secs_f32()
    ))
}

fn sessions(lab: &Lab) -> Result<()> {
    for node in &lab.topology().nodes {
        let status: NodeStatus = lab.ask_felix(&node.name, "/status")?;
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        let blocks: Vec<String> = status.blocks.keys().map(ToString::to_string).collect();
        show_line(&format!(
            "  {}  {}  blocks {}",
            node.name,
            addresses.join(" "),
            blocks.join(" ")
        ))?;
        for (name, peer) in &status.peers {
            show_line(&format!(
                "      {name:<12} AS {} {:<16} {} ({} received, {} announced) {}",
                peer.asn, peer.address, peer.state, peer.received, peer.announced, peer.reason
            ))?;
        }
    }
    Ok(())
}

/// Narrows the frontend's ingress, and says how long new connections still got through.
fn tighten_frontend(lab: &mut Lab) -> Result<String> {
    let shot = shot(lab, "monitoring/grafana", "shop/frontend-1", 8080)?;
    let traffic = Traffic::start(Kind::Connections, &[shot], Duration::from_millis(1))?;
    let changed = now();
    let play =
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "play"}}}]);
    change(lab, "frontend", |spec| spec["ingress"][0]["from"] = play)?;
    lab.settle()?;
    traffic.wait_sent(10)?;
    let samples = traffic.stop()?;
    let first = samples
        .first()
        .and_then(|samples| samples.first_loss_after(changed));
    Ok(first.map_or_else(
        || "packets never noticed".to_owned(),
        |noticed| {
            format!(
                "packets noticed {:.1} ms after the file changed",
                noticed.as_secs_f32() * 1000.0
            )
        },
    ))
}

/// Kills felix under traffic, changes policies while it is down, and starts it again; packets lost.
fn survive(lab: &mut Lab, start: Instant) -> Result<usize> {
    let every = Duration::from_millis(1);
    let talk = Traffic::start(
        Kind::Datagrams,
        &[shot(lab, "shop/frontend-2", "shop/dns", 53)?],
        every,
    )?;
    let visits = Traffic::start(
        Kind::Connections,
        &[shot(lab, "play/alice", "shop/frontend-2", 8080)?],
        every * 5,
    )?;
    lab.kill_felix(VICTIM)?;
    said(
        start,
        &format!(
            "felix of {VICTIM} is dead; the frontend opens again, the backend may no longer pay outside"
        ),
    )?;
    change(lab, "frontend", |spec| {
        spec["ingress"][0]["from"].take();
    })?;
    change(lab, "backend", |spec| {
        spec["egress"].as_array_mut().map(Vec::pop);
    })?;
    lab.wait_read()?;
    talk.wait_sent(500)?;
    lab.start_felix(VICTIM)?;
    lab.wait_ready()?;
    lab.settle()?;
    talk.wait_sent(200)?;
    let samples: Vec<Samples> = [talk.stop()?, visits.stop()?].concat();
    let lost = samples.iter().map(Samples::lost).sum();
    let sent: Vec<String> = samples
        .iter()
        .map(|samples| samples.sent().to_string())
        .collect();
    said(
        start,
        &format!(
            "felix is back: of {} packets and connections {lost} were lost",
            sent.join(" + ")
        ),
    )?;
    Ok(lost)
}

/// Changes the spec of a policy of the shop, in its file.
fn change(lab: &mut Lab, name: &str, edit: impl FnOnce(&mut Value)) -> Result<()> {
    let key = Key {
        kind: "NetworkPolicy".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    };
    let mut document = lab
        .object(&key)
        .with_context(|| format!("the demo's world has {key}"))?
        .clone();
    edit(&mut document["spec"]);
    lab.apply(document).map(drop)
}

fn shot(lab: &Lab, from: &str, to: &str, port: u16) -> Result<Shot> {
    let (from, to) = (
        PodId::try_from(from.to_owned())?,
        PodId::try_from(to.to_owned())?,
    );
    Ok(Shot {
        netns: lab.pod_netns(&from)?,
        source: lab.pod(&from)?.address(true),
        destination: lab
            .pod(&to)?
            .address(true)
            .context("the demo's pods have IPv4 addresses")?,
        protocol: Protocol::Tcp,
        port,
    })
}
