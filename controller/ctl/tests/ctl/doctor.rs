//! `margayctl doctor` inside network namespaces with something wrong in each. Needs root.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tempfile::TempDir;

/// What the doctor finds in a namespace: exit status, and findings by id.
type Found = (i32, Vec<(String, String)>);

/// What the doctor finds in a new namespace after the shell commands `setup`.
fn findings(setup: &str) -> Found {
    let setup = setup.to_owned();
    in_namespace(move || {
        sh(&setup);
        examine()
    })
}

/// Runs `work` in a network namespace of its own that forwards; it goes with the thread.
fn in_namespace(work: impl FnOnce() -> Found + Send + 'static) -> Found {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("making a network namespace takes root");
        sh("ip link set lo up
            echo 1 > /proc/sys/net/ipv4/ip_forward
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        work()
    });
    thread.join().unwrap()
}

fn sh(commands: &str) {
    let status = Command::new("sh").args(["-ec", commands]).status().unwrap();
    assert!(status.success(), "{commands}");
}

fn examine() -> Found {
    let run = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_margayctl"))
        .args(["doctor", "-o", "json", "--run"])
        .arg(run.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let data: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let found = data["this machine"].as_array().unwrap();
    let field = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let found = found
        .iter()
        .map(|finding| (field(finding, "id"), field(finding, "what")))
        .collect();
    (output.status.code().unwrap(), found)
}

/// A process that listens on port 179, ended when dropped.
struct Speaker(Child);

impl Speaker {
    fn start() -> Self {
        let script = "$| = 1; my $l = IO::Socket::INET->new(Listen => 1, LocalPort => 179) or die; \
                      print qq(up\\n); sleep";
        let mut child = Command::new("perl")
            .args(["-MIO::Socket::INET", "-e", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "up\n");
        Self(child)
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn ids(found: &[(String, String)]) -> Vec<&str> {
    found.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn a_healthy_router_without_felix_only_lacks_felix() {
    let (status, found) = findings("");
    assert_eq!(ids(&found), ["MGY-D064"], "{found:?}");
    assert_eq!(status, 0);
}

#[test]
fn a_host_that_does_not_forward_is_a_failure() {
    let (status, found) = findings("echo 0 > /proc/sys/net/ipv4/ip_forward");
    assert_eq!(ids(&found), ["MGY-D010", "MGY-D064"], "{found:?}");
    assert_eq!(status, 1);
}

#[test]
fn a_foreign_chain_that_drops_is_found_and_ours_is_never_asked_for() {
    let (status, found) = findings(
        "nft -f - <<'END'
table inet margay {
  map ct_states { type ct_state : verdict; elements = { established : accept, invalid : drop } }
  chain forward { type filter hook forward priority 0; policy drop; ct state vmap @ct_states; drop; }
}
table inet firewall {
  chain forward { type filter hook forward priority 10; policy drop; ct state established accept; }
}
table ip guest {
  chain input { type filter hook input priority 0; policy accept; tcp dport 23 drop; }
}
table ip6 harmless {
  chain input { type filter hook input priority 0; policy accept; tcp dport 22 accept; }
}
END",
    );
    assert_eq!(
        ids(&found),
        ["MGY-D040", "MGY-D041", "MGY-D064"],
        "{found:?}"
    );
    assert!(
        found[0].1.contains("`forward` of table `inet firewall`"),
        "{found:?}"
    );
    assert!(
        found[1].1.contains("`input` of table `ip guest`"),
        "{found:?}"
    );
    assert_eq!(status, 1);
}

#[test]
fn a_foreign_table_that_the_crate_cannot_read_is_named() {
    let (status, found) = findings(
        "nft -f - <<'END'
table ip services {
  map backends { type ipv4_addr : verdict; elements = { 192.0.2.1 : accept } }
  chain forward { type filter hook forward priority 0; policy accept; ip daddr vmap @backends; }
}
END",
    );
    assert_eq!(ids(&found), ["MGY-D042", "MGY-D064"], "{found:?}");
    assert_eq!(status, 0);
}

#[test]
fn another_speaker_on_the_port_is_found_by_name() {
    let (status, found) = in_namespace(|| {
        let _speaker = Speaker::start();
        examine()
    });
    assert_eq!(ids(&found), ["MGY-D020", "MGY-D064"], "{found:?}");
    assert!(found[0].1.starts_with("perl (pid "), "{found:?}");
    assert_eq!(status, 1);
}

#[test]
fn a_cluster_that_is_named_is_not_this_machine() {
    let folder = TempDir::new().unwrap();
    let kubeconfig = folder.path().join("config");
    // Nobody listens on port 1.
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "far",
        "clusters": [{"name": "far", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "far", "context": {"cluster": "far", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let plugin = folder.path().join("kubectl-margay");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_margayctl"), &plugin).unwrap();
    let mut by_option = Command::new(env!("CARGO_BIN_EXE_margayctl"));
    by_option.arg("--kubeconfig").arg(&kubeconfig);
    let mut as_plugin = Command::new(&plugin);
    as_plugin.env("KUBECONFIG", &kubeconfig);
    for command in [&mut by_option, &mut as_plugin] {
        let output = command.arg("doctor").output().unwrap();
        let [text, errors] =
            [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert_eq!(text, "");
        assert!(errors.contains("cannot list the pods"), "{errors}");
    }
}
