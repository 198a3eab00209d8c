//! Two namespaces and a cable: our daemon in one, foreign ones in the other. All is gone when the value is dropped.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

/// Longer than any timer in these tests.
const PATIENCE: Duration = Duration::from_secs(40);
const NODE: &str = "mgbgp-n";
const ROUTER: &str = "mgbgp-r";
const MIDDLE: &str = "mgbgp-m";

/// A node that is host 1 (and 5 and 6) of 192.0.2.0/24 and `2001:db8::/64`, and a router that is 2 and 3, on one cable.
pub(crate) struct World {
    node: String,
    router: String,
    /// A router between the two, if there is one.
    middle: Option<String>,
    folder: tempfile::TempDir,
    margay: Option<Child>,
    foreign: Vec<(String, Child)>,
}

impl World {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_stale();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |prefix: &str| format!("{prefix}-{}-{number}", std::process::id());
        let world = Self {
            node: name(NODE),
            router: name(ROUTER),
            middle: None,
            folder: tempfile::tempdir().unwrap(),
            margay: None,
            foreign: Vec::new(),
        };
        for name in [&world.node, &world.router] {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let cable = [
            "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
        ];
        ip(&[&["-n", &world.node], &cable[..], &[&world.router]].concat());
        for (name, hosts) in [(&world.node, &[1, 5, 6][..]), (&world.router, &[2, 3])] {
            for host in hosts {
                let v4 = format!("192.0.2.{host}/24");
                ip(&["-n", name, "addr", "add", &v4, "dev", "eth0"]);
                let v6 = format!("2001:db8::{host}/64");
                ip(&["-n", name, "addr", "add", &v6, "dev", "eth0", "nodad"]);
            }
            let link_local = format!("fe80::{}/64", hosts[0]);
            ip(&[
                "-n",
                name,
                "addr",
                "add",
                &link_local,
                "dev",
                "eth0",
                "nodad",
            ]);
            ip(&["-n", name, "link", "set", "eth0", "up"]);
        }
        // For sessions between addresses that are on no common link.
        for (name, own, other) in [(&world.node, 1, 2), (&world.router, 2, 1)] {
            let (own, via) = (format!("203.0.113.{own}/32"), format!("192.0.2.{other}"));
            let other = format!("203.0.113.{other}/32");
            ip(&["-n", name, "addr", "add", &own, "dev", "lo"]);
            ip(&["-n", name, "route", "add", &other, "via", &via]);
        }
        // Daemons that give up root must get at their files.
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(world.folder.path(), everybody).unwrap();
        world
    }

    /// Puts a router between the loopback addresses of the two: packets that begin with a TTL of 1 end there.
    pub(crate) fn put_router_between(&mut self) {
        let middle = self.node.replacen(NODE, MIDDLE, 1);
        ip(&["netns", "add", &middle]);
        // Now, so that it is removed whatever happens.
        self.middle = Some(middle.clone());
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        run(Command::new("ip").args(["netns", "exec", &middle, "sh", "-c", forward]));
        for (name, own, other) in [(&self.node, 1, 2), (&self.router, 2, 1)] {
            let end = format!("eth{own}");
            let cable = [
                "link", "add", "eth1", "type", "veth", "peer", "name", &end, "netns", &middle,
            ];
            ip(&[&["-n", name], &cable[..]].concat());
            let (near, far) = (format!("198.19.{own}.1/24"), format!("198.19.{own}.254/24"));
            ip(&["-n", name, "addr", "add", &near, "dev", "eth1"]);
            ip(&["-n", name, "link", "set", "eth1", "up"]);
            ip(&["-n", &middle, "addr", "add", &far, "dev", &end]);
            ip(&["-n", &middle, "link", "set", &end, "up"]);
            let here = format!("203.0.113.{own}/32");
            ip(&[
                "-n",
                &middle,
                "route",
                "add",
                &here,
                "dev",
                &end,
                "via",
                &near[..near.len() - 3],
            ]);
            let there = format!("203.0.113.{other}/32");
            ip(&[
                "-n",
                name,
                "route",
                "replace",
                &there,
                "via",
                &far[..far.len() - 3],
            ]);
        }
    }

    /// A file of this world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts our daemon with this configuration (the control socket is added).
    pub(crate) fn start_margay(&mut self, config: &str) {
        self.write_config(config);
        let program = env!("CARGO_BIN_EXE_margay-bgpd");
        let config = self.path("margay.toml");
        let mut command = inside(&self.node, program);
        command.arg("--config").arg(config);
        self.margay = Some(command.spawn().unwrap());
    }

    /// Gives our running daemon another configuration.
    pub(crate) fn reload_margay(&self, config: &str) {
        self.write_config(config);
        self.signal_margay("-HUP");
    }

    /// Ends our daemon in order.
    pub(crate) fn stop_margay(&mut self) {
        self.signal_margay("-TERM");
        let status = self.margay.take().unwrap().wait().unwrap();
        assert!(status.success());
    }

    /// Kills our daemon without warning.
    pub(crate) fn kill_margay(&mut self) {
        let mut margay = self.margay.take().unwrap();
        margay.kill().unwrap();
        margay.wait().unwrap();
    }

    /// Sends a signal to the foreign daemon of that name.
    pub(crate) fn signal(&self, name: &str, signal: &str) {
        for (_, child) in self.foreign.iter().filter(|(other, _)| other == name) {
            run(Command::new("kill").args([signal, &child.id().to_string()]));
        }
    }

    fn signal_margay(&self, signal: &str) {
        let pid = self.margay.as_ref().unwrap().id().to_string();
        run(Command::new("kill").args([signal, &pid]));
    }

    fn write_config(&self, config: &str) {
        let control = self.path("margay.sock");
        let text = format!("control = {:?}\n{config}", control.to_str().unwrap());
        std::fs::write(self.path("margay.toml"), text).unwrap();
    }

    /// Starts a foreign daemon called `name` in the router's namespace.
    pub(crate) fn start(&mut self, name: &str, program: &str, arguments: &[&str]) {
        let mut command = inside(&self.router, program);
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        command
            .args(arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().unwrap();
        self.foreign.push((name.to_owned(), child));
    }

    /// Kills the foreign daemons of that name.
    pub(crate) fn kill(&mut self, name: &str) {
        for (_, mut child) in self.foreign.extract_if(.., |(other, _)| other == name) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What a command in the router's namespace says.
    pub(crate) fn ask_router(&self, program: &str, arguments: &[&str]) -> String {
        let output = inside(&self.router, program)
            .args(arguments)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        String::from_utf8_lossy(&output.stdout).into_owned() + &complaint
    }

    /// Writes a file and says where.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts a BIRD called `name`.
    pub(crate) fn start_bird(&mut self, name: &str, config: &str) {
        let config = self.write(&format!("{name}.conf"), config);
        let socket = self.path(name);
        let pid = self.path(&format!("{name}.pid"));
        let (at, pid) = (socket.to_str().unwrap(), pid.to_str().unwrap());
        self.start(name, "bird", &["-f", "-c", &config, "-s", at, "-P", pid]);
        wait_for("BIRD's socket", || UnixStream::connect(&socket).is_ok());
    }

    /// What BIRD answers to a command; it exits with 1 when a route is not there.
    pub(crate) fn birdc(&self, name: &str, command: &str) -> String {
        let mut birdc = Command::new("birdc");
        birdc
            .arg("-s")
            .arg(self.path(name))
            .args(command.split(' '));
        let output = birdc.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until BIRD's answer to a command contains a text.
    pub(crate) fn bird_says(&self, command: &str, text: &str) {
        wait_for(&format!("{command}: {text}"), || {
            self.birdc("bird", command).contains(text)
        });
    }

    /// Waits until BIRD has a route of the margay protocol to `prefix` with this next hop.
    pub(crate) fn bird_learns(&self, name: &str, prefix: &str, next_hop: &str) {
        let wanted = format!("via {next_hop} on eth0");
        wait_for(&format!("{name} has {prefix} {wanted}"), || {
            self.birdc(name, &format!("show route {prefix}"))
                .contains(&wanted)
        });
    }

    /// Waits until BIRD has no route to `prefix`.
    pub(crate) fn bird_forgets(&self, name: &str, prefix: &str) {
        wait_for(&format!("{name} has no {prefix}"), || {
            !self
                .birdc(name, &format!("show route {prefix}"))
                .contains("via ")
        });
    }

    /// Starts one more of our daemons, beside the first: host `host`, which dials and does not listen.
    pub(crate) fn start_another(&mut self, host: u8, config: &str) {
        let name = format!("another{host}");
        let control = self.path(&format!("{name}.sock"));
        let text = format!(
            "control = {:?}\nlisten = []\nrouter-id = \"192.0.2.{host}\"\n{config}",
            control.to_str().unwrap()
        );
        let config = self.write(&format!("{name}.toml"), &text);
        let mut command = inside(&self.node, env!("CARGO_BIN_EXE_margay-bgpd"));
        let child = command.args(["--config", &config]).spawn().unwrap();
        self.foreign.push((name, child));
    }

    /// What our daemon answers.
    pub(crate) fn ask(&self, path: &str) -> Option<Value> {
        self.ask_at("margay.sock", path)
    }

    /// What one of our daemons answers.
    pub(crate) fn ask_at(&self, socket: &str, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.path(socket)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: margay\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// Our status of a peer.
    pub(crate) fn peer(&self, name: &str) -> Option<Value> {
        Some(self.ask("/bgp")?["peers"][name].clone())
    }

    /// Waits until our daemon listens nowhere any more.
    pub(crate) fn until_it_listens_nowhere(&self) {
        wait_for("no listeners", || {
            self.ask("/bgp")
                .is_some_and(|page| page["listeners"] == serde_json::json!({}))
        });
    }

    /// Waits until our peer's status meets a condition.
    pub(crate) fn until_peer(&self, name: &str, what: &str, condition: impl Fn(&Value) -> bool) {
        let mut last = None;
        wait_with(
            || format!("{name}: {what}"),
            || {
                last = self.peer(name);
                last.as_ref().is_some_and(&condition)
            },
            || format!("{:?}", self.peer(name)),
        );
    }

    pub(crate) fn until_established(&self, name: &str) {
        self.until_peer(name, "established", |peer| peer["state"] == "Established");
    }

    /// Waits until our daemon has a route to `prefix` with exactly these next hops; none means no route.
    pub(crate) fn margay_learns(&self, prefix: &str, next_hops: &[&str]) {
        let found = || {
            let routes = self.ask("/bgp/routes")?;
            let mut routes = routes.as_array()?.clone().into_iter();
            routes.find(|route| route["prefix"] == prefix)
        };
        wait_with(
            || format!("{prefix} via {next_hops:?}"),
            || match found() {
                None => next_hops.is_empty(),
                Some(route) => route["next_hops"] == serde_json::json!(next_hops),
            },
            || format!("{:?}", self.ask("/bgp/routes")),
        );
    }

    /// Waits until the best path to `prefix` of one of our daemons meets a condition.
    pub(crate) fn until_path(
        &self,
        socket: &str,
        prefix: &str,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) {
        let paths =
            || Some(self.ask_at(socket, &format!("/bgp/routes/{prefix}"))?["paths"].clone());
        wait_with(
            || format!("{prefix}: {what}"),
            || paths().is_some_and(|paths| condition(&paths)),
            || format!("{:?}", paths()),
        );
    }

    /// Changes the node's routes.
    pub(crate) fn ip_route(&self, words: &[&str]) {
        ip(&[&["-n", &self.node, "route"], words].concat());
    }

    /// Leaves the cable no addresses but link-local ones.
    pub(crate) fn unnumber(&self) {
        for name in [&self.node, &self.router] {
            ip(&[
                "-n", name, "addr", "flush", "dev", "eth0", "scope", "global",
            ]);
            // A router says that it is one.
            let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
            run(Command::new("ip").args(["netns", "exec", name, "sh", "-c", forward]));
        }
    }

    /// Pulls the cable, or puts it back.
    pub(crate) fn link(&self, state: &str) {
        let cable = if self.middle.is_some() {
            "eth1"
        } else {
            "eth0"
        };
        ip(&["-n", &self.router, "link", "set", cable, state]);
    }

    /// What the foreign daemon of that name has logged.
    pub(crate) fn log(&self, name: &str) -> String {
        let log = std::fs::read(self.path(&format!("{name}.log"))).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until the foreign daemon of that name has logged all of these texts.
    pub(crate) fn until_logged(&self, name: &str, texts: &[&str]) {
        wait_with(
            || format!("{name} logs {texts:?}"),
            || {
                let log = self.log(name);
                texts.iter().all(|text| log.contains(text))
            },
            || self.log(name),
        );
    }

    /// What has passed between our daemon and a peer.
    pub(crate) fn traffic(&self, name: &str, what: &str) -> u64 {
        let peer = self.peer(name).unwrap();
        peer["traffic"][what].as_u64().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let foreign = self.foreign.drain(..).map(|(_, child)| child);
        for mut child in self.margay.take().into_iter().chain(foreign) {
            // Both fail only for a process that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in [Some(&self.node), Some(&self.router), self.middle.as_ref()]
            .into_iter()
            .flatten()
        {
            // Drop must not panic: a namespace left over is removed by the next run.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Removes namespaces of earlier runs that were killed.
fn remove_stale() {
    let list = run(Command::new("ip").args(["netns", "list"]));
    for line in String::from_utf8_lossy(&list.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let ours = [NODE, ROUTER, MIDDLE]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        let pid = ours.and_then(|rest| rest.split('-').nth(1));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another test may be quicker.
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command.stdout(Stdio::null());
    command
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    output
}

pub(crate) fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_with(|| what.to_owned(), condition, String::new);
}

pub(crate) fn wait_with(
    what: impl Fn() -> String,
    mut condition: impl FnMut() -> bool,
    found: impl Fn() -> String,
) {
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("waited in vain for: {}; found {}", what(), found());
}
