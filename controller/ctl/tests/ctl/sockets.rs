//! Subcommands that ask the controller and felix, against stand-ins that answer from canned pages.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use assert_cmd::cargo::cargo_bin_cmd;
use insta::assert_snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a stand-in answers, by page; may change while it serves.
type Pages = Arc<Mutex<BTreeMap<&'static str, Value>>>;

/// Answers requests on a unix socket by page; the thread ends with the test process.
fn serve<const N: usize>(socket: &Path, pages: [(&'static str, Value); N]) -> Pages {
    let pages: Pages = Arc::new(Mutex::new(BTreeMap::from(pages)));
    let served = Arc::clone(&pages);
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &served.lock().unwrap());
        }
    });
    pages
}

fn answer(mut stream: UnixStream, pages: &BTreeMap<&str, Value>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let page = request.split(' ').nth(1).unwrap();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    let (status, body) = match pages.get(page) {
        Some(Value::String(text)) => ("200 OK", text.clone()),
        Some(page) => ("200 OK", page.to_string()),
        None => ("404 Not Found", String::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}

fn revision(count: u64) -> Value {
    json!({ "run": "r", "count": count })
}

fn peer(address: &str, state: &str, reason: &str, hint: &str) -> Value {
    json!({
        "address": address, "asn": 64512, "state": state, "reason": reason, "hint": hint,
        "since_seconds": 192, "received": 2, "announced": 2, "families": ["IPv4", "IPv6"],
    })
}

/// n1 with a session up and one down, in step with the controller.
fn n1() -> Value {
    json!({
        "version": "0.1.0",
        "controller": { "state": "up" },
        "received": revision(17), "realised": revision(17),
        "blocks": { "10.244.0.0/26": 2, "fd00:10:244::/122": 2 },
        "peers": {
            "mesh-n2": peer("192.0.2.2", "Established", "", ""),
            "router": peer("192.0.2.254", "Active", "connection refused", "does a BGP speaker listen there?"),
        },
        "pods": { "shop/web": { "link": "mgy0123456789a", "addresses": ["10.244.0.1"] } },
        "drift": [{
            "at": "2026-01-02T03:04:05Z", "what": "table", "name": "inet margay",
            "by": "nft (pid 123)", "repair_microseconds": 1500,
        }],
    })
}

/// The controller, n1 with a felix that answers, n2 whose felix is gone, n3 that never reported, and n4
/// that is another machine and well.
fn lab() -> TempDir {
    let lab = TempDir::new().unwrap();
    let view = |report: Value, age: Value, stream: Value| {
        json!({
            "object": true, "stream": stream, "revision": revision(17), "addresses": ["192.0.2.1"],
            "blocks": ["10.244.0.0/26"], "report": report, "report_age_seconds": age,
        })
    };
    let status = json!({
        "version": "0.1.0", "run": "r", "uptime_seconds": 75, "folder": "/srv/world",
        "objects": { "Node": 3, "Pod": 2 }, "refused": 1, "problems": 1, "nodes": 3,
        "connected": 1, "realised": 1, "policies": 2,
    });
    let objects = json!({
        "objects": [
            { "kind": "NetworkPolicy", "namespace": "shop", "name": "db", "file": "db.yaml", "line": 4,
              "kept": false, "problems": ["spec.ingress[0].from[0].ipBlock.cidr: `10/33` is no CIDR: matches nothing"] },
            { "kind": "Node", "namespace": "", "name": "n1", "file": "n.yaml", "line": 1, "kept": false, "problems": [] },
        ],
        "refused": [
            { "file": "web.yaml", "line": 3, "reason": "not YAML: oops", "in_force": ["NetworkPolicy shop/web"] },
        ],
    });
    let mut n2 = n1();
    n2["controller"] = json!({ "state": "down", "reason": "connection refused" });
    n2["realised"] = revision(16);
    let mut n4 = n1();
    n4["peers"] = json!({ "mesh-n1": peer("192.0.2.1", "Established", "", "") });
    let up = json!({ "state": "up" });
    let down = json!({ "state": "down", "reason": "closed" });
    serve(
        &lab.path().join("controller.sock"),
        [
            ("/status", status),
            ("/objects", objects),
            (
                "/nodes",
                json!({
                    "n1": view(n1(), json!(1), up.clone()), "n2": view(n2, json!(42), down.clone()),
                    "n3": view(Value::Null, Value::Null, down), "n4": view(n4, json!(2), up),
                }),
            ),
            (
                "/ipam",
                json!({
                    "pools": [{ "cidr": "10.244.0.0/16", "block_size": 26, "disabled": false, "nat_outgoing": true,
                                "blocks": 1024, "claimed": 2, "used": 66 },
                              { "cidr": "10.244.3.0/24", "block_size": 26, "disabled": false, "overlaps": "old", "nat_outgoing": false,
                                "blocks": 4, "claimed": 0, "used": 0 },
                              { "cidr": "10.245.0.0/16", "block_size": 26, "disabled": false, "nat_outgoing": false,
                                "namespaces": ["bank", "loans", "shop", "staff"], "blocks": 1024, "claimed": 0, "used": 0 }],
                    "blocks": {
                        "10.244.0.0/26": { "node": "n1", "size": 64, "used": 2 },
                        "10.244.0.64/26": { "node": "n2", "size": 64, "used": 64 },
                        "fd00:10:244::/122": { "node": "n3", "size": 64, "used": null },
                    },
                }),
            ),
            (
                "/policy",
                json!({ "policies": {
                    "NetworkPolicy shop/db": { "realised": 1, "nodes": 2, "waiting": ["n2"], "problems": ["bad CIDR"] },
                    "NetworkPolicy shop/web": { "realised": 1, "nodes": 1, "waiting": [], "problems": [] },
                    "NetworkPolicy shop/idle": { "realised": 0, "nodes": 0, "waiting": [], "problems": [] },
                }}),
            ),
        ],
    );
    serve(
        &lab.path().join("nodes/n1/felix.sock"),
        [
            ("/status", n1()),
            (
                "/routes",
                json!([
                    { "prefix": "10.244.0.1/32", "next_hops": [], "source": "pod mgy0123456789a" },
                    { "prefix": "10.244.0.0/26", "next_hops": [], "source": "block" },
                    { "prefix": "10.244.0.64/26", "next_hops": ["192.0.2.2"], "source": "bgp mesh-n2" },
                ]),
            ),
            ("/ruleset", Value::from("table inet margay {\n}\n")),
        ],
    );
    fs::create_dir(lab.path().join("nodes/n2")).unwrap();
    lab
}

/// Exit status, stdout, and stderr, with the lab's folder as `LAB`.
fn ask(lab: &TempDir, args: &[&str]) -> (i32, String, String) {
    let output = cargo_bin_cmd!("margayctl")
        .arg("--run")
        .arg(lab.path())
        .args(args)
        .output()
        .unwrap();
    let folder = lab.path().to_str().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(folder, "LAB");
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn status_shows_controller_nodes_and_what_is_wrong() {
    let (status, text, _) = ask(&lab(), &["status"]);
    assert_eq!(status, 0);
    assert_snapshot!(text, @r"
    controller 0.1.0, up 1m15s, 1 of 3 nodes connected, 1 of 2 policies realised
    watching /srv/world: 3 Node, 2 Pod

    NODE  CONTROLLER  REALISED           PODS  BLOCKS                                             BGP  DRIFT
    n1    up          revision 17        1     10.244.0.0/26 (2 used) fd00:10:244::/122 (2 used)  1/2  1 repaired
    n2    42s ago     revision 16 of 17  1     10.244.0.0/26 (2 used) fd00:10:244::/122 (2 used)  1/2  1 repaired
    n3    no answer   -                  -     10.244.0.0/26                                      -    -
    n4    up          revision 17        1     10.244.0.0/26 (2 used) fd00:10:244::/122 (2 used)  1/1  1 repaired
    n1: BGP router (192.0.2.254) is Active: connection refused
    n2: there is no socket LAB/nodes/n2/felix.sock: margay-felix does not run here, or keeps its sockets elsewhere (--run DIR)
    n2: controller: connection refused
    n2: BGP router (192.0.2.254) is Active: connection refused
    n3: it has not reported to this controller yet

    refused web.yaml:3: not YAML: oops (in force as before: NetworkPolicy shop/web)
    problem db.yaml:4: NetworkPolicy shop/db: spec.ingress[0].from[0].ipBlock.cidr: `10/33` is no CIDR: matches nothing
    ");
}

#[test]
fn a_session_that_is_down_has_its_reason_and_a_hint() {
    let (status, text, _) = ask(&lab(), &["bgp", "status"]);
    assert_eq!(status, 0);
    assert_snapshot!(text, @r"
    NODE  PEER     ADDRESS      AS     STATE        SINCE  IN  OUT  FAMILIES   REASON
    n1    mesh-n2  192.0.2.2    64512  Established  3m12s  2   2    IPv4 IPv6
    n1    router   192.0.2.254  64512  Active       3m12s  2   2    IPv4 IPv6  connection refused
    n2    mesh-n2  192.0.2.2    64512  Established  3m12s  2   2    IPv4 IPv6
    n2    router   192.0.2.254  64512  Active       3m12s  2   2    IPv4 IPv6  connection refused
    n4    mesh-n1  192.0.2.1    64512  Established  3m12s  2   2    IPv4 IPv6
    n1 router: does a BGP speaker listen there?
    n2: as reported 42s ago: there is no socket LAB/nodes/n2/felix.sock: margay-felix does not run here, or keeps its sockets elsewhere (--run DIR)
    n2 router: does a BGP speaker listen there?
    n3: it has not reported to this controller yet
    ");
}

#[test]
fn a_watch_prints_again_when_a_session_changes() {
    let run = TempDir::new().unwrap();
    let pages = serve(&run.path().join("felix.sock"), [("/status", n1())]);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_margayctl"))
        .args(["bgp", "status", "--watch", "-o", "json", "--run"])
        .arg(run.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = serde_json::Deserializer::from_reader(watch.stdout.take().unwrap()).into_iter();
    let mut state = || -> Value {
        let answer: Value = seen.next().unwrap().unwrap();
        answer.as_object().unwrap().values().next().unwrap()["peers"]["router"]["state"].clone()
    };
    assert_eq!(state(), "Active");
    let mut changed = n1();
    changed["peers"]["router"]["state"] = "Established".into();
    pages.lock().unwrap().insert("/status", changed);
    assert_eq!(state(), "Established");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn the_controllers_objects_are_explained_as_a_folder_is() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world");
    let world = margay_api::world::read(folder).unwrap();
    let run = TempDir::new().unwrap();
    serve(
        &run.path().join("controller.sock"),
        [("/world", json!(world.cluster))],
    );
    let question = ["policy", "explain", "watch/probe", "shop/db", "tcp/5432"];
    let by_controller = ask(&run, &question);
    let by_folder = ask(&run, &[&question[..], &["--world", folder]].concat());
    assert_eq!(by_controller, by_folder);
    assert!(by_folder.1.contains("closest"), "{by_folder:?}");
}

#[test]
fn programs_get_what_the_daemons_said() {
    let lab = lab();
    let (_, text, _) = ask(&lab, &["bgp", "status", "n1", "-o", "json"]);
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        data,
        json!({ "n1": { "source": "felix", "peers": n1()["peers"] } })
    );
    let (_, text, _) = ask(&lab, &["-o", "yaml", "drift", "n1"]);
    assert_snapshot!(text, @r#"
    n1:
    - at: "2026-01-02T03:04:05Z"
      by: nft (pid 123)
      name: inet margay
      repair_microseconds: 1500
      what: table
    "#);
}

#[test]
fn routes_of_one_node_and_of_all_that_answer() {
    let lab = lab();
    let (status, text, _) = ask(&lab, &["routes", "n1"]);
    assert_eq!(status, 0);
    assert_snapshot!(text, @r"
    NODE  PREFIX          NEXT HOPS  SOURCE
    n1    10.244.0.0/26   -          block
    n1    10.244.0.1/32   -          pod mgy0123456789a
    n1    10.244.0.64/26  192.0.2.2  bgp mesh-n2
    ");
    let (status, all, errors) = ask(&lab, &["routes"]);
    assert_eq!((status, all), (1, text));
    assert_snapshot!(errors, @"margayctl: n2: there is no socket LAB/nodes/n2/felix.sock: margay-felix does not run here, or keeps its sockets elsewhere (--run DIR)");
}

#[test]
fn the_ruleset_comes_as_felix_renders_it() {
    let (status, text, _) = ask(&lab(), &["ruleset", "n1"]);
    assert_eq!((status, text.as_str()), (0, "table inet margay {\n}\n"));
}

#[test]
fn drift_names_what_was_touched_and_by_whom() {
    let (_, text, _) = ask(&lab(), &["drift", "n1"]);
    assert_snapshot!(text, @r"
    NODE  WHEN                  WHAT   NAME         BY             REPAIRED IN
    n1    2026-01-02T03:04:05Z  table  inet margay  nft (pid 123)  1500 us
    ");
}

#[test]
fn ipam_shows_pools_and_how_full_blocks_are() {
    let (_, text, _) = ask(&lab(), &["ipam", "show"]);
    assert_snapshot!(text, @r"
    POOL           BLOCKS OF  BLOCKS  CLAIMED  USED  NEW ADDRESSES      NAMESPACES                    NAT OUTGOING
    10.244.0.0/16  /26        1024    2        66    yes                any                           yes
    10.244.3.0/24  /26        4       0        0     no (overlaps old)  any                           no
    10.245.0.0/16  /26        1024    0        0     yes                bank, loans, shop and 1 more  no

    BLOCK              NODE  USED          FREE
    10.244.0.0/26      n1    2             62
    10.244.0.64/26     n2    64            0 (full)
    fd00:10:244::/122  n3    not reported  -
    ");
}

#[test]
fn policy_status_counts_nodes_and_names_those_that_lag() {
    let (_, text, _) = ask(&lab(), &["policy", "status"]);
    assert_snapshot!(text, @r"
    POLICY                   REALISED        WAITING FOR
    NetworkPolicy shop/db    1 of 2          n2
    NetworkPolicy shop/idle  selects no pod  -
    NetworkPolicy shop/web   1 of 1          -
    problem NetworkPolicy shop/db: bad CIDR
    ");
}

#[test]
fn a_node_that_is_not_there_is_misuse_with_a_guess() {
    let (status, _, errors) = ask(&lab(), &["routes", "n4"]);
    assert_eq!(status, 2);
    assert_snapshot!(errors, @"margayctl: there is no node `n4` here (did you mean n1 or n2?); nodes: n1, n2");
}

#[test]
fn without_daemons_the_refusal_says_what_to_do() {
    let empty = TempDir::new().unwrap();
    for (args, exit) in [
        (&["status"][..], 1),
        (&["ipam", "show"], 1),
        (&["routes"], 2),
    ] {
        let (status, text, errors) = ask(&empty, args);
        assert_eq!((status, text.as_str()), (exit, ""), "{args:?}");
        assert!(errors.contains("--run DIR"), "{args:?}: {errors}");
    }
}

#[test]
fn completion_knows_the_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, text, _) = ask(&TempDir::new().unwrap(), &["completion", shell]);
        assert_eq!(status, 0);
        assert!(
            text.contains("ruleset") && text.contains("margayctl"),
            "{shell}"
        );
    }
}
