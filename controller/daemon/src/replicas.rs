//! Replicas tell each other what agents report: an agent speaks with one of them, but its pods' addresses
//! belong in the sets of all nodes, and whoever leads writes the status of all.
//!
//! Each replica keeps a connection to every other one, found by its pod, and passes on reports as they
//! came. A connection begins with everything that is known first hand. What is passed on is not passed on again.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use margay_policy::model::NodeName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tracing::{debug, info};

use crate::clock;
use crate::index_task::{Input, PageRequest};
use crate::tls::{Credentials, SERVER_NAME};

/// Where reports are passed on.
pub(crate) const PATH: &str = "/v1/replicas/nodes/{node}/report";
const SCHEME: &str = "Replica ";
/// Reports that a slow replica may be behind before it gets all anew.
const BEHIND: usize = 1_024;
/// How often to look for replicas that came or went.
const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);
/// Reports older than this come from agents that speak with another replica by now, or with none.
const STALE: Duration = Duration::from_mins(5);

/// The other replicas.
#[derive(Clone)]
pub(crate) struct Replicas {
    credentials: watch::Receiver<Arc<Credentials>>,
    news: broadcast::Sender<NodeName>,
    /// What agents said to us, last.
    reports: Arc<Mutex<BTreeMap<NodeName, (Bytes, Instant)>>>,
    /// How many streams each agent reads here.
    streams: Arc<Mutex<BTreeMap<NodeName, usize>>>,
}

/// A stream of an agent that is open here.
pub(crate) struct Stream {
    replicas: Replicas,
    node: NodeName,
}

/// How to find the other replicas.
pub(crate) struct Place {
    /// Namespace of their pods.
    pub(crate) namespace: String,
    /// Name of our own pod.
    pub(crate) identity: String,
    /// The port that all listen on.
    pub(crate) port: u16,
    /// Who knows the pods.
    pub(crate) index: mpsc::Sender<Input>,
}

impl Replicas {
    pub(crate) fn new(credentials: watch::Receiver<Arc<Credentials>>) -> Self {
        Self {
            credentials,
            news: broadcast::Sender::new(BEHIND),
            reports: Arc::default(),
            streams: Arc::default(),
        }
    }

    /// An agent reads a stream here until what this returns is dropped.
    pub(crate) fn open(&self, node: &NodeName) -> Stream {
        *self.streams().entry(node.clone()).or_default() += 1;
        Stream {
            replicas: self.clone(),
            node: node.clone(),
        }
    }

    /// Passes a report on.
    pub(crate) fn tell(&self, node: &NodeName, report: Bytes) {
        self.reports().insert(node.clone(), (report, clock::now()));
        // Without another replica nobody listens.
        let _ = self.news.send(node.clone());
    }

    /// Whether an agent speaks with us.
    pub(crate) fn is_ours(&self, node: &NodeName) -> bool {
        self.reports().contains_key(node)
    }

    /// Whether this is what a replica shows.
    pub(crate) fn knows(&self, authorization: Option<&str>) -> bool {
        let Some(shown) = authorization.and_then(|text| text.strip_prefix(SCHEME)) else {
            return false;
        };
        let credentials = self.credentials.borrow();
        let known = credentials.passwords.iter();
        let mut found = false;
        for password in known {
            // As long for one that is almost right as for any other.
            let pairs = password.bytes().zip(shown.bytes());
            let differ = pairs.fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
            if differ == 0 && password.len() == shown.len() {
                found = true;
            }
        }
        found
    }

    /// Keeps a connection to every other replica.
    pub(crate) async fn run(self, place: Place) {
        let mut tasks: BTreeMap<SocketAddr, AbortHandle> = BTreeMap::new();
        loop {
            let Some(others) = place.others().await else {
                break;
            };
            tasks.retain(|address, task| {
                let stays = others.contains(address);
                if !stays {
                    task.abort();
                }
                stays
            });
            for address in others {
                tasks
                    .entry(address)
                    .or_insert_with(|| tokio::spawn(self.clone().follow(address)).abort_handle());
            }
            sleep(LOOK).await;
        }
        for task in tasks.values() {
            task.abort();
        }
    }

    /// Tells one replica everything, for as long as it is there.
    async fn follow(self, address: SocketAddr) {
        loop {
            if let Err(error) = self.connected(address).await {
                debug!(%address, error = format!("{error:#}"), "cannot pass reports on");
            }
            sleep(LOOK).await;
        }
    }

    async fn connected(&self, address: SocketAddr) -> anyhow::Result<()> {
        let credentials = Arc::clone(&self.credentials.borrow());
        let mut requests = connect(address, &credentials).await?;
        info!(%address, "connected to another replica");
        let password = credentials.passwords.first().cloned().unwrap_or_default();
        loop {
            // Before the list is taken, so that nothing falls between.
            let mut news = self.news.subscribe();
            let now = clock::now();
            let nodes: Vec<NodeName> = {
                let mut reports = self.reports();
                reports.retain(|_, (_, at)| now.saturating_duration_since(*at) < STALE);
                reports.keys().cloned().collect()
            };
            for node in nodes {
                self.pass(&mut requests, &password, &node).await?;
            }
            loop {
                match news.recv().await {
                    Ok(node) => self.pass(&mut requests, &password, &node).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                }
            }
        }
    }

    async fn pass(
        &self,
        requests: &mut SendRequest<axum::body::Body>,
        password: &str,
        node: &NodeName,
    ) -> anyhow::Result<()> {
        let Some(report) = self.reports().get(node).map(|(report, _)| report.clone()) else {
            return Ok(());
        };
        let path = PATH.replace("{node}", &node.0);
        let request = Request::put(format!("https://{SERVER_NAME}{path}"))
            .header(header::AUTHORIZATION, format!("{SCHEME}{password}"))
            .body(axum::body::Body::from(report))?;
        let response = timeout(PATIENCE, requests.send_request(request)).await??;
        let status = response.status();
        anyhow::ensure!(status == StatusCode::NO_CONTENT, "it answers {status}");
        Ok(())
    }

    fn reports(&self) -> MutexGuard<'_, BTreeMap<NodeName, (Bytes, Instant)>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<NodeName, usize>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    /// With the last stream of an agent: what it says next it may say elsewhere.
    fn drop(&mut self) {
        let Self { replicas, node } = self;
        let mut streams = replicas.streams();
        // An agent that connects anew begins a stream before the server notices the end of the one before.
        if let Some(open @ 2..) = streams.get_mut(node) {
            *open -= 1;
            return;
        }
        streams.remove(node);
        replicas.reports().remove(node);
    }
}

impl Place {
    /// Where the others are; `None` once we stop.
    async fn others(&self) -> Option<Vec<SocketAddr>> {
        let (answer, pods) = oneshot::channel();
        let ask = PageRequest::Replicas(self.namespace.clone(), answer);
        self.index.send(Input::Page(ask)).await.ok()?;
        let pods: BTreeMap<String, IpAddr> = pods.await.ok()?;
        let others = pods.into_iter().filter(|(name, _)| *name != self.identity);
        Some(
            others
                .map(|(_, address)| SocketAddr::new(address, self.port))
                .collect(),
        )
    }
}

/// Opens a connection to another replica; it must have a certificate of our authority.
async fn connect(
    address: SocketAddr,
    credentials: &Credentials,
) -> anyhow::Result<SendRequest<axum::body::Body>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credentials.certificates.as_bytes()) {
        roots.add(certificate.context("the authority's certificate")?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let opened = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME)?;
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await?;
        anyhow::Ok(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PATIENCE)
                .keep_alive_timeout(PATIENCE)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(tls))
                .await?,
        )
    };
    let (requests, connection) = timeout(PATIENCE, opened).await??;
    tokio::spawn(async move {
        // Who sends on it hears of its end.
        let _ = connection.await;
    });
    Ok(requests)
}

#[cfg(test)]
mod tests;
