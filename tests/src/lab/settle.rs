//! Waiting until the lab's state is what its objects and pods say: policy in every kernel, sessions
//! up, routes in place.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use margay_policy::model::NodeName;
use margay_sync::status::{Link, NodeStatus, NodesPage, ObjectsPage};
use serde_json::{Value, json};

use super::clock::wait;
use super::cluster::Lab;
use super::ip;

/// How long anything may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

impl Lab {
    /// Waits until every felix is in sync and every BGP session is established, BIRD's too.
    ///
    /// # Errors
    /// What is still missing at the deadline.
    pub fn wait_ready(&self) -> Result<()> {
        wait("daemons in sync and BGP sessions up", PATIENCE, || {
            for node in self.node_names() {
                let status = self.in_sync(&node)?;
                if status.peers.is_empty() {
                    return Err(format!("{node} has no BGP peers yet"));
                }
                for (name, peer) in &status.peers {
                    if peer.state != "Established" {
                        return Err(format!(
                            "{node}: session {name} is {}: {} {}",
                            peer.state, peer.reason, peer.hint
                        ));
                    }
                }
            }
            self.bird_sessions()
        })
    }

    /// Waits until all objects and pods of now are in force everywhere: kernels and routes.
    ///
    /// # Errors
    /// What is still missing at the deadline.
    pub fn settle(&mut self) -> Result<()> {
        self.wait_read()?;
        wait(
            "policy in every kernel and routes in place",
            PATIENCE,
            || {
                self.policy_in_kernels()?;
                self.routes_in_place()
            },
        )
    }

    /// Waits until the controller has read every change to its folder so far.
    ///
    /// # Errors
    /// If it has not at the deadline.
    pub fn wait_read(&mut self) -> Result<()> {
        // Files are read in the order in which they changed, or all at once: a mark that is known says that all before
        // it is.
        self.marks += 1;
        let name = format!("lab-mark-{}-{}", std::process::id(), self.marks);
        let mark = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let key = self.apply(mark)?;
        let read = wait("the controller has read its folder", PATIENCE, || {
            let page: ObjectsPage = self
                .ask_controller("/objects")
                .map_err(|error| format!("{error:#}"))?;
            let found = page
                .objects
                .iter()
                .any(|object| object.kind == key.kind && object.name == key.name);
            if found {
                Ok(())
            } else {
                Err(format!("it does not know {key}"))
            }
        });
        self.delete(&key)?;
        read
    }

    /// Waits until every felix answers and has rules in its kernel, whether the controller is there or not.
    ///
    /// # Errors
    /// Which felix does not.
    pub fn wait_rules(&self) -> Result<()> {
        wait("every felix has realised something", PATIENCE, || {
            for node in self.node_names() {
                let status: NodeStatus = self
                    .ask_felix(&node, "/status")
                    .map_err(|error| format!("{node}: {error:#}"))?;
                if status.realised.is_none() {
                    return Err(format!("{node} has realised nothing"));
                }
            }
            Ok(())
        })
    }

    fn in_sync(&self, node: &str) -> Result<NodeStatus, String> {
        let status: NodeStatus = self.ask_felix(node, "/status").map_err(|error| {
            format!(
                "{node}: {error:#}; {}",
                self.log_tail(&format!("nodes/{node}/felix.log"))
            )
        })?;
        match &status.controller {
            Link::Up => {}
            Link::Unknown => {
                return Err(format!("{node} has not tried to reach the controller yet"));
            }
            Link::Down { reason } => return Err(format!("{node} has no stream: {reason}")),
        }
        if status.received.is_none() || status.realised != status.received {
            let (received, realised) = (&status.received, &status.realised);
            let log = self.log_tail(&format!("nodes/{node}/felix.log"));
            return Err(format!(
                "{node} received {received:?} and realised {realised:?}; {log}"
            ));
        }
        Ok(status)
    }

    /// Whether every node's kernel has what the controller would tell it now.
    ///
    /// # Errors
    /// Which node does not, and why.
    pub fn policy_in_kernels(&self) -> Result<(), String> {
        let page: NodesPage = self
            .ask_controller("/nodes")
            .map_err(|error| format!("{error:#}"))?;
        for node in self.node_names() {
            let status = self.in_sync(&node)?;
            let view = page
                .nodes
                .get(&NodeName(node.clone()))
                .ok_or(format!("the controller does not know {node}"))?;
            if view.revision != status.realised {
                return Err(format!(
                    "{node} realised {:?}, the controller is at {:?}",
                    status.realised, view.revision
                ));
            }
            let reported = view.report.as_ref().map(|report| &report.pods);
            for (id, record) in self
                .pods()
                .filter(|(_, record)| record.node == node && record.container.is_some())
            {
                let known = reported.and_then(|pods| pods.get(id));
                if known.is_none_or(|pod| pod.addresses != record.addresses) {
                    return Err(format!(
                        "the controller has no report of pod {id} on {node}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn bird_sessions(&self) -> Result<(), String> {
        let text = self
            .bird("show protocols")
            .map_err(|error| format!("{error:#}"))?;
        let up = text
            .lines()
            .filter(|line| line.starts_with("node") && line.contains("Established"))
            .count();
        if up == self.node_names().len() {
            Ok(())
        } else {
            Err(format!("BIRD:\n{text}"))
        }
    }

    /// Whether every pod and external address is routed from everywhere.
    ///
    /// # Errors
    /// The first route that is missing.
    pub fn routes_in_place(&self) -> Result<(), String> {
        let gateways: BTreeSet<IpAddr> = self.topology().router.iter().map(IpNet::addr).collect();
        let mut places: Vec<(String, Option<String>)> = vec![(self.router.name().to_owned(), None)];
        places.extend(
            self.nodes
                .iter()
                .map(|(node, netns)| (netns.name().to_owned(), Some(node.clone()))),
        );
        for (netns, node) in places {
            let who = node.as_deref().unwrap_or("the router");
            let routes = Routes::of(&netns).map_err(|error| format!("{error:#}"))?;
            for (id, record) in self.pods().filter(|(_, record)| record.container.is_some()) {
                let next = self
                    .topology()
                    .node(&record.node)
                    .map_err(|error| error.to_string())?;
                for address in &record.addresses {
                    if node.as_ref() == Some(&record.node) {
                        let link = routes
                            .find(*address)
                            .and_then(|route| route["dev"].as_str());
                        if link.is_none_or(|link| !link.starts_with("mgy")) {
                            return Err(format!(
                                "{who} has no link route to its pod {id} ({address})"
                            ));
                        }
                    } else if !routes.leads_to(*address, |hop| next.addresses.contains(&hop)) {
                        return Err(format!(
                            "{who} has no route to pod {id} ({address}) over {}",
                            record.node
                        ));
                    }
                }
            }
            if node.is_some() {
                for address in &self.topology().externals {
                    if !routes.leads_to(*address, |hop| gateways.contains(&hop)) {
                        return Err(format!("{who} has no route to {address} over the router"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The main tables of a namespace, longest prefix first.
struct Routes(Vec<(IpNet, Value)>);

impl Routes {
    fn of(netns: &str) -> Result<Self> {
        let mut routes = Vec::new();
        for family in ["-4", "-6"] {
            let Value::Array(listed) = ip::json(netns, &[family, "route", "show"])? else {
                continue;
            };
            for route in listed {
                let text = route["dst"].as_str().unwrap_or_default();
                let prefix = match text {
                    "default" if family == "-4" => "0.0.0.0/0".parse().ok(),
                    "default" => "::/0".parse().ok(),
                    _ => text
                        .parse()
                        .ok()
                        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)),
                };
                routes.extend(prefix.map(|prefix| (prefix, route)));
            }
        }
        routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        Ok(Self(routes))
    }

    fn find(&self, address: IpAddr) -> Option<&Value> {
        self.0
            .iter()
            .find(|(prefix, _)| prefix.contains(&address))
            .map(|(_, route)| route)
    }

    /// Whether some next hop of the route is one of these.
    fn leads_to(&self, address: IpAddr, is_hop: impl Fn(IpAddr) -> bool) -> bool {
        let Some(route) = self.find(address) else {
            return false;
        };
        let several = route["nexthops"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        std::iter::once(route).chain(several).any(|hop| {
            let text = hop["gateway"]
                .as_str()
                .or_else(|| hop["via"]["host"].as_str());
            text.and_then(|text| text.parse().ok()).is_some_and(&is_hop)
        })
    }
}
