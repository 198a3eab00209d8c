//! What the lab adds to a world's objects: nodes' addresses on the fabric, and the router as a BGP peer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use margay_api::load::Key;
use serde_json::{Value, json};

use super::objects::Objects;
use super::topology::{ROUTER_ASN, Topology};

/// AS number of the nodes unless the world says otherwise.
const NODE_ASN: u32 = 64512;

/// AS number and BGP port of the nodes.
pub(super) fn speaker_settings(objects: &Objects) -> (u32, u16) {
    let config = objects
        .documents
        .iter()
        .find(|(key, _)| key.kind == "NetworkConfig" && key.name == "default");
    let number =
        |field: &str| config.and_then(|(_, document)| document["spec"]["bgp"][field].as_u64());
    (
        number("asn")
            .and_then(|asn| asn.try_into().ok())
            .unwrap_or(NODE_ASN),
        number("port")
            .and_then(|port| port.try_into().ok())
            .unwrap_or(179),
    )
}

/// Adds what the lab needs and the world does not say: nodes' addresses on the fabric, the router as a BGP peer.
pub(super) fn complete(objects: &mut Objects, topology: &Topology) -> Result<()> {
    let mut peers: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for node in &topology.nodes {
        let router = node
            .addresses
            .first()
            .and_then(|address| topology.router_for(*address));
        peers
            .entry(router.context("every node has a router")?)
            .or_default()
            .push(node.name.clone());
    }
    let single = peers.len() == 1;
    for node in &topology.nodes {
        let key = Key {
            kind: "Node".to_owned(),
            namespace: String::new(),
            name: node.name.clone(),
        };
        let mut document = objects.documents.remove(&key).unwrap_or_else(
            || json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}}),
        );
        let written = document
            .pointer("/status/addresses")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let internal =
            |address: &IpAddr| json!({"type": "InternalIP", "address": address.to_string()});
        // The order matters: BGP speaks over the first.
        let mut addresses: Vec<Value> = node.addresses.iter().map(internal).collect();
        addresses.extend(
            written
                .into_iter()
                .filter(|address| address["type"] != "InternalIP"),
        );
        document["status"]["addresses"] = addresses.into();
        if !single {
            let router = peers
                .iter()
                .position(|(_, nodes)| nodes.contains(&node.name))
                .unwrap_or_default();
            document["metadata"]["labels"]["lab.margay.io/router"] =
                format!("router-{router}").into();
        }
        objects.documents.insert(key, document);
    }
    if !objects.documents.keys().any(|key| key.kind == "BGPPeer") {
        for (number, (address, nodes)) in peers.iter().enumerate() {
            let (name, nodes) = if single {
                ("router".to_owned(), &[][..])
            } else {
                (format!("router-{number}"), &nodes[..])
            };
            objects.add(bgp_peer(&name, *address, ROUTER_ASN, nodes))?;
        }
    }
    Ok(())
}

/// The `BGPPeer` object for the router.
fn bgp_peer(name: &str, address: IpAddr, asn: u32, nodes: &[String]) -> Value {
    let mut spec = json!({"peerAddress": address, "peerASN": asn});
    if !nodes.is_empty() {
        let expression = json!({"key": "lab.margay.io/router", "operator": "In", "values": [name]});
        spec["nodeSelector"] = json!({"matchExpressions": [expression]});
    }
    json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "BGPPeer",
        "metadata": {"name": name}, "spec": spec,
    })
}

#[cfg(test)]
mod tests;
