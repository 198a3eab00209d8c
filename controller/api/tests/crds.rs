//! `manifests/crds` holds what the types say: `UPDATE_CRDS=1 cargo test -p margay-api --test crds` writes it.

use std::fs;
use std::path::PathBuf;

use margay_api::v1::crds;

/// What `kubectl apply` can carry in its annotation, with room (DESIGN §6).
const LARGEST: usize = 200 << 10;

#[test]
fn the_definitions_in_manifests_are_those_of_the_types() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crds");
    let update = std::env::var_os("UPDATE_CRDS").is_some();
    if update {
        fs::create_dir_all(&folder).unwrap();
    }
    let mut names = Vec::new();
    for definition in crds::all() {
        let kind = definition.spec.names.kind.to_lowercase();
        let name = format!("{kind}.yaml");
        let text = format!(
            "# Generated from controller/api; do not edit.\n{}",
            serde_saphyr::to_string(&definition).unwrap()
        );
        assert!(text.len() < LARGEST, "{name} has {} bytes", text.len());
        let path = folder.join(&name);
        if update {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "{name} is not what the types say: UPDATE_CRDS=1 cargo test -p margay-api --test crds"
        );
        names.push(name);
    }
    names.sort();
    let mut present: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "kustomization.yaml")
        .collect();
    present.sort();
    assert_eq!(present, names, "files without a kind");
}
