use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Orders, PLUGIN};

fn parse(arguments: &[&str]) -> Option<Orders> {
    Orders::parse(arguments.iter().map(Into::into))
}

#[test]
fn the_plugin_replaces_an_older_one_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(PLUGIN), "older").unwrap();
    let orders = parse(&["--bin", folder.path().to_str().unwrap()]).unwrap();
    orders.carry_out().unwrap();
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let place = folder.path().join(PLUGIN);
    assert!(
        std::fs::read(&place).unwrap() == own,
        "the plugin is not this program"
    );
    let mode = std::fs::metadata(&place).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    let stand_in = std::fs::read_link(folder.path().join("loopback")).unwrap();
    assert_eq!(stand_in, PathBuf::from(PLUGIN));
}

#[test]
fn forwarding_is_turned_on_where_it_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let switch = folder.path().join("ipv4/ip_forward");
    std::fs::create_dir(folder.path().join("ipv4")).unwrap();
    std::fs::write(&switch, "0\n").unwrap();
    let orders = Orders {
        bin: folder.path().to_owned(),
        forwarding: Some(folder.path().to_owned()),
    };
    // A kernel without IPv6 has no switch for it.
    orders.carry_out().unwrap();
    assert_eq!(std::fs::read_to_string(&switch).unwrap(), "1");
}

#[test]
fn a_loopback_plugin_that_is_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("loopback"), "another's").unwrap();
    let orders = parse(&["--bin", folder.path().to_str().unwrap()]).unwrap();
    orders.carry_out().unwrap();
    let there = std::fs::read_to_string(folder.path().join("loopback")).unwrap();
    assert_eq!(there, "another's");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let orders = parse(&["--bin", "/nonexistent/bin"]).unwrap();
    let why = orders.carry_out().unwrap_err();
    assert!(why.contains("/nonexistent/bin/margay-cni"), "{why}");
}

#[test]
fn only_what_is_known_is_understood() {
    assert_eq!(parse(&[]), None);
    assert_eq!(parse(&["--bin"]), None);
    assert_eq!(parse(&["--bin", "a", "--bni", "b"]), None);
    let orders = Orders {
        bin: PathBuf::from("a"),
        forwarding: Some(PathBuf::from("b")),
    };
    assert_eq!(parse(&["--forwarding", "b", "--bin", "a"]), Some(orders));
}
