use std::path::Path;

use super::{others, put};

const SOCKET: &str = "/run/margay/cni.sock";
const STATE: &str = "/var/lib/margay";

#[test]
fn the_configuration_names_the_plugin_and_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("10-margay.conflist");
    put(&path, Path::new(SOCKET), Path::new(STATE)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["cniVersion"], "1.0.0");
    assert_eq!(written["plugins"][0]["type"], "margay-cni");
    assert_eq!(written["plugins"][0]["socket"], SOCKET);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_configuration_that_is_as_it_should_be_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("10-margay.conflist");
    put(&path, Path::new(SOCKET), Path::new(STATE)).unwrap();
    let before = inode(&path);
    put(&path, Path::new(SOCKET), Path::new(STATE)).unwrap();
    assert_eq!(inode(&path), before);
    std::fs::write(&path, "{").unwrap();
    put(&path, Path::new(SOCKET), Path::new(STATE)).unwrap();
    assert_ne!(std::fs::read_to_string(&path).unwrap(), "{");
}

#[test]
fn other_configurations_are_those_that_a_runtime_would_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "10-margay.conflist",
        "05-other.conf",
        "99-loopback.json",
        "README",
        ".10-margay.conflist.new",
    ] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    assert_eq!(
        others(&folder.path().join("10-margay.conflist")),
        ["05-other.conf", "99-loopback.json"]
    );
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().ino()
}
