//! The runtime's network configuration: once it is there, the node counts as ready for pods.

use std::path::Path;

use serde_json::{Value, json};

use crate::disk;

/// Writes the configuration whose plugin calls `socket` to `path`, unless it is there already. To be called once
/// the socket answers. Says which other configurations lie beside it: runtimes take the first by name.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn put(path: &Path, socket: &Path, state: &Path) -> anyhow::Result<()> {
    let wanted = content(socket, state);
    let there = std::fs::read(path).ok();
    let same = there.is_some_and(|octets| {
        serde_json::from_slice::<Value>(&octets).is_ok_and(|found| found == wanted)
    });
    if !same {
        let mut text = serde_json::to_vec_pretty(&wanted)?;
        text.push(b'\n');
        disk::put(path, &text)?;
        tracing::info!(path = %path.display(), "the network configuration is in place: the node takes pods");
    }
    for other in others(path) {
        if other.as_str() < file_name(path) {
            tracing::warn!(
                other,
                "another network configuration comes before ours: the runtime uses that one; remove it"
            );
        } else {
            tracing::info!(
                other,
                "another network configuration lies beside ours; ours is used"
            );
        }
    }
    Ok(())
}

/// `cniVersion` is the newest that libcni before 1.2 reads; newer ones take the best of `cniVersions`, and with 1.1.0 also
/// ask for STATUS and GC.
fn content(socket: &Path, state: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": "margay",
        "plugins": [{ "type": "margay-cni", "socket": socket, "state": state }],
    })
}

/// Names of the other configurations that a runtime would read, sorted.
fn others(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = path
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let extension = Path::new(name).extension().and_then(|text| text.to_str());
            matches!(extension, Some("conf" | "conflist" | "json")) && name != file_name(path)
        })
        .collect();
    names.sort_unstable();
    names
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
