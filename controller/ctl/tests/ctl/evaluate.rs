//! `margayctl policy evaluate`, as a program is called.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use insta::assert_snapshot;
use tempfile::TempDir;

const WORLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world");

/// Evaluates probes in a world: exit status, stdout, stderr without the folder's name.
fn evaluate(world: &str, probes: &str) -> (i32, String, String) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("probes.jsonl"), probes).unwrap();
    run(cargo_bin_cmd!("margayctl").current_dir(&folder).args([
        "policy",
        "evaluate",
        "--world",
        world,
        "--probes",
        "probes.jsonl",
    ]))
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn each_probe_gets_its_verdict_and_origin() {
    let (status, answers, errors) = evaluate(
        WORLD,
        r#"{"from":"shop/web","to":"shop/db","protocol":"TCP","port":5432,"family":4}

{"from":"shop/web","to":"fd00:10:244::65","protocol":"TCP","port":5432,"family":6}
{"from":"shop/web","to":"203.0.113.9","protocol":"ICMP","port":0,"family":4}
{"from":"watch/probe","to":"shop/db","protocol":"TCP","port":5432,"family":4}
{"from":"203.0.113.9","to":"shop/db","protocol":"TCP","port":22,"family":4}
{"from":"203.0.113.70","to":"shop/db","protocol":"TCP","port":22,"family":4}
{"from":"node/n2","to":"shop/db","protocol":"UDP","port":1,"family":6}
{"from":"node/n1","to":"shop/db","protocol":"UDP","port":1,"family":6}
{"from":"watch/probe","to":"shop/web","protocol":"TCP","port":80,"family":6}
"#,
    );
    assert_eq!((status, errors.as_str()), (0, ""));
    assert_snapshot!(answers, @r#"
    {"from":"shop/web","to":"shop/db","protocol":"TCP","port":5432,"family":4,"origin":"egress of shop/web: allow, NetworkPolicy shop/web egress[0] (tier default); ingress of shop/db: allow, NetworkPolicy shop/db ingress[0] (tier default)","verdict":"allow"}
    {"from":"shop/web","to":"fd00:10:244::65","protocol":"TCP","port":5432,"family":6,"origin":"egress of shop/web: allow, NetworkPolicy shop/web egress[0] (tier default); ingress of shop/db: allow, NetworkPolicy shop/db ingress[0] (tier default)","verdict":"allow"}
    {"from":"shop/web","to":"203.0.113.9","protocol":"ICMP","port":0,"family":4,"origin":"egress of shop/web: deny, end of tier default, isolated by NetworkPolicy shop/web","verdict":"deny"}
    {"from":"watch/probe","to":"shop/db","protocol":"TCP","port":5432,"family":4,"origin":"egress of watch/probe: allow, nothing selects it; ingress of shop/db: deny, end of tier default, isolated by NetworkPolicy shop/backup, NetworkPolicy shop/db","verdict":"deny"}
    {"from":"203.0.113.9","to":"shop/db","protocol":"TCP","port":22,"family":4,"origin":"ingress of shop/db: allow, NetworkPolicy shop/backup ingress[0] (tier default)","verdict":"allow"}
    {"from":"203.0.113.70","to":"shop/db","protocol":"TCP","port":22,"family":4,"origin":"ingress of shop/db: deny, end of tier default, isolated by NetworkPolicy shop/backup, NetworkPolicy shop/db","verdict":"deny"}
    {"from":"node/n2","to":"shop/db","protocol":"UDP","port":1,"family":6,"origin":"ingress of shop/db: allow, its own node sent it","verdict":"allow"}
    {"from":"node/n1","to":"shop/db","protocol":"UDP","port":1,"family":6,"origin":"ingress of shop/db: deny, end of tier default, isolated by NetworkPolicy shop/backup, NetworkPolicy shop/db","verdict":"deny"}
    {"from":"watch/probe","to":"shop/web","protocol":"TCP","port":80,"family":6,"origin":"watch/probe has no IPv6 address","verdict":"deny"}
    "#);
}

#[test]
fn other_fields_are_copied_and_an_earlier_answer_is_replaced() {
    let (_, answers, _) = evaluate(
        WORLD,
        r#"{"id":[1,{"a":null}],"verdict":"allow","origin":"?","expected":"deny","from":"watch/probe","to":"shop/db","protocol":"TCP","port":5432,"family":4}"#,
    );
    let answer: serde_json::Value = serde_json::from_str(&answers).unwrap();
    assert_eq!(answer["id"], serde_json::json!([1, { "a": null }]));
    assert_eq!(
        (&answer["expected"], &answer["verdict"]),
        (&"deny".into(), &"deny".into())
    );
    assert_ne!(answer["origin"], "?");
}

#[test]
fn lines_that_are_no_probes_are_named_and_nothing_is_answered() {
    let (status, answers, errors) = evaluate(
        WORLD,
        r#"{"from":"shop/web","to":"shop/db","protocol":"TCP","port":5432,"family":4}
{"from":"shop/web","to":
{"from":"shop/web","to":"shop/db","protocol":"TCP","port":70000,"family":4}
{"from":"shop/web","to":"shop/db","protocol":"QUIC","port":1,"family":4}
{"from":"shop","to":"shop/db","protocol":"TCP","port":1,"family":4}
{"from":"shop/web","to":"shop/db","protocol":"TCP","port":1,"family":5}
{"to":"shop/db","protocol":"TCP","port":1,"family":4}
{"from":"shop/wbe","to":"shop/db","protocol":"TCP","port":1,"family":4}
{"from":"node/n3","to":"shop/db","protocol":"TCP","port":1,"family":4}
{"from":"192.0.2.9","to":"shop/db","protocol":"TCP","port":1,"family":6}
[]
null
"#,
    );
    assert_eq!((status, answers.as_str()), (1, ""));
    assert_snapshot!(errors, @r"
    margayctl: probes.jsonl:2: no probe: EOF while parsing a value at column 24
    probes.jsonl:3: no probe: invalid value: integer `70000`, expected u16 at column 75
    probes.jsonl:4: no probe: `QUIC` is no protocol: write TCP, UDP, SCTP, ICMP or an IP protocol number at column 72
    probes.jsonl:5: no probe: `shop` is no end of a connection: write namespace/pod, node/NAME or an IP address at column 67
    probes.jsonl:6: no probe: 5 is no IP family: write 4 or 6 at column 71
    probes.jsonl:7: no probe: missing field `from` at column 53
    probes.jsonl:8: there is no pod shop/wbe (did you mean shop/web?)
    probes.jsonl:9: there is no node n3 (did you mean n1 or n2?)
    probes.jsonl:10: 192.0.2.9 is not an IPv6 address
    probes.jsonl:11: no probe: invalid type: sequence, expected struct Probe at column 0
    and 1 more
    ");
}

#[test]
fn what_is_missing_is_named() {
    let (status, _, errors) = evaluate("/nowhere/at/all", "");
    assert_eq!(status, 1);
    assert_snapshot!(errors, @"margayctl: cannot read /nowhere/at/all: No such file or directory (os error 2)");
    let (status, _, errors) = run(cargo_bin_cmd!("margayctl").args([
        "policy",
        "evaluate",
        "--world",
        WORLD,
        "--probes",
        "/nowhere/probes.jsonl",
    ]));
    assert_eq!(status, 1);
    assert_snapshot!(errors, @"margayctl: cannot read probes from /nowhere/probes.jsonl: No such file or directory (os error 2)");
}

#[test]
fn what_is_wrong_in_the_world_is_told_and_the_rest_is_used() {
    let folder = TempDir::new().unwrap();
    for file in ["cluster.yaml", "policies.yaml"] {
        fs::copy(Path::new(WORLD).join(file), folder.path().join(file)).unwrap();
    }
    let broken = "apiVersion: v1\nkind: Pod\nmetadata: {name: 7, namespace: shop}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n";
    fs::write(folder.path().join("more.yaml"), broken).unwrap();
    let (status, answers, errors) = evaluate(
        folder.path().to_str().unwrap(),
        r#"{"from":"shop/web","to":"shop/db","protocol":"TCP","port":5432,"family":4}"#,
    );
    assert_eq!(status, 0);
    assert!(answers.contains(r#""verdict":"allow""#), "{answers}");
    let errors = errors.replace(folder.path().to_str().unwrap(), "WORLD");
    assert_snapshot!(errors, @r"
    margayctl: WORLD/more.yaml:3: metadata.name: invalid type: integer `7`, expected a string
    margayctl: WORLD/more.yaml:5: apps/v1 Deployment shop/web: kind not known, skipped
    ");
}

#[test]
fn pods_without_addresses_are_judged_as_if_they_had_some() {
    let folder = TempDir::new().unwrap();
    let world = Path::new(WORLD);
    let cluster = fs::read_to_string(world.join("cluster.yaml")).unwrap();
    let bare: Vec<&str> = cluster
        .lines()
        .filter(|line| !line.contains("podIPs"))
        .collect();
    fs::write(folder.path().join("cluster.yaml"), bare.join("\n")).unwrap();
    fs::copy(
        world.join("policies.yaml"),
        folder.path().join("policies.yaml"),
    )
    .unwrap();
    let (status, answers, errors) = evaluate(
        folder.path().to_str().unwrap(),
        r#"{"from":"shop/web","to":"shop/db","protocol":"TCP","port":5432,"family":6}
{"from":"watch/probe","to":"shop/db","protocol":"TCP","port":5432,"family":4}"#,
    );
    assert_eq!(status, 0);
    let verdicts: Vec<bool> = answers
        .lines()
        .map(|line| line.contains(r#""verdict":"allow""#))
        .collect();
    assert_eq!(verdicts, [true, false]);
    assert_snapshot!(errors, @"margayctl: 3 pods without status.podIPs: judged as if with addresses of 10.244.0.0/16 and fd00:10:244::/56");
}

#[test]
fn probes_may_come_by_stdin() {
    let (status, answers, _) = run(cargo_bin_cmd!("margayctl")
        .args(["policy", "evaluate", "--world", WORLD, "--probes", "-"])
        .write_stdin(r#"{"from":"shop/web","to":"shop/db","protocol":"TCP","port":1,"family":4}"#));
    assert_eq!((status, answers.lines().count()), (0, 1));
}

#[test]
fn a_missing_option_is_misuse() {
    let (status, answers, _) =
        run(cargo_bin_cmd!("margayctl").args(["policy", "evaluate", "--world", WORLD]));
    assert_eq!((status, answers.as_str()), (2, ""));
}
