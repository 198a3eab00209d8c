//! The program itself: its exit codes, and how it stops.

use std::process::{Child, Command, Output, Stdio};

use margay_sync::status::ControllerStatus;
use tokio::net::UnixStream;

use crate::harness::{World, within};

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
