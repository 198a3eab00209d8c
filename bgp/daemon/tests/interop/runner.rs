//! Runs the tests, several at a time, and prints the matrix.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::features::Lack;
use crate::session::Peer;
use crate::world::World;
use crate::{details, features};

/// They wait most of the time.
const AT_ONCE: usize = 8;

/// One thing to try.
struct Task {
    name: String,
    /// The cell of the matrix.
    cell: Option<(&'static str, Peer)>,
    work: Work,
}

enum Work {
    Detail(fn(&mut World)),
    Feature(fn(&mut World, Peer), Peer),
    /// The peer cannot do it, which is looked at.
    Lacking(&'static Lack),
    /// The package is not there.
    Missing(&'static str),
}

#[derive(Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    Lacking(&'static str),
    Missing(&'static str),
}

thread_local! {
    static COMPLAINT: RefCell<String> = const { RefCell::new(String::new()) };
}

pub(crate) fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let tasks: Vec<Task> = tasks()
        .into_iter()
        .filter(|task| {
            wanted
                .as_ref()
                .is_none_or(|wanted| task.name.contains(wanted))
        })
        .collect();
    println!("\nrunning {} tests", tasks.len());
    std::panic::set_hook(Box::new(|panic| {
        COMPLAINT.with(|complaint| *complaint.borrow_mut() = panic.to_string());
    }));
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((index, task)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    tasks.get(index).map(|task| (index, task))
                } {
                    let (outcome, took) = run(task);
                    println!(
                        "test {} ... {} ({} ms)",
                        task.name,
                        outcome.word(),
                        took.as_millis()
                    );
                    outcomes.lock().unwrap().insert(index, outcome);
                }
            });
        }
    });
    let outcomes: Vec<Outcome> = outcomes.into_inner().unwrap().into_values().collect();
    report(&tasks, &outcomes)
}

fn tasks() -> Vec<Task> {
    let missing: BTreeMap<Peer, &str> = Peer::ALL
        .into_iter()
        .filter_map(|peer| Some((peer, peer.missing()?)))
        .collect();
    let mut tasks = Vec::new();
    for feature in features::ALL {
        for peer in Peer::ALL {
            let lacking = feature.lack.iter().find(|lack| lack.peer == peer);
            let work = match (missing.get(&peer), lacking) {
                (Some(package), _) => Work::Missing(package),
                (None, Some(lack)) => Work::Lacking(lack),
                (None, None) => Work::Feature(feature.test, peer),
            };
            tasks.push(Task {
                name: format!("{}: {}", peer.name(), feature.name),
                cell: Some((feature.name, peer)),
                work,
            });
        }
    }
    for (name, test) in details::ALL {
        let work = match missing.get(&Peer::Bird) {
            Some(package) => Work::Missing(package),
            None => Work::Detail(*test),
        };
        tasks.push(Task {
            name: format!("BIRD in detail: {name}"),
            cell: None,
            work,
        });
    }
    tasks
}

fn run(task: &Task) -> (Outcome, Duration) {
    let began = start();
    let result = match task.work {
        Work::Missing(package) => return (Outcome::Missing(package), Duration::ZERO),
        Work::Lacking(lack) => catch_unwind(AssertUnwindSafe(|| {
            (lack.proof)(&mut World::new(), lack.peer);
        })),
        Work::Detail(test) => catch_unwind(AssertUnwindSafe(|| test(&mut World::new()))),
        Work::Feature(test, peer) => {
            catch_unwind(AssertUnwindSafe(|| test(&mut World::new(), peer)))
        }
    };
    let outcome = match result {
        Ok(()) => match task.work {
            Work::Lacking(lack) => Outcome::Lacking(lack.evidence),
            Work::Missing(_) | Work::Detail(_) | Work::Feature(..) => Outcome::Passed,
        },
        Err(_) => Outcome::Failed(COMPLAINT.with(RefCell::take)),
    };
    (outcome, began.elapsed())
}

#[expect(
    clippy::disallowed_methods,
    reason = "people want to know what takes long"
)]
fn start() -> std::time::Instant {
    std::time::Instant::now()
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed(_) => "FAILED",
            Self::Lacking(_) => "the peer lacks it",
            Self::Missing(_) => "skipped",
        }
    }
}

fn report(tasks: &[Task], outcomes: &[Outcome]) -> ExitCode {
    for (task, outcome) in tasks.iter().zip(outcomes) {
        if let Outcome::Failed(complaint) = outcome {
            println!("\n---- {} ----\n{complaint}", task.name);
        }
    }
    println!("\n| feature | BIRD | FRR | GoBGP |\n|---|---|---|---|");
    for feature in features::ALL {
        let cell = |peer| {
            let mut pairs = tasks.iter().zip(outcomes);
            let found = pairs.find(|(task, _)| task.cell == Some((feature.name, peer)));
            found.map_or("", |(_, outcome)| outcome.word())
        };
        let cells = Peer::ALL.map(cell).join(" | ");
        println!("| {} | {cells} |", feature.name);
    }
    println!();
    let mut notes: Vec<String> = Vec::new();
    for (task, outcome) in tasks.iter().zip(outcomes) {
        match outcome {
            Outcome::Passed | Outcome::Failed(_) => {}
            Outcome::Lacking(evidence) => notes.push(format!("{}: {evidence}", task.name)),
            Outcome::Missing(package) => {
                notes.push(format!("{} was skipped: install {package}", task.name));
            }
        }
    }
    for note in notes {
        println!("{note}");
    }
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|one| wanted(one)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    println!(
        "\ntest result: {}. {} passed; {failed} failed; {} ignored; {} lacking",
        if failed == 0 { "ok" } else { "FAILED" },
        count(|outcome| *outcome == Outcome::Passed),
        count(|outcome| matches!(outcome, Outcome::Missing(_))),
        count(|outcome| matches!(outcome, Outcome::Lacking(_))),
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
