//! The cluster that a kubeconfig leads to, with the user's own rights and without an open port.
//!
//! Objects come from the API. What only a daemon knows comes from its root-only unix socket, by way of `pods/exec`: the
//! image has a margayctl, whose [`page`](crate::page) command fetches one page there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use margay_api::world::{self, World};
use margay_policy::model::Cluster;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::client::Socket;
use crate::output::remark;
use crate::places::Places;

/// Label that tells our pods.
const OURS: &str = "app.kubernetes.io/name=margay";
/// Label that tells which daemon a pod is.
const COMPONENT: &str = "app.kubernetes.io/component";
/// What policy depends on: paths of lists, and kinds of their items.
const OBJECTS: [(&str, &str, &str); 4] = [
    ("/api/v1/nodes", "v1", "Node"),
    ("/api/v1/namespaces", "v1", "Namespace"),
    ("/api/v1/pods", "v1", "Pod"),
    (
        "/apis/networking.k8s.io/v1/networkpolicies",
        "networking.k8s.io/v1",
        "NetworkPolicy",
    ),
];

/// Which cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
    /// Ask the cluster of this kubeconfig [default: sockets on this machine, else as kubectl]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Ask the cluster of this context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that Margay is installed in
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "margay-system"
    )]
    system_namespace: String,
}

impl Which {
    /// Whether the command line names a cluster.
    pub(crate) fn is_named(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }
}

/// A cluster.
#[derive(Clone)]
pub(crate) struct Remote {
    client: Client,
    namespace: String,
}

/// What a margayctl in a pod says.
pub(crate) struct Said {
    /// Whether its exit status was 0.
    pub(crate) success: bool,
    /// Its answer.
    pub(crate) stdout: Vec<u8>,
    /// Its complaint.
    pub(crate) stderr: String,
}

/// A daemon's socket inside a pod.
#[derive(Clone)]
pub(crate) struct Inside {
    remote: Remote,
    pod: String,
    container: &'static str,
    socket: &'static str,
}

impl Remote {
    /// Reads the kubeconfig, as kubectl would.
    ///
    /// # Errors
    /// There is none, or it is unusable.
    pub(crate) async fn find(which: &Which) -> anyhow::Result<Self> {
        let options = KubeConfigOptions {
            context: which.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &which.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config = config.context("cannot use the kubeconfig")?;
        Ok(Self {
            client: Client::try_from(config).context("cannot use the kubeconfig")?,
            namespace: which.system_namespace.clone(),
        })
    }

    /// The sockets of all daemons of ours that run.
    ///
    /// # Errors
    /// Our pods cannot be listed, or there are none.
    pub(crate) async fn places(&self) -> anyhow::Result<Places> {
        let namespace = &self.namespace;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let ours = pods
            .list(&ListParams::default().labels(OURS))
            .await
            .with_context(|| format!("cannot list the pods of namespace {namespace}"))?;
        if ours.items.is_empty() {
            bail!(
                "namespace {namespace} of this cluster has no pods of Margay: install it, or say --system-namespace"
            );
        }
        let mut controllers = Vec::new();
        let mut nodes = BTreeMap::new();
        for pod in ours.items {
            let name = pod.name_any();
            let inside = |container, socket| Inside {
                remote: self.clone(),
                pod: name.clone(),
                container,
                socket,
            };
            match pod.labels().get(COMPONENT).map(String::as_str) {
                Some("controller") => controllers.push((
                    !is_ready(&pod),
                    name.clone(),
                    inside("controller", "/run/margay/controller.sock"),
                )),
                Some("felix") => {
                    let Some(node) = pod.spec.and_then(|spec| spec.node_name) else {
                        continue;
                    };
                    let socket = Socket::inside(inside("felix", "/run/margay/felix.sock"));
                    nodes.insert(node, socket);
                }
                Some(_) | None => {}
            }
        }
        // Ready ones first.
        controllers.sort_by(|(waits, name, _), (other_waits, other, _)| {
            (waits, name).cmp(&(other_waits, other))
        });
        let mut controllers = controllers.into_iter();
        let (_, _, controller) = controllers.next().ok_or_else(|| {
            anyhow!("namespace {namespace} of this cluster has no pod of the controller")
        })?;
        let replicas = controllers.filter(|(waits, _, _)| !waits);
        Ok(Places {
            controller: Socket::inside(controller),
            replicas: replicas
                .map(|(_, _, replica)| Socket::inside(replica))
                .collect(),
            nodes,
            cluster: Some(self.clone()),
        })
    }

    /// Everything that policy depends on, from the API.
    ///
    /// # Errors
    /// A kind cannot be listed.
    pub(crate) async fn cluster(&self) -> anyhow::Result<Cluster> {
        let mut items = Vec::new();
        for (path, api_version, kind) in OBJECTS {
            let request = hyper::Request::get(path).body(Vec::new())?;
            let mut list: Value = self
                .client
                .request(request)
                .await
                .with_context(|| format!("cannot list {path}"))?;
            if let Some(Value::Array(found)) = list.get_mut("items").map(Value::take) {
                items.extend(found.into_iter().map(|mut item| {
                    item["apiVersion"] = json!(api_version);
                    item["kind"] = json!(kind);
                    item
                }));
            }
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let World {
            cluster, problems, ..
        } = world::parse("the API server's objects", &list.to_string());
        for problem in problems {
            remark(problem);
        }
        Ok(cluster)
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Inside {
    /// What the socket answers to a GET of `page`.
    ///
    /// # Errors
    /// The pod cannot be entered, or what the margayctl in it says.
    pub(crate) async fn body(&self, page: &str) -> anyhow::Result<Bytes> {
        let Said {
            success,
            stdout,
            stderr,
        } = self.margayctl(["page", self.socket, page]).await?;
        if success {
            return Ok(stdout.into());
        }
        bail!("{self}: {stderr}")
    }

    /// What the margayctl in the pod says.
    ///
    /// # Errors
    /// The pod cannot be entered.
    pub(crate) async fn margayctl(
        &self,
        arguments: impl IntoIterator<Item = &str>,
    ) -> anyhow::Result<Said> {
        let pods: Api<Pod> = Api::namespaced(self.remote.client.clone(), &self.remote.namespace);
        let command = ["/margayctl"].into_iter().chain(arguments);
        let params = AttachParams::default()
            .container(self.container)
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let mut process = pods
            .exec(&self.pod, command.collect::<Vec<_>>(), &params)
            .await
            .with_context(|| format!("cannot run a command in {self}"))?;
        let status = process.take_status();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (body, complaint) = tokio::try_join!(whole(stdout), whole(stderr))
            .with_context(|| format!("{self} broke off"))?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let complaint = String::from_utf8_lossy(&complaint);
        Ok(Said {
            success: status.is_some_and(|status| status.status.as_deref() == Some("Success")),
            stdout: body,
            stderr: complaint
                .trim()
                .trim_start_matches("margayctl: ")
                .to_owned(),
        })
    }
}

impl std::fmt::Display for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pod {}/{}", self.remote.namespace, self.pod)
    }
}

async fn whole(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut octets).await?;
    }
    Ok(octets)
}
