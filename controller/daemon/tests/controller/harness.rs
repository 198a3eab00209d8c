//! A controller over a folder of its own, and a client that speaks as an agent does.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use margay_controller::controller::{Controller, Settings, Source};
use margay_policy::model::NodeName;
use margay_sync::frame::{Decoder, MAX_LINE};
use margay_sync::message::{Change, ClaimBlock, Family, Message, NodeState, Refusal, Revision};
use margay_sync::replica::Replica;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A controller, its folders, and what it takes to start it again.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) settings: Settings,
    controller: Option<Controller>,
}

impl World {
    /// Nodes `n1` to `n3` with tokens `secret-n1` …, and pods `a` on `n1`, `b` on `n2`.
    pub(crate) async fn start() -> Self {
        let mut world = Self::stopped();
        world.start_controller().await;
        world
    }

    pub(crate) fn stopped() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("world")).unwrap();
        fs::write(
            path("tokens"),
            "n1 secret-n1\nn2 secret-n2\nn3 secret-n3\nn9 secret-n9\n",
        )
        .unwrap();
        let settings = Settings {
            source: Source::Folder {
                folder: path("world"),
                tokens: path("tokens"),
                tls: path("tls"),
            },
            state: path("state"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            socket: path("socket"),
            health: None,
            // Longer than any test: who wants signs of life says so.
            heartbeat: Duration::from_hours(1),
        };
        let world = Self {
            folder,
            settings,
            controller: None,
        };
        world.write("nodes.yaml", &(1..=3).map(node).collect::<String>());
        world.write("pods.yaml", &[pod("a", 1, "x"), pod("b", 2, "x")].concat());
        world
    }

    pub(crate) async fn start_controller(&mut self) {
        let start = Controller::start(self.settings.clone());
        self.controller = Some(within(start).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(controller) = self.controller.take() {
            within(controller.stop()).await;
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start_controller().await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.controller.as_ref().unwrap().address()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file of the folder by renaming, as careful writers do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let beside = self.path("being-written");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path("world").join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path("world").join(name)).unwrap();
    }

    /// A connection as felix makes it, for the requests of one node.
    pub(crate) async fn agent(&self, node: &str) -> Agent {
        Agent::connect(self, node, &format!("secret-{node}"), None).await
    }

    pub(crate) async fn agent_with(&self, node: &str, token: &str) -> Agent {
        Agent::connect(self, node, token, None).await
    }

    /// A connection that takes at most `window` octets of a stream before it is read.
    pub(crate) async fn slow_agent(&self, node: &str, window: u32) -> Agent {
        Agent::connect(self, node, &format!("secret-{node}"), Some(window)).await
    }

    /// A page of the status socket.
    pub(crate) async fn page<T: DeserializeOwned>(&self, path: &str) -> T {
        let stream = UnixStream::connect(&self.settings.socket).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", "controller")
            .body(Full::<Bytes>::default());
        let response = within(sender.send_request(request.unwrap())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        json(response).await
    }

    /// Asks for a page until it is as wanted.
    pub(crate) async fn page_until<T: DeserializeOwned + std::fmt::Debug>(
        &self,
        path: &str,
        wanted: impl Fn(&T) -> bool,
    ) -> T {
        let deadline = tokio::time::sleep(PATIENCE);
        tokio::pin!(deadline);
        loop {
            let page: T = self.page(path).await;
            if wanted(&page) {
                return page;
            }
            tokio::select! {
                () = &mut deadline => panic!("{path} never became what it should: {page:?}"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }
}

/// One HTTP/2 connection.
pub(crate) struct Agent {
    node: NodeName,
    token: String,
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Agent {
    async fn connect(world: &World, node: &str, token: &str, window: Option<u32>) -> Self {
        Self::open(world.address(), &world.path("tls"), node, token, window).await
    }

    /// A connection that trusts the authority in the folder `tls`.
    pub(crate) async fn open(
        address: SocketAddr,
        authority: &Path,
        node: &str,
        token: &str,
        window: Option<u32>,
    ) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = tls(authority, stream, "margay-controller").await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self {
            node: NodeName(node.to_owned()),
            token: token.to_owned(),
            sender,
        }
    }

    /// A request to `/v1/nodes/NODE/` and `path`.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Response<Incoming> {
        let uri = format!("https://margay-controller/v1/nodes/{}/{path}", self.node);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(body)));
        within(self.sender.send_request(request.unwrap()))
            .await
            .unwrap()
    }

    pub(crate) async fn send<T: Serialize>(
        &mut self,
        method: Method,
        path: &str,
        body: &T,
    ) -> Response<Incoming> {
        self.request(method, path, serde_json::to_vec(body).unwrap())
            .await
    }

    /// The stream, resumed where `replica` stands.
    pub(crate) async fn watch(&mut self, replica: Replica) -> Stream {
        let path = match replica.revision() {
            None => "watch".to_owned(),
            Some(Revision { run, count }) => {
                let state = replica.state().digest().unwrap();
                format!("watch?run={run}&from={count}&state={state}")
            }
        };
        let response = self.request(Method::GET, &path, Vec::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Stream {
            body: response.into_body(),
            decoder: Decoder::new(MAX_LINE),
            replica,
            seen: Vec::new(),
        }
    }
}

/// A stream and what was learned from it.
pub(crate) struct Stream {
    body: Incoming,
    decoder: Decoder<Message>,
    pub(crate) replica: Replica,
    /// Kinds of the messages so far.
    pub(crate) seen: Vec<&'static str>,
}

impl Stream {
    /// The next message, applied; `None` if the stream ended.
    pub(crate) async fn next(&mut self) -> Option<Vec<Change>> {
        loop {
            if let Some(message) = self.decoder.next_value().unwrap() {
                self.seen.push(match &message {
                    Message::Snapshot { .. } => "snapshot",
                    Message::Same { .. } => "same",
                    Message::Delta { .. } => "delta",
                    Message::InSync { .. } => "in-sync",
                });
                return Some(self.replica.handle(message).unwrap());
            }
            let Some(frame) = within(self.body.frame()).await else {
                self.decoder.finish().unwrap();
                return None;
            };
            if let Ok(data) = frame.unwrap().into_data() {
                self.decoder.push(&data);
            }
        }
    }

    /// Reads until the state is as wanted and in sync.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&NodeState) -> bool) -> &NodeState {
        // Signs of life go on for ever, so there is a limit to the whole.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let last = self.seen.last().copied();
            if last == Some("in-sync") && wanted(self.replica.state()) {
                return self.replica.state();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "it stays at {:?}",
                self.replica.state()
            );
            assert!(
                self.next().await.is_some(),
                "the stream ended at {:?}",
                self.replica.state()
            );
        }
    }

    /// Reads until the first in-sync marker.
    pub(crate) async fn in_sync(&mut self) -> &NodeState {
        self.until(|_| true).await
    }
}

/// A TLS connection that trusts the authority in `folder` for `name` alone.
pub(crate) async fn tls(
    folder: &Path,
    stream: TcpStream,
    name: &'static str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    within(connector.connect(ServerName::try_from(name).unwrap(), stream)).await
}

pub(crate) async fn json<T: DeserializeOwned>(response: Response<Incoming>) -> T {
    let body = within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

/// What an agent asks for that wants a block of any pool.
pub(crate) fn claim_of(family: Family) -> ClaimBlock {
    ClaimBlock {
        family,
        pools: BTreeSet::new(),
    }
}

/// The status and the sentence of a refusal.
pub(crate) async fn refusal(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    (status, json::<Refusal>(response).await.error)
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("nothing here takes that long")
}

pub(crate) fn node(n: u8) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{n}}}\n\
         status: {{addresses: [{{type: InternalIP, address: 192.0.2.{n}}}]}}\n"
    )
}

/// A pod in the namespace `default` without an address of its own.
pub(crate) fn pod(name: &str, node: u8, app: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, uid: uid-{name}, labels: {{app: {app}}}}}\n\
         spec: {{nodeName: n{node}, containers: [{{name: c, image: i}}]}}\n"
    )
}

/// Pods with `app: to` take connections from those with `app: from`.
pub(crate) fn policy(name: &str, to: &str, from: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: {to}}}}}\n  \
         ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {from}}}}}}}]}}]\n"
    )
}
