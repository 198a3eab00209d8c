//! A node in a namespace of its own: felix with a snapshot on disk and no controller, the plugin, and pods.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);
const STEP: Duration = Duration::from_millis(5);

/// Where felix looks for its controller. Nobody is there unless a test is.
pub(crate) const CONTROLLER: &str = "127.0.0.1:9470";

/// The pods that the snapshot knows.
pub(crate) const PODS: [&str; 3] = ["front", "back", "fixed"];

pub(crate) struct Node {
    namespace: String,
    folder: tempfile::TempDir,
    felix: Option<Child>,
}

/// A sandbox of a pod.
pub(crate) struct Sandbox {
    pub(crate) container: String,
    pub(crate) pod: &'static str,
    namespace: String,
}

impl Node {
    /// A node whose felix serves.
    pub(crate) fn start() -> Self {
        let mut node = Self::stopped();
        node.start_felix();
        node
    }

    /// A node without felix.
    pub(crate) fn stopped() -> Self {
        let namespace = fresh_namespace();
        let own = [
            "-n",
            &namespace,
            "address",
            "add",
            "192.0.2.1/32",
            "dev",
            "lo",
        ];
        assert!(Command::new("ip").args(own).status().unwrap().success());
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        std::fs::write(folder.path().join("token"), "t").unwrap();
        std::fs::write(folder.path().join("ca.pem"), "").unwrap();
        std::fs::write(
            folder.path().join("state/stream.jsonl"),
            format!("{}\n", snapshot()),
        )
        .unwrap();
        Self {
            namespace,
            folder,
            felix: None,
        }
    }

    /// Starts felix and does not wait.
    pub(crate) fn launch_felix(&mut self) {
        let felix = env!("CARGO_BIN_EXE_margay-felix");
        let path = |name: &str| self.folder.path().join(name);
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace, felix])
            .args(["--node", "n1", "--controller", CONTROLLER])
            .arg("--ca")
            .arg(path("ca.pem"))
            .arg("--token-file")
            .arg(path("token"))
            .arg("--state")
            .arg(path("state"))
            .arg("--run")
            .arg(path("run"))
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(path("log"))
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        self.felix = Some(child);
    }

    pub(crate) fn start_felix(&mut self) {
        self.launch_felix();
        let socket = self.socket();
        eventually("felix serves CNI and has its rules in force", || {
            UnixStream::connect(&socket).is_ok() && self.plugin_status() == Some(0)
        });
    }

    fn plugin_status(&self) -> Option<i32> {
        self.plugin(&[("CNI_COMMAND", "STATUS")], &self.config("1.1.0"))
            .status
            .code()
    }

    /// Ends felix as a crash would.
    pub(crate) fn kill_felix(&mut self) {
        let mut child = self.felix.take().expect("felix runs");
        kill(Pid::from_raw(pid(&child)), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
    }

    /// Ends felix as an administrator would.
    pub(crate) fn stop_felix(&mut self) {
        let mut child = self.felix.take().expect("felix runs");
        kill(Pid::from_raw(pid(&child)), Signal::SIGTERM).unwrap();
        let mut ended = None;
        eventually("felix ends", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()));
    }

    /// felix' process in /proc.
    pub(crate) fn proc(&self) -> PathBuf {
        let child = self.felix.as_ref().expect("felix runs");
        format!("/proc/{}", pid(child)).into()
    }

    /// Whom felix trusts to be its controller.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/cni.sock")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn config(&self, version: &str) -> Value {
        json!({
            "cniVersion": version, "name": "margay", "type": "margay-cni",
            "socket": self.socket(), "state": self.state(),
        })
    }

    /// Runs the plugin as a runtime would.
    pub(crate) fn cni(&self, verb: &str, sandbox: &Sandbox, config: &Value) -> Answer {
        let namespace = format!("/run/netns/{}", sandbox.namespace);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=",
            sandbox.pod, sandbox.container
        );
        let output = self.plugin(
            &[
                ("CNI_COMMAND", verb),
                ("CNI_CONTAINERID", &sandbox.container),
                ("CNI_NETNS", &namespace),
                ("CNI_IFNAME", "eth0"),
                ("CNI_ARGS", &args),
                ("CNI_PATH", "/opt/cni/bin"),
            ],
            config,
        );
        Answer::from(output)
    }

    pub(crate) fn add(&self, sandbox: &Sandbox) -> Answer {
        self.cni("ADD", sandbox, &self.config("1.1.0"))
    }

    pub(crate) fn del(&self, sandbox: &Sandbox) -> Answer {
        self.cni("DEL", sandbox, &self.config("1.1.0"))
    }

    /// The plugin with this environment and configuration, in the node's namespace.
    pub(crate) fn plugin(&self, environment: &[(&str, &str)], config: &Value) -> Output {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .arg(plugin())
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(config.to_string().as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    /// `ip ARGS` in the node's namespace.
    pub(crate) fn ip(&self, args: &str) -> String {
        let output = Command::new("ip")
            .args(["-n", &self.namespace])
            .args(args.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "ip {args}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Does something in the node's namespace.
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace, body)
    }

    /// An object of felix' own socket.
    pub(crate) fn get(&self, path: &str) -> Value {
        let mut stream = UnixStream::connect(self.folder.path().join("run/felix.sock")).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: felix\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()))
    }

    /// Everything that pods leave behind: links, routes, neighbours, rules, files, addresses.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        for link in self.ip("-o link show").lines() {
            // Its index, then its name; whether it has a carrier settles later.
            traces.extend(link.split(' ').nth(1).map(str::to_owned));
        }
        for args in ["-4 route", "-6 route", "neigh"] {
            traces.extend(self.ip(args).lines().map(str::to_owned));
        }
        let ruleset = self.get("/ruleset");
        let ruleset = ruleset.as_str().expect("text");
        assert!(ruleset.contains("table inet margay"), "{ruleset}");
        // Epochs go on by design.
        let epochs = ["set epoch", "set window", "set stale", "chain stamp"];
        let parts = ruleset.split("\n\n");
        let parts = parts.filter(|part| !epochs.iter().any(|epoch| part.contains(epoch)));
        traces.extend(parts.map(str::to_owned));
        for folder in ["attachments", "tombstones"] {
            for entry in std::fs::read_dir(self.state().join(folder)).unwrap() {
                traces.push(entry.unwrap().path().display().to_string());
            }
        }
        traces.push(self.get("/status")["blocks"].to_string());
        traces.sort();
        traces
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("felix' log:\n{}", self.log());
        }
        if let Some(mut child) = self.felix.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        remove_namespace(&self.namespace);
    }
}

impl Sandbox {
    /// A namespace for a pod.
    pub(crate) fn new(pod: &'static str, container: &str) -> Self {
        Self {
            container: container.to_owned(),
            pod,
            namespace: fresh_namespace(),
        }
    }

    /// Does something inside.
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace, body)
    }

    pub(crate) fn ip(&self, args: &str) -> String {
        let output = Command::new("ip")
            .args(["-n", &self.namespace])
            .args(args.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "ip {args}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Removes the namespace, as a runtime that crashed might.
    pub(crate) fn destroy(&self) {
        remove_namespace(&self.namespace);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        remove_namespace(&self.namespace);
    }
}

/// What the plugin said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    /// Null if it said nothing.
    pub(crate) value: Value,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let value = if output.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&output.stdout).expect("standard output is JSON")
        };
        Self {
            success: output.status.success(),
            value,
        }
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn done(self) -> Value {
        assert!(self.success, "{:#}", self.value);
        self.value
    }

    /// The code and the words of a refusal.
    #[track_caller]
    pub(crate) fn refused(self) -> (u64, String) {
        assert!(!self.success, "{:#}", self.value);
        let code = self.value["code"].as_u64().expect("a code");
        (code, self.value.to_string())
    }

    /// The addresses of a result.
    pub(crate) fn addresses(value: &Value) -> Vec<String> {
        let ips = value["ips"].as_array().expect("ips").iter();
        let address = |ip: &Value| {
            ip["address"]
                .as_str()
                .unwrap()
                .split('/')
                .next()
                .unwrap()
                .to_owned()
        };
        ips.map(address).collect()
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if holds() {
            return;
        }
        std::thread::sleep(STEP);
    }
    panic!("not within {} s: {what}", PATIENCE.as_secs());
}

fn inside<T: Send>(namespace: &str, body: impl FnOnce() -> T + Send) -> T {
    let path = Path::new("/run/netns").join(namespace);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

pub(crate) fn snapshot() -> Value {
    let endpoint = |addresses: Value| json!({"uid": "", "addresses": addresses, "ingress": null, "egress": null});
    let pool = |cidr: &str| json!({"cidr": cidr, "nat_outgoing": false, "usable": true});
    json!({"type": "snapshot", "revision": {"run": "test", "count": 7}, "state": {
        "policy": {
            "endpoints": {
                "web/front": endpoint(json!([])),
                "web/back": endpoint(json!([])),
                "web/fixed": endpoint(json!(["172.31.7.7", "fd07::7"])),
            },
            "rule_lists": {}, "address_sets": {}, "service_sets": {},
        },
        "network": {
            "node": "n1", "addresses": ["192.0.2.1"],
            "pools": [pool("10.244.0.0/16"), pool("fd00:10:244::/56")],
            "blocks": ["10.244.1.0/26", "fd00:10:244::40/122"],
            "bgp": {"asn": 64512, "port": 179, "peers": {}},
        },
    }})
}

fn pid(child: &Child) -> i32 {
    child.id().try_into().unwrap()
}

fn fresh_namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "mgyfx-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    for args in [
        vec!["netns", "add", &name],
        vec!["-n", &name, "link", "set", "lo", "up"],
    ] {
        assert!(
            Command::new("ip").args(&args).status().unwrap().success(),
            "ip {args:?}: tests need root"
        );
    }
    name
}

fn remove_namespace(name: &str) {
    if Path::new("/run/netns").join(name).exists() {
        let _ = Command::new("ip").args(["netns", "del", name]).status();
    }
}

/// The plugin, beside felix; built if need be.
fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let felix = Path::new(env!("CARGO_BIN_EXE_margay-felix"));
        let release = felix
            .parent()
            .is_some_and(|folder| folder.ends_with("release"));
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "margay-cni"])
            .args(release.then_some("--release"))
            .status();
        assert!(built.unwrap().success());
        felix.with_file_name("margay-cni")
    })
}
