//! Worlds with verdicts found elsewhere, and random ones: evaluator and real packets agree on every flow.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use margay_api::probe::Probe;
use margay_policy::flow::Flow;
use margay_policy::generate::{self, Profile};
use margay_policy::verdict::Evaluator;
use margay_tests::lab::cluster::{Lab, Options};
use margay_tests::lab::guard::random;
use margay_tests::lab::objects::Objects;
use margay_tests::lab::probe::{Answer, externals_of, read};
use margay_tests::lab::prober::Effort;

use crate::capabilities;
use crate::kubernetes::documents;
use crate::support::{tell, together, worlds};

/// Labs at once: most of a lab's time is waiting for packets that shall not come.
const LABS: usize = 4;
const RANDOM_WORLDS: u64 = 200;

#[test]
fn the_evaluator_agrees_with_every_line() {
    let mut lines = 0;
    let mut wrong = Vec::new();
    for folder in given() {
        let cluster = margay_api::world::read(&folder).unwrap().cluster;
        let evaluator = Evaluator::new(&cluster);
        for probe in read(&folder.join("expected.jsonl")).unwrap() {
            let found = evaluator.verdict(&probe.flow).map(|verdict| verdict.allow);
            if found != Ok(expected(&probe)) {
                wrong.push(format!(
                    "{}: {}: {found:?}, not {}",
                    folder.display(),
                    probe.flow,
                    probe.extra["verdict"]
                ));
            }
            lines += 1;
        }
    }
    assert!(lines >= 19_050, "only {lines} lines: are the worlds there?");
    assert!(
        wrong.is_empty(),
        "{} of {lines}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn packets_agree_with_every_line_of_the_given_worlds() {
    let _others = together();
    let wrong = in_labs(given(), |folder| {
        let probes = read(&folder.join("expected.jsonl")).unwrap();
        let flows: Vec<Flow> = probes.iter().map(|probe| probe.flow.clone()).collect();
        let expected: Vec<bool> = probes.iter().map(expected).collect();
        compare(
            &folder.display().to_string(),
            Objects::read(folder).unwrap(),
            &flows,
            &expected,
        )
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packets_agree_with_the_evaluator_on_random_worlds() {
    let _others = together();
    let start = u64::from_str_radix(&random(), 16).unwrap();
    tell(&format!("seeds {start} to {}", start + RANDOM_WORLDS - 1));
    let wrong = in_labs((start..start + RANDOM_WORLDS).collect(), |seed| {
        let cluster = generate::cluster(*seed, &Profile::kubernetes());
        let flows = generate::probes(*seed, &cluster, 120);
        let evaluator = Evaluator::new(&cluster);
        let expected: Vec<bool> = flows
            .iter()
            .map(|flow| evaluator.verdict(flow).unwrap().allow)
            .collect();
        let mut objects = Objects::default();
        for document in documents(&cluster) {
            objects.add(document).unwrap();
        }
        compare(&format!("seed {seed}"), objects, &flows, &expected)
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Raises a world, tries all flows, and says what differs.
fn compare(name: &str, objects: Objects, flows: &[Flow], expected: &[bool]) -> Vec<String> {
    let externals = externals_of(flows, &objects);
    let mut lab = Lab::up(Options {
        objects,
        externals,
        ..Options::default()
    })
    .unwrap();
    lab.start_pods(&lab.wanted_pods()).unwrap();
    lab.settle().unwrap();
    capabilities::check(&lab);
    let answers = lab.probe(flows, Effort::default()).unwrap();
    let mut wrong = Vec::new();
    for ((flow, expected), answer) in flows.iter().zip(expected).zip(answers) {
        let fine = match &answer {
            Answer::Allow => *expected,
            Answer::Deny(note) => !expected && note.is_none(),
            Answer::Skipped(reason) => reason.contains("SCTP"),
        };
        if !fine {
            wrong.push(format!(
                "{name}: {flow}: expected allow={expected}, packets: {answer:?}"
            ));
        }
    }
    wrong
}

/// Does `work` on every item, several at once; all that it found.
fn in_labs<T: Send>(items: Vec<T>, work: impl Fn(&T) -> Vec<String> + Sync) -> Vec<String> {
    let queue = Mutex::new(VecDeque::from(items));
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LABS {
            scope.spawn(|| {
                loop {
                    let Some(item) = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front()
                    else {
                        return;
                    };
                    let wrong = work(&item);
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(wrong);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

fn expected(probe: &Probe) -> bool {
    match probe.extra["verdict"].as_str() {
        Some("allow") => true,
        Some("deny") => false,
        other => panic!("no verdict: {other:?}"),
    }
}

/// Every checked-in world with expected verdicts.
fn given() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for kind in ["np", "upstream"] {
        let entries = fs::read_dir(worlds().join(kind)).unwrap();
        folders.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| has_verdicts(path)),
        );
    }
    folders.sort();
    folders
}

fn has_verdicts(folder: &Path) -> bool {
    folder.join("expected.jsonl").exists()
}
