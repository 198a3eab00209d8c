//! `ip` of iproute2, many commands in one process.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs commands (`link set lo up`) in a namespace, in order, up to the first that fails.
///
/// # Errors
/// If `ip` cannot be run or a command fails: what it said.
pub fn batch(netns: &str, commands: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", netns, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip`: install the package iproute2")?;
    let mut text = commands.join("\n");
    text.push('\n');
    child
        .stdin
        .take()
        .context("ip has no standard input")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "ip, in namespace {netns}: {}\nof:\n{text}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Runs one command that answers in JSON (`route show`).
///
/// # Errors
/// If `ip` cannot be run or says no.
pub fn json(netns: &str, arguments: &[&str]) -> Result<serde_json::Value> {
    let output = Command::new("ip")
        .args(["-n", netns, "-j"])
        .args(arguments)
        .output()
        .context("cannot run `ip`: install the package iproute2")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(serde_json::Value::Array(Vec::new()));
    }
    serde_json::from_slice(&output.stdout).context("ip gave something that is not JSON")
}
