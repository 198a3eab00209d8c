//! Calls the CNI plugin as a container runtime does.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use ipnet::IpNet;
use margay_policy::model::PodId;
use serde_json::{Value, json};

use super::process::program;

/// What a runtime knows of one attachment.
#[derive(Clone, Debug)]
pub struct Request {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`; `None`: not given.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// The pod.
    pub pod: PodId,
    /// `K8S_POD_UID`.
    pub uid: String,
    /// The network configuration for standard input.
    pub config: Value,
}

impl Request {
    /// `CNI_ARGS`.
    pub fn arguments(&self) -> String {
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.pod.namespace, self.pod.name, self.container, self.uid
        )
    }

    /// Starts the plugin for `verb`; its standard input is written and closed.
    ///
    /// # Errors
    /// If the program is not built or cannot be started.
    pub fn start(&self, verb: &str) -> Result<Child> {
        let path = program("margay-cni")?;
        let mut command = Command::new(&path);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_IFNAME", &self.interface)
            .env(
                "CNI_PATH",
                path.parent().context("a program is in a folder")?,
            )
            .env("CNI_ARGS", self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(netns) = &self.netns {
            command.env("CNI_NETNS", netns);
        }
        let mut child = command.spawn().context("cannot start margay-cni")?;
        let mut input = child
            .stdin
            .take()
            .context("margay-cni has no standard input")?;
        // A plugin that ends before it has read everything says why on its standard output.
        let _broken_pipe = input.write_all(self.config.to_string().as_bytes());
        Ok(child)
    }

    /// Runs the plugin for `verb`, whatever comes of it.
    ///
    /// # Errors
    /// If the program is not built or cannot be started.
    pub fn run(&self, verb: &str) -> Result<Output> {
        Ok(self.start(verb)?.wait_with_output()?)
    }

    /// Runs the plugin for `verb` and gives its result (`null` if it prints none).
    ///
    /// # Errors
    /// The error object's message and details if it refuses.
    pub fn call(&self, verb: &str) -> Result<Value> {
        let output = self.run(verb)?;
        let printed: Value = if output.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&output.stdout).with_context(|| {
                format!(
                    "margay-cni {verb} printed no JSON: {}",
                    String::from_utf8_lossy(&output.stdout)
                )
            })?
        };
        if output.status.success() {
            return Ok(printed);
        }
        let text = |field: &str| printed[field].as_str().unwrap_or_default().to_owned();
        Err(anyhow!(
            "CNI {verb} of {}: {} {} (code {}) {}",
            self.pod,
            text("msg"),
            text("details"),
            printed["code"],
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// The configuration that the lab's nodes use.
pub fn config(version: &str, socket: &str, state: &str) -> Value {
    json!({"cniVersion": version, "name": "margay", "type": "margay-cni", "socket": socket, "state": state})
}

/// The addresses in the result of an ADD.
///
/// # Errors
/// If there are none.
pub fn addresses(result: &Value) -> Result<BTreeSet<IpAddr>> {
    let ips = result["ips"]
        .as_array()
        .with_context(|| format!("CNI result without `ips`: {result}"))?;
    let mut addresses = BTreeSet::new();
    for ip in ips {
        let net: IpNet = ip["address"]
            .as_str()
            .unwrap_or_default()
            .parse()
            .context("CNI result with a bad address")?;
        addresses.insert(net.addr());
    }
    if addresses.is_empty() {
        bail!("CNI result without addresses: {result}");
    }
    Ok(addresses)
}
