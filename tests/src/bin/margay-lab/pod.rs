//! `pod add` and `pod rm`.

use anyhow::{Context, Result};
use margay_api::load::Key;
use margay_policy::model::PodId;
use margay_tests::lab::cluster::Lab;
use serde_json::{Value, json};

use crate::args::PodCommand;
use crate::words::say;

pub(crate) fn run(name: &str, command: PodCommand) -> Result<()> {
    let mut lab = Lab::open(name)?;
    match command {
        PodCommand::Add {
            pod,
            node,
            label,
            port,
            address,
            host_network,
        } => {
            lab.node(&node)?;
            let ports = port
                .iter()
                .map(|text| container_port(text))
                .collect::<Result<Vec<_>>>()?;
            let labels: serde_json::Map<String, Value> = label
                .into_iter()
                .map(|(key, value)| (key, value.into()))
                .collect();
            let mut document = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod.name, "namespace": pod.namespace, "labels": labels},
                "spec": {
                    "nodeName": node, "hostNetwork": host_network,
                    "containers": [{"name": "main", "image": "none", "ports": ports}],
                },
            });
            if !address.is_empty() {
                let ips: Vec<Value> = address
                    .iter()
                    .map(|address| json!({"ip": address}))
                    .collect();
                document["status"] = json!({"podIPs": ips});
            }
            lab.apply(document)?;
            let started = lab.start_pods(std::slice::from_ref(&pod));
            if started.is_err() {
                lab.delete(&key(&pod))?;
            }
            started?;
            let addresses = &lab.pod(&pod)?.addresses;
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            say(&format!(
                "pod {pod} runs on {node}: {}",
                addresses.join(" ")
            ))?;
        }
        PodCommand::Rm { pod } => {
            lab.stop_pods(std::slice::from_ref(&pod))?;
            lab.delete(&key(&pod))?;
            say(&format!("pod {pod} is gone"))?;
        }
    }
    Ok(())
}

fn key(pod: &PodId) -> Key {
    Key {
        kind: "Pod".to_owned(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
    }
}

/// `80`, `53/UDP` or `http:80/TCP` as a container's port.
fn container_port(text: &str) -> Result<Value> {
    let (name, rest) = text
        .split_once(':')
        .map_or((None, text), |(name, rest)| (Some(name), rest));
    let (number, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
    let number: u16 = number
        .parse()
        .with_context(|| format!("`{text}` is no port: write 80, 53/UDP or http:80/TCP"))?;
    let mut port = json!({"containerPort": number, "protocol": protocol.to_ascii_uppercase()});
    if let Some(name) = name {
        port["name"] = name.into();
    }
    Ok(port)
}
