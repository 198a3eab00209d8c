//! `manifests/margay.yaml` is what `manifests/base` says.

use std::fs;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Margay: kubectl apply -f manifests/margay.yaml\n\
                    # Rendered from manifests/base by `make manifests`; do not edit.\n";

#[test]
fn the_rendered_manifest_is_the_base_put_together() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let mut expected = HEAD.to_owned();
    for file in resources(&manifests.join("base")) {
        let text = fs::read_to_string(&file).unwrap();
        expected += "---\n";
        expected += text.trim_end_matches('\n');
        expected.push('\n');
    }
    let rendered = fs::read_to_string(manifests.join("margay.yaml")).unwrap();
    assert!(
        rendered == expected,
        "manifests/margay.yaml is not what manifests/base says: run `make manifests`"
    );
}

#[test]
fn every_definition_is_installed() {
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    let mut present: Vec<PathBuf> = fs::read_dir(&crds)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("kustomization.yaml"))
        .collect();
    present.sort();
    assert_eq!(resources(&crds), present);
}

/// The files that a kustomization names, in its order; of a folder those that its own names.
fn resources(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
    let (_, list) = text.split_once("resources:\n").unwrap();
    let mut files = Vec::new();
    for entry in list.lines().filter_map(|line| line.strip_prefix("- ")) {
        let path = folder.join(entry);
        if path.is_dir() {
            let inner = folder
                .parent()
                .unwrap()
                .join(entry.trim_start_matches("../"));
            files.extend(resources(&inner));
        } else {
            files.push(path);
        }
    }
    files
}
