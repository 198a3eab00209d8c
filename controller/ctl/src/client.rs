//! HTTP/1.1 over the unix sockets of the controller and of felix: one request per connection. A socket is on this
//! machine, or inside a pod.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use margay_sync::message::Refusal;
use nix::errno::Errno;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::remote::Inside;

/// How long an answer may take. The daemons answer from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon's unix socket.
#[derive(Clone)]
pub(crate) enum Socket {
    /// On this machine.
    Here(Here),
    /// In a pod.
    Inside(Box<Inside>),
}

/// A unix socket of this machine.
#[derive(Clone)]
pub(crate) struct Here {
    path: PathBuf,
    daemon: &'static str,
}

impl Socket {
    /// The socket at `path` of the program `daemon`.
    pub(crate) fn new(path: PathBuf, daemon: &'static str) -> Self {
        Self::Here(Here { path, daemon })
    }

    /// The socket of a daemon in a pod.
    pub(crate) fn inside(inside: Inside) -> Self {
        Self::Inside(Box::new(inside))
    }

    /// Where it is, if it is on this machine.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Here(here) => Some(&here.path),
            Self::Inside(_) => None,
        }
    }

    /// The pod that it is in, if it is in one.
    pub(crate) fn pod(&self) -> Option<&Inside> {
        match self {
            Self::Here(_) => None,
            Self::Inside(inside) => Some(inside),
        }
    }

    /// The JSON at `page`.
    ///
    /// # Errors
    /// In words for people: the socket is missing, refused, silent, or its answer is not understood.
    pub(crate) async fn get<T: DeserializeOwned>(&self, page: &str) -> anyhow::Result<T> {
        let body = self.body(page).await?;
        serde_json::from_slice(&body).with_context(|| {
            format!("{self} answered {page} with something else than this margayctl expects; are both of the same version?")
        })
    }

    /// The text at `page`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn text(&self, page: &str) -> anyhow::Result<String> {
        let body = self.body(page).await?;
        String::from_utf8(body.into())
            .with_context(|| format!("{self} answered {page} with no text"))
    }

    /// What is at `page`, as it is.
    ///
    /// # Errors
    /// As [`Self::get`].
    async fn body(&self, page: &str) -> anyhow::Result<Bytes> {
        let exchange = async {
            match self {
                Self::Here(here) => here.exchange(page).await,
                Self::Inside(inside) => inside.body(page).await,
            }
        };
        timeout(PATIENCE, exchange)
            .await
            .map_err(|_| anyhow!("{self} did not answer within {} s", PATIENCE.as_secs()))?
    }
}

impl Here {
    async fn exchange(&self, page: &str) -> anyhow::Result<Bytes> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .with_context(|| format!("{self} does not speak HTTP"))?;
        let request = Request::get(page)
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .with_context(|| format!("`{page}` is no page"))?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok::<_, hyper::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        // The connection is driven beside the exchange; it ends when the sender is dropped.
        let driver = tokio::spawn(connection);
        let (status, body) = answer.await.with_context(|| format!("{self} broke off"))?;
        driver.abort();
        self.checked(page, status, body)
    }

    fn checked(&self, page: &str, status: StatusCode, body: Bytes) -> anyhow::Result<Bytes> {
        if status.is_success() {
            return Ok(body);
        }
        if status == StatusCode::NOT_FOUND {
            // The page is there, what it was asked about is not.
            if let Ok(refusal) = serde_json::from_slice::<Refusal>(&body)
                && refusal.error.starts_with("no ")
            {
                bail!("{}", refusal.error);
            }
            bail!("{self} has no {page}; is it of another version than this margayctl?");
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => bail!("{self} refused {page}: {}", refusal.error),
            Err(_) => bail!("{self} refused {page} with status {status}"),
        }
    }

    fn unreachable(&self, error: &io::Error) -> anyhow::Error {
        let Self { path, daemon } = self;
        let path = path.display();
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => anyhow!(
                "there is no socket {path}: {daemon} does not run here, or keeps its sockets \
                 elsewhere (--run DIR)"
            ),
            Some(Errno::EACCES) => anyhow!("{path} is for root only: use sudo"),
            Some(Errno::ECONNREFUSED) => {
                anyhow!("nobody answers on {path}: {daemon} is not running")
            }
            Some(_) | None => anyhow!("cannot connect to {path}: {error}"),
        }
    }
}

impl Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(here) => here.fmt(f),
            Self::Inside(inside) => inside.fmt(f),
        }
    }
}

impl Display for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.daemon, self.path.display())
    }
}
