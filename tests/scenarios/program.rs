//! `margay-lab` as people run it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use margay_tests::lab::clock::wait;
use margay_tests::lab::guard::{self, random};
use margay_tests::lab::{netns, process};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::together;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_demo_sees_what_was_expected_and_leaves_nothing() {
    let _others = together();
    let name = format!("demo-{}", random());
    let output = lab(&name, &["demo"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(text.matches(" 0 not as expected").count(), 3, "{text}");
    assert!(text.contains(" 0 were lost"), "{text}");
    assert!(!folder(&name).exists());
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let _others = together();
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let name = format!("demo-{}", random());
        let mut child = command(&name, &["demo"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let prefix = wait("felix runs", PATIENCE, || {
            let running = folder(&name).join("nodes/n3/felix.pid").exists();
            let prefix = fs::read_to_string(folder(&name).join("prefix"))
                .map_err(|error| error.to_string())?;
            if running {
                Ok(prefix)
            } else {
                Err("no felix yet".to_owned())
            }
        })
        .unwrap();
        process::signal(child.id(), signal);
        assert_eq!(child.wait().unwrap().code(), Some(status));
        assert!(!folder(&name).exists());
        assert!(netns::names(&prefix).unwrap().is_empty());
    }
}

#[test]
fn a_lab_stands_until_it_is_taken_down() {
    let _others = together();
    let name = format!("up-{}", random());
    let fine = |arguments: &[&str]| -> String {
        let output = lab(&name, arguments);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.into_owned()
    };
    let refused = |arguments: &[&str]| -> String {
        let output = lab(&name, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&["status"]).contains("no lab"));
    fine(&["up"]);
    let prefix = fs::read_to_string(folder(&name).join("prefix")).unwrap();
    assert!(refused(&["up"]).contains("is up"));
    assert_eq!(fine(&["status"]).matches("in sync").count(), 3);
    let ping = [
        "exec",
        "play/alice",
        "--",
        "ping",
        "-c1",
        "-W2",
        "203.0.113.10",
    ];
    fine(&ping);
    let path = folder(&name).join("closed.yaml");
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "play"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
    });
    fs::write(&path, policy.to_string()).unwrap();
    let path = path.to_string_lossy();
    fine(&["apply", "-f", &path]);
    wait("the policy is in force", PATIENCE, || {
        if lab(&name, &ping).status.success() {
            Err("alice still gets out")
        } else {
            Ok(())
        }
        .map_err(str::to_owned)
    })
    .unwrap();
    fine(&["delete", "-f", &path]);
    wait("the policy is gone", PATIENCE, || {
        if lab(&name, &ping).status.success() {
            Ok(())
        } else {
            Err("alice does not get out".to_owned())
        }
    })
    .unwrap();
    assert!(
        fine(&["pod", "add", "play/dave", "--node", "n2", "--port", "81"]).contains("runs on n2")
    );
    assert!(refused(&["pod", "add", "play/dave", "--node", "n1"]).contains("runs already"));
    assert!(refused(&["pod", "add", "play/erin", "--node", "n9"]).contains("n1, n2, n3"));
    assert!(fine(&["exec", "play/dave", "--", "ip", "-o", "link"]).contains("eth0"));
    fine(&["pod", "rm", "play/dave"]);
    assert!(refused(&["exec", "play/dave", "--", "true"]).contains("no pod"));
    fine(&["down"]);
    assert!(netns::names(&prefix).unwrap().is_empty());
    assert!(!folder(&name).exists());
}

/// As with `margay-lab up 2>&1 | head -1`.
#[test]
fn a_reader_that_has_seen_enough_leaves_nothing_undone_and_nothing_behind() {
    let _others = together();
    let scratch = guard::Scratch::new();
    let world = scratch.folder().join("world");
    fs::create_dir(&world).unwrap();
    let addresses = ["192.168.0.1", "fd00:192:168::1"];
    let addresses = addresses.map(|address| json!({"type": "InternalIP", "address": address}));
    let documents = [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {"addresses": addresses}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "play"}}),
    ];
    let documents = documents.map(|document| document.to_string());
    fs::write(world.join("cluster.yaml"), documents.join("\n---\n")).unwrap();
    let pods = ["one", "two"].map(|name| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "play"},
            "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "none"}]},
        })
        .to_string()
    });
    let pods_file = scratch.folder().join("pods.yaml");
    fs::write(&pods_file, pods.join("\n---\n")).unwrap();
    let name = format!("up-{}", random());
    let unread = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let other = writer.try_clone().unwrap();
        let mut command = command(&name, arguments);
        command.stdout(writer).stderr(other).status().unwrap()
    };
    assert_eq!(
        unread(&["up", "--world", &world.to_string_lossy()]).code(),
        Some(0)
    );
    let prefix = fs::read_to_string(folder(&name).join("prefix")).unwrap();
    let applied = unread(&["apply", "-f", &pods_file.to_string_lossy()]);
    assert_eq!(applied.code(), Some(0));
    let status = lab(&name, &["status"]);
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(
        ["in sync", "play/one", "play/two"]
            .iter()
            .all(|word| status.contains(word)),
        "{status}"
    );
    assert_eq!(unread(&["down"]).code(), Some(0));
    // What cannot be done is no reason to fall either.
    assert_eq!(unread(&["down"]).code(), Some(1));
    assert!(netns::names(&prefix).unwrap().is_empty());
    // A demo is for showing: it does not go on, and takes everything along.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = command(&name, &["demo"]).stdout(writer).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert!(line.starts_with("A cluster of three nodes"), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!folder(&name).exists());
}

#[test]
fn probes_keep_their_fields_and_say_why_they_are_skipped() {
    let _others = together();
    let scratch = guard::Scratch::new();
    let probes = scratch.folder().join("probes.jsonl");
    let probe = |to: &str, port: u16, extra: u16| json!({"from": "play/alice", "to": to, "protocol": "TCP", "port": port, "family": 4, "mine": extra});
    let lines = [
        probe("shop/frontend-1", 8080, 1),
        probe("shop/db", 5432, 2),
        probe("shop/nobody", 1, 3),
        probe("192.0.2.7", 9, 4),
    ];
    fs::write(
        &probes,
        lines
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    )
    .unwrap();
    let world = crate::support::worlds().join("demo");
    let arguments = [
        "probe",
        "--world",
        &world.to_string_lossy(),
        "--probes",
        &probes.to_string_lossy(),
    ];
    let output = lab(&format!("probe-{}", random()), &arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (line, answer) in lines.iter().zip(&answers) {
        for (field, value) in line.as_object().unwrap() {
            assert_eq!(&answer[field], value, "{field}");
        }
    }
    let verdicts: Vec<&str> = answers
        .iter()
        .map(|answer| answer["verdict"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(verdicts, ["allow", "deny", "none", "allow"]);
    assert_eq!(answers[2]["skipped"], "there is no pod shop/nobody");
}

fn lab(name: &str, arguments: &[&str]) -> Output {
    command(name, arguments).output().unwrap()
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_margay-lab"));
    command
        .args(["--name", name])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn folder(name: &str) -> PathBuf {
    Path::new(guard::RUN).join(name)
}
