//! A connection to the controller.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Controller;

/// What the controller's certificate says, whatever its address.
const NAME: &str = "margay-controller";
/// How long it may take to connect.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to ask a silent controller whether it is still there, and how long to wait for the answer.
const PING: Duration = Duration::from_secs(10);

/// An open connection.
pub(super) struct Connection {
    pub(super) requests: SendRequest<Full<Bytes>>,
    pub(super) authority: String,
    pub(super) bearer: String,
    /// Moves the octets; ended when dropped.
    pub(super) driver: Driver,
}

/// A task that ends with its handle.
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens a connection. Certificates and token are read anew each time: they may have been replaced.
pub(super) async fn connect(controller: &Controller) -> anyhow::Result<Connection> {
    let bearer = bearer(controller)?;
    let config = trust(&controller.ca)?;
    let address = &controller.address;
    let tcp = timeout(PATIENCE, TcpStream::connect(address))
        .await
        .map_err(|_| anyhow::anyhow!("{address} does not answer"))?
        .with_context(|| format!("cannot connect to {address}"))?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(NAME).context("the controller's name")?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let tls = timeout(PATIENCE, handshake)
        .await
        .map_err(|_| anyhow::anyhow!("{address} does not finish the TLS handshake"))?
        .with_context(|| {
            format!(
                "{address} is not the controller that {} vouches for",
                controller.ca.display()
            )
        })?;
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .handshake(TokioIo::new(tls))
        .await
        .context("cannot speak HTTP/2 with the controller")?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the controller ended");
        }
    });
    Ok(Connection {
        requests,
        authority: NAME.to_owned(),
        bearer,
        driver: Driver(driver),
    })
}

/// How we show the token that is in its file now.
pub(super) fn bearer(controller: &Controller) -> anyhow::Result<String> {
    let token = std::fs::read_to_string(&controller.token_file)
        .with_context(|| format!("cannot read the token {}", controller.token_file.display()))?;
    Ok(format!("Bearer {}", token.trim()))
}

/// TLS that trusts this authority and no other.
fn trust(ca: &Path) -> anyhow::Result<ClientConfig> {
    let shown = ca.display();
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca)
        .with_context(|| format!("cannot read the certificate authority {shown}"))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("{shown} is not PEM"))?;
        roots
            .add(certificate)
            .with_context(|| format!("{shown} holds an unusable certificate"))?;
    }
    anyhow::ensure!(!roots.is_empty(), "{shown} holds no certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
