use super::*;

#[test]
fn a_value_is_read_back_and_leaves_nothing_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    assert_eq!(get_json::<Vec<u8>>(&path).unwrap(), None);
    put(&path, b"[1, 2]").unwrap();
    put(&path, b"[3]").unwrap();
    assert_eq!(get_json(&path).unwrap(), Some(vec![3_u8]));
    assert_eq!(
        json_files(folder.path()).unwrap(),
        std::slice::from_ref(&path)
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert!(json_files(folder.path()).unwrap().is_empty());
}

#[test]
fn what_cannot_be_written_or_read_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/a.json");
    let text = put(&path, b"1").unwrap_err().to_string();
    assert!(text.contains("nowhere/a.json"), "{text}");
    let damaged = folder.path().join("b.json");
    put(&damaged, b"{\"half\":").unwrap();
    let text = get_json::<Vec<u8>>(&damaged).unwrap_err().to_string();
    assert!(text.contains("b.json is damaged"), "{text}");
}
