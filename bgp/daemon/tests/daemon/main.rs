//! The program as its user meets it.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod crowds;
mod floods;
mod reload;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::Duration;

/// A running daemon; killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_margay-bgpd"));
    command.arg("--config").arg(config);
    command
}

fn output(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bgpd.toml");
    std::fs::write(&config, "asn = 64512\nrouter-id = \"192.0.2.300\"\n").unwrap();
    let (code, complaint) = output(&mut program(&config));
    assert_eq!(code, Some(1));
    assert!(complaint.contains("bgpd.toml:2: "), "{complaint}");
    let (code, complaint) = output(&mut program(&folder.path().join("nothing.toml")));
    assert_eq!(code, Some(1));
    assert!(complaint.contains("cannot read"), "{complaint}");
}

#[test]
fn without_a_file_the_usage_is_told() {
    let (code, complaint) = output(&mut Command::new(env!("CARGO_BIN_EXE_margay-bgpd")));
    assert_eq!(code, Some(2));
    assert!(complaint.contains("--config <FILE.toml>"), "{complaint}");
}

#[test]
fn the_control_socket_answers_and_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bgpd.toml");
    let socket = folder.path().join("bgpd.sock");
    // Left there by a run that was killed.
    std::fs::write(&socket, "").unwrap();
    let text = format!("asn = 1\nrouter-id = \"192.0.2.1\"\nlisten = []\ncontrol = {socket:?}\n");
    std::fs::write(&config, text).unwrap();
    let _daemon = Daemon(program(&config).spawn().unwrap());
    let ask = |request: &str| {
        let mut stream = (0..400)
            .find_map(|_| {
                std::thread::sleep(Duration::from_millis(25));
                UnixStream::connect(&socket).ok()
            })
            .unwrap();
        // Of a request that is none the rest may find the socket closed.
        let mut answer = String::new();
        let asked = stream.write_all(request.as_bytes());
        match asked.and_then(|()| stream.read_to_string(&mut answer)) {
            Ok(_) => answer,
            Err(error) => error.to_string(),
        }
    };
    let answer = ask("GET /bgp HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("{\"peers\":{},\"listeners\":{}}"),
        "{answer}"
    );
    assert!(ask("GET /bgp/routes HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n[]"));
    let answer = ask("GET /other HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(
        !ask(&"x".repeat(5000)).contains("HTTP"),
        "no request, no answer"
    );
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
