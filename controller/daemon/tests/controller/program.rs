//! The program itself: its exit codes, and how it stops.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use margay_sync::replica::Replica;
use margay_sync::status::ControllerStatus;
use tokio::net::UnixStream;

use crate::harness::{Agent, World, within};

#[tokio::test]
async fn it_serves_and_ends_well_on_sigterm() {
    let world = World::stopped();
    // With health, whose thread must not keep the rest from ending.
    let mut program = program(&world, &["--health", "127.0.0.1:0"]);
    let mut controller = Running(program.stderr(Stdio::null()).spawn().unwrap());
    within(async {
        while UnixStream::connect(&world.settings.socket).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let status: ControllerStatus = world.page("/status").await;
    assert_eq!(status.nodes, 3);
    let pid = controller.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let code = tokio::task::spawn_blocking(move || controller.0.wait().unwrap().code());
    assert_eq!(within(code).await.unwrap(), Some(0));
    assert!(!world.settings.socket.exists());
}

#[tokio::test]
async fn what_it_cannot_use_is_named_and_the_exit_code_tells() {
    let world = World::stopped();
    let run = |extra: &[&str]| program(&world, extra).output().unwrap();
    let message = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let failed = run(&["--folder", "/nowhere/at/all"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        message(&failed).contains("the folder /nowhere/at/all cannot be read"),
        "{failed:?}"
    );
    let failed = run(&["--tokens", "/nowhere/tokens"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        message(&failed).contains("cannot read the tokens in /nowhere/tokens"),
        "{failed:?}"
    );
    let misused = run(&["--listen", "everywhere"]);
    assert_eq!(misused.status.code(), Some(2));
    assert!(message(&misused).contains("--listen"), "{misused:?}");
}

/// Starts what is behind it on a kernel without IPv6 (`ipv6.disable=1`): there the family has no sockets (socket(2): EAFNOSUPPORT).
const WITHOUT_IPV6: &str = r#"
import ctypes, os, platform, struct, sys
socket_call = {"x86_64": 41, "aarch64": 198}[platform.machine()]
step = lambda code, yes, no, value: struct.pack("HBBI", code, yes, no, value)
filters = b"".join([
    step(0x20, 0, 0, 0), step(0x15, 0, 3, socket_call),  # another call: allowed
    step(0x20, 0, 0, 16), step(0x15, 0, 1, 10),          # another family than AF_INET6: allowed
    step(0x06, 0, 0, 0x00050000 | 97),                   # errno EAFNOSUPPORT
    step(0x06, 0, 0, 0x7fff0000),
])
kept = ctypes.create_string_buffer(filters)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters) // 8, ctypes.addressof(kept)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program):
    sys.exit(f"no seccomp: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[tokio::test]
async fn on_a_kernel_without_ipv6_every_address_is_every_ipv4_address() {
    let mut world = World::stopped();
    world.settings.listen = "[::]:0".parse().unwrap();
    let own = program(&world, &[]);
    let mut without = Command::new("python3");
    without.args(["-c", WITHOUT_IPV6]).arg(own.get_program());
    without.args(own.get_args()).env("RUST_LOG", "info");
    let _controller = Running(
        without
            .stderr(fs::File::create(world.path("log")).unwrap())
            .spawn()
            .unwrap(),
    );
    let said = within(async {
        loop {
            let log = fs::read_to_string(world.path("log")).unwrap();
            if log.contains("serving") || log.contains("rror") {
                return log;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let (_, port) = said.split_once("0.0.0.0:").expect(&said);
    let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port[..digits].parse().unwrap()));
    let mut agent = Agent::open(address, &world.path("tls"), "n1", "secret-n1", None).await;
    let mut stream = agent.watch(Replica::default()).await;
    assert_eq!(stream.in_sync().await.policy.endpoints.len(), 1);
}

/// The program for a world; what is in `extra` replaces its own arguments.
fn program(world: &World, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_margay-controller"));
    let settings = &world.settings;
    let own = [
        ("--folder", world.path("world").display().to_string()),
        ("--state", settings.state.display().to_string()),
        ("--listen", settings.listen.to_string()),
        ("--tokens", world.path("tokens").display().to_string()),
        ("--socket", settings.socket.display().to_string()),
        ("--tls", world.path("tls").display().to_string()),
    ];
    for (name, value) in own {
        if extra.first() != Some(&name) {
            command.args([name, &value]);
        }
    }
    command.args(extra);
    command
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
