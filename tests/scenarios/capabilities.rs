//! felix has two capabilities, and no pod's namespace longer than one request.

use std::fs;

use margay_tests::lab::cluster::Lab;

use crate::support::{id, pod, raise, together};

/// `CAP_NET_ADMIN` and `CAP_NET_BIND_SERVICE`.
const TWO: &str = "0000000000001400";

#[test]
fn felix_has_two_capabilities_and_keeps_no_pod_open() {
    let _others = together();
    let mut lab = raise(1, [pod("a", "n1")]);
    let before = descriptors(&lab);
    for round in 0..20 {
        lab.apply(pod(&format!("p{round}"), "n1")).unwrap();
        lab.start_pods(&[id(&format!("p{round}"))]).unwrap();
    }
    lab.settle().unwrap();
    let after = descriptors(&lab);
    assert!(
        after.len() < before.len() + 10,
        "{} open files before, {} after 20 pods",
        before.len(),
        after.len()
    );
    check(&lab);
}

/// Checks every felix of a lab: exactly two capabilities, no open namespace but its own.
pub(crate) fn check(lab: &Lab) {
    for node in lab.node_names() {
        let pid = lab.felix_pid(&node).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            let line = status.lines().find(|line| line.starts_with(set)).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(TWO), "{node}: {line}");
        }
        let own = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        for target in open_files(pid) {
            assert!(
                !target.starts_with("net:") || target == own.to_string_lossy(),
                "{node} holds {target}"
            );
        }
    }
}

fn descriptors(lab: &Lab) -> Vec<String> {
    open_files(lab.felix_pid("n1").unwrap())
}

fn open_files(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // One may be closed between listing and reading.
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}
