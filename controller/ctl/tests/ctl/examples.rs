//! The examples that people start from are good YAML of kinds that we read.

use std::fs;

use margay_api::load::documents;

#[test]
fn every_example_is_accepted_without_a_remark() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for document in documents(&path, &text) {
            let document = document.unwrap();
            assert_eq!(document.warnings(), [""; 0], "{}", path.display());
            let kind = document.object.key().kind;
            assert!(
                !kind.contains(' '),
                "{}: {kind} is not read",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 0);
}
