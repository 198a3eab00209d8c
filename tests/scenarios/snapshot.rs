//! What a node has in its kernel and its state folder, for comparing before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use margay_tests::lab::clock::wait;
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::ip;
use serde_json::Value;

/// As [`of`], once a node that has no pods yet is done with starting: its first blocks are claimed, and its files written.
pub(crate) fn at_rest(lab: &Lab, node: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    wait("the node is at rest", Duration::from_secs(15), || {
        lines = of(lab, node);
        let blocks = lines.iter().filter(|line| line.contains("blackhole"));
        let half_written = lines.iter().any(|line| line.contains("json.new"));
        match blocks.count() {
            2 if !half_written => Ok(()),
            blocks => Err(format!("{blocks} blocks: {lines:#?}")),
        }
    })
    .unwrap();
    lines
}

/// Links, addresses, routes, nft table and files of a node, a line each.
pub(crate) fn of(lab: &Lab, node: &str) -> BTreeSet<String> {
    let netns = lab.node(node).unwrap();
    let mut lines = BTreeSet::new();
    let listed = |arguments: &[&str], fields: &[&str]| -> Vec<String> {
        let Value::Array(entries) = ip::json(netns.name(), arguments).unwrap() else {
            panic!("no list")
        };
        let words = |entry: &Value| {
            fields
                .iter()
                .map(|field| entry[*field].to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        entries.iter().map(words).collect()
    };
    for link in listed(&["link", "show"], &["ifname", "operstate"]) {
        lines.insert(format!("link {link}"));
    }
    for family in ["-4", "-6"] {
        for route in listed(
            &[family, "route", "show"],
            &["type", "dst", "dev", "gateway", "nexthops", "protocol"],
        ) {
            lines.insert(format!("route {route}"));
        }
        for address in listed(&[family, "address", "show"], &["ifname", "addr_info"]) {
            // Lifetimes and indices of links differ; the addresses must not.
            let addresses = address
                .split("\"local\":")
                .skip(1)
                .filter_map(|rest| rest.split(',').next());
            let link = address.split(' ').next().unwrap_or_default();
            lines.extend(addresses.map(|address| format!("address {link} {address}")));
        }
    }
    lines.extend(
        table(lab, node)
            .lines()
            .map(|line| format!("nft {}", line.trim())),
    );
    files(&lab.node_folder(node).join("state"), &mut lines);
    lines
}

/// The table `inet margay`, elements one a line, without what only says how old flows are treated: which
/// policy epoch it is, and which addresses earlier changes touched.
pub(crate) fn table(lab: &Lab, node: &str) -> String {
    let text = nft(lab, node, "list table inet margay").unwrap_or_default();
    let mut lines = Vec::new();
    let mut skipping = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["set", name, "{"] = words.as_slice() {
            skipping = matches!(*name, "epoch" | "window" | "stale4" | "stale6");
        }
        if !skipping && !line.contains("ct mark set") {
            lines.push(line);
        }
        if line == "\t}" {
            skipping = false;
        }
    }
    lines
        .join("\n")
        .replace("elements = {", "\n")
        .replace([',', '}'], "\n")
}

/// Runs nft on a node and gives what it prints, or why it was refused.
pub(crate) fn nft(lab: &Lab, node: &str, command: &str) -> Result<String, String> {
    let netns = lab.node(node).unwrap();
    let output = netns
        .run(|| Ok(Command::new("nft").arg(command).output()?))
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "nft {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Waits until a node has again what it had.
pub(crate) fn wait_same(lab: &Lab, node: &str, before: &BTreeSet<String>) {
    wait(
        "the node has what it had before",
        Duration::from_secs(15),
        || {
            let after = of(lab, node);
            let left: Vec<&String> = after.difference(before).collect();
            let gone: Vec<&String> = before.difference(&after).collect();
            if left.is_empty() && gone.is_empty() {
                Ok(())
            } else {
                Err(format!("left {left:#?}, gone {gone:#?}"))
            }
        },
    )
    .unwrap();
}

fn files(folder: &Path, lines: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, lines);
        } else if !path.ends_with("addresses.json") {
            // That one is there once addresses were ever handed out: which were freed last.
            lines.insert(format!("file {}", path.display()));
        }
    }
}
