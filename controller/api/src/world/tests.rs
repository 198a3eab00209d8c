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
        let wanted = probe.extra["verdict"].as_str().unwrap();
        let seen = match evaluator.verdict(&probe.flow) {
            Ok(verdict) => (
                if verdict.allow { "allow" } else { "deny" },
                verdict.to_string(),
            ),
            Err(error) => ("error", error.to_string()),
        };
        if seen.0 != wanted {
            let reason = &probe.extra.get("reason");
            differences.push(format!(
                "{}: {}: expected {wanted} ({reason:?}), but: {} ({})",
                folder.display(),
                probe.flow,
                seen.0,
                seen.1
            ));
        }
    }
    (probes.len(), differences)
}

#[test]
fn the_evaluator_agrees_with_every_expected_verdict() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/worlds/np");
    let mut count = 0;
    let mut all = Vec::new();
    for world in worlds(&folder) {
        let (probes, differences) = differences(&world);
        count += probes;
        all.extend(differences);
    }
    assert!(
        all.is_empty(),
        "{} differences:\n{}",
        all.len(),
        all[..all.len().min(40)].join("\n")
    );
    assert_eq!(count, 19_050);
}
