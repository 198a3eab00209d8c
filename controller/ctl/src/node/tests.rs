use std::fs;
use std::os::unix::net::UnixListener;

use super::{Cleanup, Command, file, run};

#[test]
fn nothing_is_removed_while_felix_answers() {
    let folder = tempfile::tempdir().unwrap();
    let _felix = UnixListener::bind(folder.path().join("felix.sock")).unwrap();
    let config = folder.path().join("10-margay.conflist");
    fs::write(&config, "{}").unwrap();
    let command = Command::Cleanup(Cleanup {
        cni_bin: folder.path().to_owned(),
        cni_config: config.clone(),
        state: folder.path().join("state"),
    });
    let refusal = run(&command, Some(folder.path())).unwrap_err().to_string();
    assert!(refusal.contains("felix runs"), "{refusal}");
    assert!(config.exists());
}

#[test]
fn what_is_gone_already_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin");
    fs::write(&path, "").unwrap();
    let mut removed = Vec::new();
    file(&path, &mut removed).unwrap();
    file(&path, &mut removed).unwrap();
    assert_eq!(removed, [path.display().to_string()]);
}
