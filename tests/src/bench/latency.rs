//! From a policy file's change until packets notice, on three nodes; and felix' size and start.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use margay_policy::model::PodId;
use margay_sync::status::NodeStatus;
use margay_tests::lab::clock::wait;
use margay_tests::lab::cluster::{Lab, Options};
use margay_tests::lab::objects::Objects;
use margay_tests::lab::prober::{Protocol, Shot};
use margay_tests::lab::traffic::{Kind, Samples, Traffic};
use serde_json::{Value, json};

use crate::report::{Report, Row, ms, now, percentile};

const CHANGES: usize = 60;
const PODS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a packet looks.
const EVERY: Duration = Duration::from_micros(500);

/// All rows of this table.
///
/// # Errors
/// If the lab cannot be raised or something never happens.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let mut lab = Lab::up(Options {
        objects: objects()?,
        ..Options::default()
    })?;
    let pods = lab.wanted_pods();
    lab.start_pods(&pods)?;
    lab.settle()?;
    lab.prober()?;
    let mut samples = changes(&mut lab)?;
    for (what, percent, reach) in [
        ("policy file changed until packets notice, p50", 50, 10.0),
        ("the same, p99", 99, 50.0),
    ] {
        add(
            report,
            what,
            ms(percentile(&mut samples, percent)),
            "ms",
            reach,
        );
    }
    size_and_start(&mut lab, report)
}

fn add(report: &mut Report, what: &str, ours: f64, unit: &'static str, reach: f64) {
    report.add(Row {
        what: what.to_owned(),
        ours,
        peer: None,
        peer_name: String::new(),
        unit,
        reach: format!("≤ {reach} {unit}"),
        reached: ours <= reach,
    });
}

/// Forbids and allows one port in turn while packets look twice a millisecond.
fn changes(lab: &mut Lab) -> Result<Vec<Duration>> {
    let client = lab.pod(&PodId::new("default", "client"))?.clone();
    let server = lab.pod(&PodId::new("default", "server"))?.clone();
    let shot = Shot {
        netns: lab.pod_netns(&PodId::new("default", "client"))?,
        source: client.address(true),
        destination: server
            .address(true)
            .context("the server has no IPv4 address")?,
        protocol: Protocol::Udp,
        port: 9000,
    };
    let traffic = Traffic::start(Kind::Datagrams, &[shot], EVERY)?;
    let mut taken = Vec::new();
    for round in 0..CHANGES {
        let allowed = round % 2 == 1;
        let document = policy(if allowed { 9000 } else { 9001 });
        let event = now();
        lab.apply(document)?;
        taken.push(wait("packets notice", PATIENCE, || {
            noticed(&traffic.snapshot()[0], event, allowed)
                .ok_or_else(|| "nothing changed".to_owned())
        })?);
    }
    traffic.stop()?;
    Ok(taken)
}

/// When the first packet after `event` had the new fate. A loss counts once a later packet had time for its answer.
fn noticed(samples: &Samples, event: Instant, allowed: bool) -> Option<Duration> {
    let settled = now().checked_sub(Duration::from_millis(50))?;
    if allowed {
        let answered = samples.0.iter().filter(|sample| sample.answered.is_some());
        return answered
            .filter_map(|sample| sample.sent.checked_duration_since(event))
            .min();
    }
    let lost = samples
        .0
        .iter()
        .filter(|sample| sample.answered.is_none() && sample.sent < settled);
    lost.filter_map(|sample| sample.sent.checked_duration_since(event))
        .min()
}

fn size_and_start(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let resident = resident_mb(lab.felix_pid("n1")?)?;
    add(
        report,
        "felix with BGP and 100 pods, resident",
        resident,
        "MB",
        15.0,
    );
    let mut starts = Vec::new();
    for _ in 0..5 {
        lab.kill_felix("n1")?;
        let begun = now();
        lab.start_felix("n1")?;
        wait("felix is in sync", PATIENCE, || in_sync(lab))?;
        starts.push(now().duration_since(begun));
    }
    add(
        report,
        "felix' start until in sync",
        ms(percentile(&mut starts, 50)),
        "ms",
        200.0,
    );
    Ok(())
}

fn in_sync(lab: &Lab) -> Result<(), String> {
    let status: NodeStatus = lab
        .ask_felix("n1", "/status")
        .map_err(|error| error.to_string())?;
    if status.realised.is_some() && status.realised == status.received {
        Ok(())
    } else {
        Err(format!(
            "received {:?}, realised {:?}",
            status.received, status.realised
        ))
    }
}

fn resident_mb(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn objects() -> Result<Objects> {
    let mut objects = Objects::default();
    for n in 1..=3 {
        objects.add(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{n}")}, "status": {"addresses": [
            {"type": "InternalIP", "address": format!("192.168.0.{n}")},
            {"type": "InternalIP", "address": format!("fd00:192:168::{n}")}]}}))?;
    }
    objects
        .add(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}))?;
    objects.add(pod("client", "n2"))?;
    objects.add(pod("server", "n3"))?;
    for n in 0..PODS {
        objects.add(pod(&format!("p{n}"), "n1"))?;
    }
    objects.add(policy(9000))?;
    Ok(objects)
}

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
           "metadata": {"namespace": "default", "name": name, "labels": {"app": name}},
           "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"containerPort": 9000, "protocol": "UDP"}]}]}})
}

/// Lets the client in on one port.
fn policy(port: u16) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"namespace": "default", "name": "server"},
           "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"],
                    "ingress": [{"from": [{"podSelector": {}}], "ports": [{"protocol": "UDP", "port": port}]}]}})
}
