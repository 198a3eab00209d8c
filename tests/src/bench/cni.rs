//! Pod starts: our plugin with policy in force beside the reference `ptp` with `host-local`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use margay_policy::model::PodId;
use margay_tests::lab::cluster::{Lab, Options};
use margay_tests::lab::guard::Scratch;
use margay_tests::lab::netns::Netns;
use margay_tests::lab::objects::Objects;
use margay_tests::lab::{cni, ip};
use serde_json::{Value, json};

use crate::report::{Report, Row, ms, now, percentile, time};

/// Where Debian's containernetworking-plugins are.
const PLUGINS: &str = "/usr/lib/cni";
const ALONE: usize = 60;
const TOGETHER: usize = 50;
const AT_ONCE: usize = 10;

/// Runs a verb for the pod of a number, in its namespace.
type Call<'a> = &'a (dyn Fn(&str, usize) -> Result<()> + Sync);

/// What one plugin needs, milliseconds.
struct Figures {
    add: f64,
    add_together: f64,
    delete: f64,
    delete_together: f64,
}

/// ADD and DEL, one by one and ten at once.
///
/// # Errors
/// If the lab cannot be raised or the reference plugins are missing.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let theirs = reference()?;
    let ours = ours()?;
    let again = reference()?;
    let rows = [
        (
            "CNI ADD alone, p50",
            ours.add,
            f64::min(theirs.add, again.add),
            3.0,
            3.0,
        ),
        (
            "CNI ADD, 10 at once, each",
            ours.add_together,
            f64::min(theirs.add_together, again.add_together),
            2.0,
            3.0,
        ),
        (
            "CNI DEL alone, p50",
            ours.delete,
            f64::min(theirs.delete, again.delete),
            f64::INFINITY,
            1.0,
        ),
        (
            "CNI DEL, 10 at once, each",
            ours.delete_together,
            f64::min(theirs.delete_together, again.delete_together),
            f64::INFINITY,
            1.0,
        ),
    ];
    for (what, ours, peer, limit, times) in rows {
        let most = if limit.is_finite() {
            format!("≤ {limit} ms, ")
        } else {
            String::new()
        };
        report.add(Row {
            what: what.to_owned(),
            ours,
            peer: Some(peer),
            peer_name: "ptp + host-local".to_owned(),
            unit: "ms",
            reach: format!("{most}≥ {times} × faster"),
            reached: ours <= limit && ours * times <= peer,
        });
    }
    Ok(())
}

fn ours() -> Result<Figures> {
    let pods = ALONE + TOGETHER;
    let mut objects = Objects::default();
    objects.add_text("bench", NODE_AND_POLICY);
    for n in 0..pods {
        objects.add(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "default", "name": format!("p{n}"), "uid": format!("uid-{n}"), "labels": {"app": "a"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
        }))?;
    }
    let lab = Lab::up(Options {
        objects,
        ..Options::default()
    })?;
    let folder = lab.node_folder("n1");
    let config = cni::config(
        "1.1.0",
        &folder.join("cni.sock").to_string_lossy(),
        &folder.join("state").to_string_lossy(),
    );
    let sandboxes = Sandboxes::new(pods)?;
    measure(&|verb, n| {
        let request = cni::Request {
            container: format!("bench{n:059}"),
            netns: Some(sandboxes.0[n].path()),
            interface: "eth0".to_owned(),
            pod: PodId::new("default", format!("p{n}")),
            uid: format!("uid-{n}"),
            config: config.clone(),
        };
        request.call(verb).map(drop)
    })
}

const NODE_AND_POLICY: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.0.1}, {type: InternalIP, address: 'fd00:192:168::1'}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]
  egress: [{to: [{podSelector: {}}]}]
";

/// The reference plugin in a host namespace of its own. Its state is host-local's.
fn reference() -> Result<Figures> {
    if !Path::new(PLUGINS).join("ptp").exists() {
        bail!("no {PLUGINS}/ptp: install the package containernetworking-plugins");
    }
    let host = Scratch::new();
    let netns = host.netns("host")?;
    ip::batch(netns.name(), &["link set lo up".to_owned()])?;
    let sandboxes = Sandboxes::new(ALONE + TOGETHER)?;
    let state = host.folder().join("host-local");
    let config = json!({
        "cniVersion": "1.0.0", "name": "bench", "type": "ptp", "ipMasq": false,
        "ipam": {"type": "host-local", "dataDir": state, "ranges": [[{"subnet": "10.9.0.0/16"}], [{"subnet": "fd00:9::/64"}]],
                 "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]},
    });
    netns.run(|| measure(&|verb, n| plugin(verb, n, &sandboxes.0[n], &config)))
}

fn plugin(verb: &str, n: usize, netns: &Netns, config: &Value) -> Result<()> {
    let mut child = Command::new(Path::new(PLUGINS).join("ptp"))
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", format!("bench{n:059}"))
        .env("CNI_NETNS", netns.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", PLUGINS)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start ptp")?;
    child
        .stdin
        .take()
        .context("ptp has no standard input")?
        .write_all(config.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ptp {verb}: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

fn measure(call: Call<'_>) -> Result<Figures> {
    let one_by_one = |verb| -> Result<f64> {
        let mut samples = Vec::new();
        for n in 0..ALONE {
            let (taken, result) = time(|| call(verb, n));
            result?;
            samples.push(taken);
        }
        Ok(ms(percentile(&mut samples, 50)))
    };
    Ok(Figures {
        add: one_by_one("ADD")?,
        delete: one_by_one("DEL")?,
        add_together: together(call, "ADD")?,
        delete_together: together(call, "DEL")?,
    })
}

/// Wall time of [`TOGETHER`] calls, [`AT_ONCE`] at a time, for each.
fn together(call: Call<'_>, verb: &str) -> Result<f64> {
    let here = std::fs::File::open("/proc/thread-self/ns/net")?;
    let next = Mutex::new(ALONE..ALONE + TOGETHER);
    let start = now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    // A new thread begins in its parent's namespace; say so for who reads this.
                    nix::sched::setns(&here, nix::sched::CloneFlags::CLONE_NEWNET)?;
                    loop {
                        let Some(n) = next.lock().expect("no call panics").next() else {
                            return anyhow::Ok(());
                        };
                        call(verb, n)?;
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no call panics"))
    })?;
    let taken: Duration = now().duration_since(start);
    Ok(ms(taken) / f64::from(u32::try_from(TOGETHER)?))
}

/// Namespaces for pods, removed on drop.
struct Sandboxes(
    Vec<Netns>,
    #[expect(dead_code, reason = "held for its drop")] Scratch,
);

impl Sandboxes {
    fn new(count: usize) -> Result<Self> {
        let scratch = Scratch::new();
        let netns = (0..count)
            .map(|n| scratch.netns(&format!("s{n}")))
            .collect::<Result<_>>()?;
        Ok(Self(netns, scratch))
    }
}
