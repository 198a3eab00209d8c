//! The CNI plugin: a thin program that hands each request to felix.
//!
//! It runs as root, started by the container runtime. felix may not enter a pod's namespace, so the plugin opens it,
//! opens a route-netlink socket inside, and passes both on. Standard output carries nothing but the answer.
//! `margay-cni install` is the other thing it can do: put itself where the runtime looks.

mod felix;
mod install;
mod loopback;
mod plugin;
mod sandbox;

use std::io::{Read, Write};
use std::process::ExitCode;

use margay_cni::Refusal;
use margay_cni::error::Code;
use margay_cni::request::answer_version;
use serde_json::{Value, json};

/// The longest configuration that is read, in octets.
const LONGEST_CONFIG: u64 = 4 << 20;

fn main() -> ExitCode {
    // Runtimes give no arguments.
    let mut arguments = std::env::args_os();
    let called = arguments.next();
    if arguments.next().is_some_and(|word| word == "install") {
        return install::run(arguments);
    }
    let mut config = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(LONGEST_CONFIG)
        .read_to_end(&mut config);
    let outcome = match read {
        Ok(_) => {
            let environment = |name: &str| std::env::var(name).ok();
            if loopback::is_meant(called.as_deref()) {
                loopback::serve(environment, &config)
            } else {
                plugin::serve(environment, &config)
            }
        }
        Err(error) => Err(
            Refusal::new(Code::Io, "cannot read the network configuration").with(error.to_string()),
        ),
    };
    match outcome {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(result)) => print(&result),
        Err(refusal) => {
            let mut object = json!(refusal);
            object["cniVersion"] = json!(answer_version(&config));
            print(&object);
            ExitCode::FAILURE
        }
    }
}

/// Prints an answer; without a reader there is nobody to tell.
fn print(answer: &Value) -> ExitCode {
    let mut text = answer.to_string();
    text.push('\n');
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
