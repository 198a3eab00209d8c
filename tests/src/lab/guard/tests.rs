use std::process::Command;

use super::super::clock::wait;
use super::super::process::{Privilege, spawn};
use super::*;

#[test]
fn dropping_removes_namespaces_processes_and_folder() {
    let scratch = Scratch::new();
    let (folder, name) = (scratch.folder(), scratch.netns_name("a"));
    let netns = scratch.netns("a").unwrap();
    let mut child = spawn(
        &netns,
        Privilege::Full,
        Command::new("sleep").arg("1000"),
        &folder.join("sleep.log"),
    )
    .unwrap();
    assert_eq!(netns::names(&name).unwrap(), [name.as_str()]);
    drop(scratch);
    assert!(!child.wait().unwrap().success());
    assert!(netns::names(&name).unwrap().is_empty());
    assert!(!folder.exists());
}

#[test]
fn a_panic_removes_everything_too() {
    let name = std::thread::spawn(|| -> () {
        let scratch = Scratch::new();
        scratch.netns("a").unwrap();
        std::panic::panic_any(scratch.netns_name(""));
    })
    .join()
    .unwrap_err()
    .downcast::<String>()
    .unwrap();
    assert!(netns::names(&name).unwrap().is_empty());
}

#[test]
fn the_lab_of_a_dead_owner_is_removed_by_the_next() {
    let mut scratch = Scratch::new();
    scratch.netns("a").unwrap();
    let prefix = scratch.netns_name("");
    live(|live| live.remove(scratch.name()));
    scratch.owned = None; // as when the process is gone: the lock is free
    let folder = scratch.folder();
    drop(scratch);
    wait(
        "the stale lab is removed",
        std::time::Duration::from_secs(20),
        || {
            drop(Scratch::new()); // another test may hold the lock of its own making for a moment
            if folder.exists() {
                Err("its folder exists".to_owned())
            } else {
                Ok(())
            }
        },
    )
    .unwrap();
    assert!(netns::names(&prefix).unwrap().is_empty());
}

#[test]
fn felix_processes_have_exactly_two_capabilities() {
    let scratch = Scratch::new();
    let netns = scratch.netns("a").unwrap();
    let log = scratch.folder().join("log");
    let mut command = Command::new("grep");
    command.args(["^Cap", "/proc/self/status"]);
    assert!(
        spawn(&netns, Privilege::Felix, &mut command, &log)
            .unwrap()
            .wait()
            .unwrap()
            .success()
    );
    let text = fs::read_to_string(log).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(
            text.contains(&format!("{set}:\t0000000000001400")),
            "{text}"
        );
    }
}
