//! The dependency arrows of DESIGN §2: pure crates do no I/O, `kube` and `tokio` stay where they belong.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may use of ours.
const ARROWS: &[(&str, &[&str])] = &[
    ("margay-policy", &[]),
    ("margay-ipam", &[]),
    ("margay-bgp", &[]),
    ("margay-nftnl", &[]),
    ("margay-netlink", &[]),
    ("margay-api", &["margay-ipam", "margay-policy"]),
    ("margay-sync", &["margay-policy", "margay-ipam"]),
    ("margay-dataplane", &["margay-policy"]),
    ("margay-bgpd", &["margay-bgp", "margay-netlink"]),
    ("margay-cni", &["margay-netlink"]),
    (
        "margay-controller",
        &["margay-api", "margay-ipam", "margay-policy", "margay-sync"],
    ),
    (
        "margayctl",
        &[
            "margay-api",
            "margay-bgp",
            "margay-dataplane",
            "margay-ipam",
            "margay-netlink",
            "margay-nftnl",
            "margay-policy",
            "margay-sync",
        ],
    ),
    (
        "margay-felix",
        &[
            "margay-bgp",
            "margay-bgpd",
            "margay-cni",
            "margay-dataplane",
            "margay-ipam",
            "margay-netlink",
            "margay-nftnl",
            "margay-policy",
            "margay-sync",
        ],
    ),
];

/// Crates that decide and do no I/O.
const PURE: &[&str] = &[
    "margay-policy",
    "margay-ipam",
    "margay-sync",
    "margay-dataplane",
    "margay-bgp",
];
/// What a pure crate may not use.
const IO: &[&str] = &[
    "tokio",
    "socket2",
    "nix",
    "libc",
    "netlink-sys",
    "notify",
    "hyper",
    "axum",
    "rustls",
    "caps",
];
/// Crates outside `tests` that may use `tokio`.
const TOKIO: &[&str] = &[
    "margay-bgpd",
    "margay-controller",
    "margay-felix",
    "margayctl",
];
/// Crates outside `tests` that may use `kube`.
const KUBE: &[&str] = &["margay-api", "margay-controller", "margayctl"];

#[test]
fn no_crate_depends_on_what_the_design_forbids() {
    let crates = workspace();
    assert_eq!(forbidden(&crates), Vec::<String>::new());
}

#[test]
fn every_crate_of_the_workspace_has_its_arrows_written_down() {
    let mut known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    known.insert("margay-tests");
    let crates = workspace();
    assert_eq!(
        crates.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known
    );
}

#[test]
fn a_forbidden_arrow_is_found() {
    let bad = [
        ("margay-policy", "tokio"),
        ("margay-dataplane", "margay-sync"),
        ("margay-felix", "kube"),
    ];
    let crates = bad
        .map(|(name, uses)| (name.to_owned(), BTreeSet::from([uses.to_owned()])))
        .into();
    assert_eq!(forbidden(&crates).len(), 4); // the first breaks two rules
}

fn forbidden(crates: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, uses) in crates.iter().filter(|(name, _)| *name != "margay-tests") {
        let name = name.as_str();
        let allowed = ARROWS
            .iter()
            .find(|(from, _)| *from == name)
            .map_or(&[][..], |(_, to)| to);
        for used in uses.iter().map(String::as_str) {
            let ours = used.starts_with("margay") && !allowed.contains(&used);
            let io = PURE.contains(&name) && IO.contains(&used);
            let tokio = used.starts_with("tokio") && !TOKIO.contains(&name);
            let kube = used.starts_with("kube") && !KUBE.contains(&name);
            for (broken, rule) in [
                (ours, "is no arrow of DESIGN §2"),
                (io, "does I/O in a pure crate"),
                (tokio, "brings tokio outside the daemons"),
                (kube, "brings kube outside api, controller and ctl"),
            ] {
                if broken {
                    found.push(format!("{name} → {used}: {rule}"));
                }
            }
        }
    }
    found
}

/// Normal and build dependencies (tests may use more) of every crate of the workspace.
fn workspace() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let uses = dependencies
                .iter()
                .filter(|dependency| dependency["kind"] != "dev");
            let uses = uses
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), uses)
        })
        .collect()
}
