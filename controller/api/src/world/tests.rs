use margay_policy::verdict::Evaluator;

use super::*;
use crate::probe;

/// All folders that hold a world, below `folder`.
fn worlds(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.jsonl").exists())
        .collect();
    found.sort();
    found
}

/// Counts the probes of a world and lists those on which the evaluator does not agree.
fn differences(folder: &Path) -> (usize, Vec<String>) {
    let world = read(folder).unwrap();
    let evaluator = Evaluator::new(&world.cluster);
    let expected = fs::read_to_string(folder.join("expected.jsonl")).unwrap();
    let probes = probe::read(&expected).unwrap();
    let mut differences = Vec::new();
    for probe in &probes {
        let text = |field: &str| probe.extra.get(field).and_then(serde_json::Value::as_str);
        let (allow, reason) = match evaluator.verdict(&probe.flow) {
            Ok(verdict) => (
                if verdict.allow { "allow" } else { "deny" },
                verdict.to_string(),
            ),
            Err(error) => ("error", error.to_string()),
        };
        // The worlds say which rule decided, too, but not who isolates.
        let without = |part: &str| part.split(", isolated by").next().unwrap().to_owned();
        let words = reason
            .split("; ")
            .map(without)
            .collect::<Vec<_>>()
            .join("; ");
        if text("verdict") != Some(allow) || text("reason").is_some_and(|reason| reason != words) {
            differences.push(format!(
                "{}: {}: expected {:?} ({:?}), but: {allow} ({reason})",
                folder.display(),
                probe.flow,
                text("verdict"),
                text("reason"),
            ));
        }
    }
    (probes.len(), differences)
}

/// Counts the probes of all worlds in a folder of `tests/worlds`, all of which must agree.
fn check(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/worlds")
        .join(folder);
    let mut count = 0;
    let mut all = Vec::new();
    for world in worlds(&folder) {
        let (probes, differences) = differences(&world);
        count += probes;
        all.extend(differences);
    }
    let some = &all[..all.len().min(40)];
    assert!(
        all.is_empty(),
        "{} differences:\n{}",
        all.len(),
        some.join("\n")
    );
    count
}

#[test]
fn the_evaluator_agrees_with_every_expected_verdict() {
    assert_eq!(check("np"), 19_050);
}

#[test]
fn the_evaluator_agrees_with_the_upstream_truth_tables() {
    assert_eq!(check("upstream"), 9_936);
}

#[test]
fn problems_name_their_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/worlds/np/27");
    let world = read(folder).unwrap();
    let problem = world
        .problems
        .iter()
        .find(|problem| problem.contains("ipBlock"))
        .unwrap();
    assert_eq!(
        problem,
        "policies.yaml:39: NetworkPolicy a/np-y11: spec.ingress[0].from[0].ipBlock.cidr: `10.0.0.0` is not a CIDR: it has no prefix length: this peer matches nothing"
    );
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    assert_eq!(
        read("/nonexistent").unwrap_err().to_string(),
        "cannot read /nonexistent"
    );
}

#[test]
fn only_yaml_and_json_are_documents() {
    for (name, is) in [
        ("a.yaml", true),
        ("b.yml", true),
        ("c.json", true),
        (".a.yaml", false),
        ("a.yaml~", false),
        ("README.md", false),
        ("yaml", false),
    ] {
        assert_eq!(is_document_file(Path::new(name)), is, "{name}");
    }
}

#[test]
fn folders_are_read_through_but_not_in_circles() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let node = |name: &str| format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n");
    fs::write(inner.join("a.yaml"), node("n1")).unwrap();
    fs::write(inner.join(".hidden.yaml"), node("n2")).unwrap();
    std::os::unix::fs::symlink(folder.path(), inner.join("round")).unwrap();
    std::os::unix::fs::symlink(inner.join(".hidden.yaml"), folder.path().join("b.yaml")).unwrap();
    let world = read(folder.path()).unwrap();
    assert_eq!(world.problems, [""; 0]);
    assert_eq!(
        world
            .cluster
            .nodes
            .keys()
            .map(|name| name.0.as_str())
            .collect::<Vec<_>>(),
        ["n1", "n2"]
    );
}

#[test]
fn the_later_of_two_documents_of_one_object_counts() {
    let folder = tempfile::tempdir().unwrap();
    let node = |label: &str| {
        format!("apiVersion: v1\nkind: Node\nmetadata: {{name: n1, labels: {{a: {label}}}}}\n")
    };
    fs::write(folder.path().join("a.yaml"), node("one")).unwrap();
    fs::write(folder.path().join("b.yaml"), node("two")).unwrap();
    let world = read(folder.path()).unwrap();
    assert_eq!(
        world.problems,
        ["b.yaml:1: Node n1: stands already at a.yaml:1, which is ignored"]
    );
    assert_eq!(
        world.cluster.nodes.values().next().unwrap().labels["a"],
        "two"
    );
}
