//! Probes of a world as real packets.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use margay_api::probe::Probe;
use margay_policy::flow::{End, Family, Flow, Transport};
use margay_policy::verdict::Evaluator;

use super::cluster::Lab;
use super::netns::Netns;
use super::objects::Objects;
use super::prober::{Effort, Protocol, Seen, Shot};

/// Which addresses the host beyond the router must have for these flows: those named that are no
/// live pod's and no node's `InternalIP`.
pub fn externals_of(flows: &[Flow], objects: &Objects) -> BTreeSet<IpAddr> {
    let cluster = objects.cluster();
    let evaluator = Evaluator::new(&cluster);
    let nodes: BTreeSet<IpAddr> = objects
        .nodes()
        .into_iter()
        .flat_map(|node| node.internal)
        .collect();
    flows
        .iter()
        .flat_map(|flow| [&flow.from, &flow.to])
        .filter_map(|end| match end {
            End::Address(address) => Some(*address),
            End::Pod(_) | End::Node(_) => None,
        })
        .filter(|address| evaluator.owner(*address).is_none() && !nodes.contains(address))
        .collect()
}

/// What was seen of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Got through.
    Allow,
    /// Did not; the reason if it was not plain silence.
    Deny(Option<String>),
    /// Cannot be tried.
    Skipped(String),
}

impl Lab {
    /// Sends all probes and sees which get through, in the same order.
    ///
    /// # Errors
    /// If the prober fails.
    pub fn probe(&mut self, flows: &[Flow], effort: Effort) -> Result<Vec<Answer>> {
        let cluster = self.cluster();
        let evaluator = Evaluator::new(&cluster);
        let mut answers = Vec::with_capacity(flows.len());
        let mut shots = Vec::new();
        for flow in flows {
            match evaluator
                .verdict(flow)
                .map_err(anyhow::Error::from)
                .and_then(|_| self.shot(flow, &evaluator))
            {
                Ok(shot) => {
                    shots.push(shot);
                    answers.push(None);
                }
                Err(reason) => answers.push(Some(Answer::Skipped(format!("{reason:#}")))),
            }
        }
        let mut seen = self.prober()?.shoot(shots, effort)?.into_iter();
        let answers = answers.into_iter().map(|answer| {
            answer.map_or_else(
                || match seen.next().context("the prober answers every shot")? {
                    Seen::Through => Ok(Answer::Allow),
                    Seen::Silence => Ok(Answer::Deny(None)),
                    Seen::Failed(reason) => Ok(Answer::Deny(Some(reason))),
                    Seen::Skipped(reason) => Ok(Answer::Skipped(reason)),
                },
                Ok,
            )
        });
        answers.collect()
    }

    fn shot(&self, flow: &Flow, evaluator: &Evaluator<'_>) -> Result<Shot> {
        let v4 = flow.family == Family::V4;
        let protocol = match flow.protocol {
            Transport::Port(protocol) => protocol.into(),
            Transport::Icmp => Protocol::Icmp,
            Transport::Other(number) => anyhow::bail!("IP protocol {number} has no sockets here"),
        };
        let (netns, source) = self.end(&flow.from, v4, evaluator)?;
        let (_, destination) = self.end(&flow.to, v4, evaluator)?;
        Ok(Shot {
            netns,
            source: Some(source),
            destination,
            protocol,
            port: flow.port,
        })
    }

    /// The namespace and address of an end.
    fn end(&self, end: &End, v4: bool, evaluator: &Evaluator<'_>) -> Result<(Arc<Netns>, IpAddr)> {
        let lacking = || format!("{end} has no {} address", if v4 { "IPv4" } else { "IPv6" });
        match end {
            End::Pod(id) => {
                let record = self.pod(id)?;
                Ok((
                    self.netns_called(&record.netns)?,
                    record.address(v4).with_context(lacking)?,
                ))
            }
            End::Node(name) => {
                let node = self.record.topology.node(&name.0)?;
                let address = node
                    .addresses
                    .iter()
                    .find(|address| address.is_ipv4() == v4);
                Ok((self.node(&name.0)?, *address.with_context(lacking)?))
            }
            End::Address(address) => {
                if let Some(pod) = evaluator.owner(*address) {
                    return Ok((self.netns_called(&self.pod(pod)?.netns)?, *address));
                }
                let node = self
                    .record
                    .topology
                    .nodes
                    .iter()
                    .find(|node| node.addresses.contains(address));
                match node {
                    Some(node) => Ok((self.node(&node.name)?, *address)),
                    None => Ok((self.host(), *address)),
                }
            }
        }
    }

    fn netns_called(&self, name: &str) -> Result<Arc<Netns>> {
        let known = self
            .nodes
            .values()
            .find(|netns| netns.name() == name)
            .cloned();
        known.map_or_else(|| Ok(Arc::new(Netns::open(name)?)), Ok)
    }
}

/// Reads a file of probes.
///
/// # Errors
/// If it cannot be read; the line that is no probe.
pub fn read(path: &std::path::Path) -> Result<Vec<Probe>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    margay_api::probe::read(&text).with_context(|| path.display().to_string())
}

/// The probe with what was seen of it, as a JSON line.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn line(probe: &Probe, answer: &Answer) -> Result<String> {
    let mut probe = probe.clone();
    for old in ["verdict", "skipped", "note"] {
        probe.extra.remove(old);
    }
    let (field, text) = match answer {
        Answer::Allow => ("verdict", "allow"),
        Answer::Deny(_) => ("verdict", "deny"),
        Answer::Skipped(reason) => ("skipped", reason.as_str()),
    };
    probe.extra.insert(field.to_owned(), text.into());
    if let Answer::Deny(Some(reason)) = answer {
        probe
            .extra
            .insert("note".to_owned(), reason.as_str().into());
    }
    Ok(serde_json::to_string(&probe)?)
}
