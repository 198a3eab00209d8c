//! Pods: a namespace each, attached through the CNI plugin as a runtime does it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use margay_api::load::Key;
use margay_policy::model::{NodeName, PodId};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::cluster::Lab;
use super::netns::{self, Netns};
use super::prober::{Listener, Prober, Protocol};
use super::{cni, guard, ip, process};

/// Pods that are attached or removed at the same time.
const AT_ONCE: usize = 8;

/// A pod that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Its node.
    pub node: String,
    /// The name of its namespace; its node's with `hostNetwork`.
    pub netns: String,
    /// `CNI_CONTAINERID`; `None` with `hostNetwork`.
    pub container: Option<String>,
    /// The uid that the runtime says.
    pub uid: String,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Ports that its containers listen on.
    pub ports: BTreeSet<(Protocol, u16)>,
}

impl PodRecord {
    /// Its address of a family.
    pub fn address(&self, v4: bool) -> Option<IpAddr> {
        self.addresses
            .iter()
            .find(|address| address.is_ipv4() == v4)
            .copied()
    }
}

impl Lab {
    /// The pods that run.
    pub fn pods(&self) -> impl Iterator<Item = (&PodId, &PodRecord)> {
        self.record.pods.iter()
    }

    /// A pod that runs.
    ///
    /// # Errors
    /// If it does not.
    pub fn pod(&self, id: &PodId) -> Result<&PodRecord> {
        self.record
            .pods
            .get(id)
            .with_context(|| format!("no pod `{id}` runs"))
    }

    /// A pod's namespace.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pod_netns(&self, id: &PodId) -> Result<Arc<Netns>> {
        Ok(Arc::new(Netns::open(&self.pod(id)?.netns)?))
    }

    /// Pods of the objects that a kubelet would run: scheduled, not finished, with addresses of their own.
    pub fn wanted_pods(&self) -> Vec<PodId> {
        let cluster = self.objects.cluster();
        let superseded = |id: &PodId| {
            let pod = &cluster.pods[id];
            let newer = |(other, rival): &(&PodId, &margay_policy::model::Pod)| {
                *other != id
                    && !rival.finished
                    && !rival.host_network
                    && rival
                        .addresses
                        .intersection(&pod.addresses)
                        .next()
                        .is_some()
                    && (&rival.created, &rival.uid, *other) > (&pod.created, &pod.uid, id)
            };
            !pod.host_network && cluster.pods.iter().any(|pair| newer(&pair))
        };
        let wanted = cluster
            .pods
            .iter()
            .filter(|(id, pod)| pod.node.is_some() && !pod.finished && !superseded(id));
        wanted.map(|(id, _)| id.clone()).collect()
    }

    /// Starts pods, several at once: namespace, CNI ADD, listeners on their ports.
    ///
    /// # Errors
    /// The first that could not be started; others may run.
    pub fn start_pods(&mut self, ids: &[PodId]) -> Result<()> {
        self.start_pods_watched(ids, |_, _| {})
    }

    /// As [`Lab::start_pods`]; `before_add` sees each pod's namespace before it has any link.
    ///
    /// # Errors
    /// The first that could not be started; others may run.
    pub fn start_pods_watched(
        &mut self,
        ids: &[PodId],
        before_add: impl Fn(&PodId, &Netns) + Sync,
    ) -> Result<()> {
        let cluster = self.objects.cluster();
        let mut plans = Vec::new();
        for id in ids {
            if self.record.pods.contains_key(id) {
                bail!("pod {id} runs already");
            }
            let pod = cluster
                .pods
                .get(id)
                .with_context(|| format!("there is no pod object {id}"))?;
            let NodeName(node) = pod
                .node
                .clone()
                .with_context(|| format!("pod {id} has no spec.nodeName"))?;
            self.record.pod_count += 1;
            let key = Key {
                kind: "Pod".to_owned(),
                namespace: id.namespace.clone(),
                name: id.name.clone(),
            };
            let mut record = PodRecord {
                netns: self
                    .scratch
                    .netns_name(&format!("p{}", self.record.pod_count)),
                container: Some([(); 8].map(|()| guard::random()).concat()),
                uid: self.objects.uid(&key),
                addresses: BTreeSet::new(),
                ports: pod
                    .ports
                    .iter()
                    .map(|port| (port.protocol.into(), port.number))
                    .collect(),
                node,
            };
            if pod.host_network {
                self.node(&record.node)?
                    .name()
                    .clone_into(&mut record.netns);
                record.container = None;
                record.addresses = self
                    .record
                    .topology
                    .node(&record.node)?
                    .addresses
                    .iter()
                    .copied()
                    .collect();
            }
            plans.push((id.clone(), record));
        }
        let lab = &*self;
        let results = parallel(plans, |(id, mut record)| {
            if record.container.is_some() {
                let suffix = record.netns.rsplit('-').next().unwrap_or_default();
                let netns = lab.scratch.netns(suffix)?;
                ip::batch(&record.netns, &["link set lo up".to_owned()])?;
                before_add(&id, &netns);
                record.addresses = cni::addresses(&lab.cni_request(&id, &record)?.call("ADD")?)?;
            }
            Ok((id, record))
        });
        let mut failed = None;
        for result in results {
            match result {
                Ok((id, record)) => drop(self.record.pods.insert(id, record)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        self.pods_changed(ids)?;
        failed.map_or(Ok(()), Err)
    }

    /// Ends pods, several at once: CNI DEL, then their namespaces go.
    ///
    /// # Errors
    /// The first that could not be ended.
    pub fn stop_pods(&mut self, ids: &[PodId]) -> Result<()> {
        let mut plans = Vec::new();
        for id in ids {
            plans.push((id.clone(), self.pod(id)?.clone()));
            if let (Some(listener), Some(prober)) = (self.listeners.remove(id), &self.prober) {
                prober.close(listener)?;
            }
        }
        let lab = &*self;
        let results = parallel(plans, |(id, record)| {
            if record.container.is_some() {
                netns::end_processes(std::slice::from_ref(&record.netns))?;
                lab.cni_request(&id, &record)?.call("DEL")?;
                netns::delete(&record.netns)?;
            }
            Ok(id)
        });
        let mut failed = None;
        for result in results {
            match result {
                Ok(id) => drop(self.record.pods.remove(&id)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        self.pods_changed(&[])?;
        failed.map_or(Ok(()), Err)
    }

    /// The CNI request of a pod that runs or is about to.
    ///
    /// # Errors
    /// If it uses its node's network.
    pub fn cni_request(&self, id: &PodId, record: &PodRecord) -> Result<cni::Request> {
        let folder = self.node_folder(&record.node);
        let config = cni::config(
            "1.1.0",
            &folder.join("cni.sock").to_string_lossy(),
            &folder.join("state").to_string_lossy(),
        );
        Ok(cni::Request {
            container: record
                .container
                .clone()
                .with_context(|| format!("pod {id} is a hostNetwork pod"))?,
            netns: Some(std::path::Path::new("/run/netns").join(&record.netns)),
            interface: "eth0".to_owned(),
            pod: id.clone(),
            uid: record.uid.clone(),
            config,
        })
    }

    /// The prober of this process, started when first used.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn prober(&mut self) -> Result<&Prober> {
        if self.prober.is_none() {
            self.prober = Some(Prober::start()?);
        }
        self.prober.as_ref().context("it was just started")
    }

    /// What listens for each pod, by a name that is never used again.
    ///
    /// hostNetwork pods of one node share its ports: the first has them.
    ///
    /// # Errors
    /// If a namespace is gone.
    pub fn listeners_of_pods(&self) -> Result<BTreeMap<String, Listener>> {
        let mut taken: BTreeSet<(&str, Protocol, u16)> = BTreeSet::new();
        let mut listeners = BTreeMap::new();
        for (id, record) in &self.record.pods {
            let free = record
                .ports
                .iter()
                .filter(|(protocol, port)| taken.insert((&record.netns, *protocol, *port)));
            let netns = Arc::new(Netns::open(&record.netns)?);
            let listener = Listener {
                netns,
                addresses: record.addresses.clone(),
                ports: free.copied().collect(),
            };
            listeners.insert(format!("{id} in {}", record.netns), listener);
        }
        Ok(listeners)
    }

    /// Makes pods listen: `started` ones here, or all by the process that does it for a standing lab.
    fn pods_changed(&mut self, started: &[PodId]) -> Result<()> {
        if let Some(server) = self.server() {
            let pid = server.pid();
            self.save()?;
            process::signal(pid, Signal::SIGHUP);
            return Ok(());
        }
        let mut listeners = self.listeners_of_pods()?;
        for id in started {
            let Some(record) = self.record.pods.get(id) else {
                continue;
            };
            if let Some(listener) = listeners.remove(&format!("{id} in {}", record.netns)) {
                let opened = self
                    .prober()?
                    .listen(listener)
                    .with_context(|| format!("pod {id}"))?;
                self.listeners.insert(id.clone(), opened);
            }
        }
        Ok(())
    }
}

impl From<margay_policy::model::Protocol> for Protocol {
    fn from(protocol: margay_policy::model::Protocol) -> Self {
        match protocol {
            margay_policy::model::Protocol::Tcp => Self::Tcp,
            margay_policy::model::Protocol::Udp => Self::Udp,
            margay_policy::model::Protocol::Sctp => Self::Sctp,
        }
    }
}

/// Does `work` on every item, some at once; the results in any order.
pub(super) fn parallel<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Vec<Result<R>> {
    let queue = Mutex::new(items);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(item) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
                    else {
                        return;
                    };
                    let result = work(item);
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
