//! The sync server: HTTP/2 over TLS, one stream per node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use futures::stream;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use margay_policy::model::NodeName;
use margay_sync::frame;
use margay_sync::message::{BlockClaimed, ClaimBlock, Message, Refusal, Report, Revision};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::allocate::{self, Refused};
use crate::identity::{Denied, Identity};
use crate::index_task::Input;
use crate::replicas::{self, Replicas};
use crate::tls::Credentials;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often to ask a silent connection whether it is still there, and how long to wait for the answer.
const PING: Duration = Duration::from_secs(10);
/// The largest request: a report of a node with thousands of pods.
const MAX_REQUEST: usize = 16 << 20;
/// How long connections may take to end when we stop.
const LINGER: Duration = Duration::from_secs(2);

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) index: mpsc::Sender<Input>,
    pub(crate) claim: mpsc::Sender<allocate::Request>,
    /// The other replicas, if there can be some.
    pub(crate) replicas: Option<Replicas>,
    pub(crate) stop: CancellationToken,
    pub(crate) heartbeat: Duration,
}

/// Serves until told to stop.
///
/// `credentials` are looked at for every connection: certificates are renewed while we run.
pub(crate) async fn run(
    listener: TcpListener,
    credentials: watch::Receiver<Arc<Credentials>>,
    shared: Arc<Shared>,
) {
    let router = axum::Router::new()
        .route("/v1/nodes/{node}/watch", get(watch_node))
        .route("/v1/nodes/{node}/report", put(report))
        .route("/v1/nodes/{node}/blocks", post(claim_block))
        .route(replicas::PATH, put(relayed))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(Arc::clone(&shared));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&credentials.borrow().server));
                let router = router.clone();
                connections.spawn(serve_connection(
                    stream,
                    acceptor,
                    router,
                    shared.stop.clone(),
                ));
            }
            Err(error) => {
                // Out of descriptors, as a rule: others will be closed.
                warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(LINGER, connections.wait())
        .await
        .is_err()
    {
        info!(
            open = connections.len(),
            "some connections did not end in time"
        );
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: axum::Router,
    stop: CancellationToken,
) {
    let peer = stream
        .peer_addr()
        .map(|peer| peer.to_string())
        .unwrap_or_default();
    // Deltas are small and must not wait for one another.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(peer, %error, "cannot set TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            info!(peer, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            info!(peer, "a TLS handshake took too long");
            return;
        }
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(peer, error, "a connection ended");
    }
}

/// Who asks, once the token is checked.
struct Agent {
    /// The node of the path.
    node: NodeName,
    /// When the token's time is over.
    until: Option<Instant>,
}

impl FromRequestParts<Arc<Shared>> for Agent {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        let path = Path::<String>::from_request_parts(parts, shared).await;
        let Path(node) =
            path.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.body_text()))?;
        let node = NodeName(node);
        let header = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let checked = shared.identity.check(&node, token).await;
        let until = checked.map_err(|denied| {
            warn!(%node, error = %denied, "a request is refused");
            let status = match denied {
                Denied::Missing | Denied::Wrong(_) | Denied::Invalid(_) => StatusCode::UNAUTHORIZED,
                Denied::OtherNode { .. } | Denied::NotAgent { .. } => StatusCode::FORBIDDEN,
                Denied::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            refuse(status, denied)
        })?;
        Ok(Self { node, until })
    }
}

/// Where to resume.
#[derive(Debug, Deserialize)]
struct Place {
    run: Option<String>,
    from: Option<u64>,
    /// Digest of the state there.
    state: Option<String>,
}

/// `GET /v1/nodes/{node}/watch?run=&from=&state=`
async fn watch_node(
    Agent { node, until }: Agent,
    place: Result<Query<Place>, axum::extract::rejection::QueryRejection>,
    State(shared): State<Arc<Shared>>,
) -> Response {
    let (place, digest) = match place {
        Ok(Query(Place {
            run: Some(run),
            from: Some(count),
            state,
        })) => (Some(Revision { run, count }), state),
        Ok(Query(Place { .. })) => (None, None),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let (answer, subscribed) = oneshot::channel();
    let asked = shared
        .index
        .send(Input::Subscribe(node.clone(), answer))
        .await;
    let Some(changed) = asked.ok().and(subscribed.await.ok()) else {
        return stopping();
    };
    info!(%node, ?place, "a stream begins");
    let replicas = shared.replicas.as_ref();
    let reader = Reader {
        _open: replicas.map(|replicas| replicas.open(&node)),
        node,
        shared,
        until,
        place,
        digest,
        changed,
        first: true,
    };
    let body = Body::from_stream(stream::unfold(reader, |mut reader| async move {
        let lines = reader.next_lines().await?;
        Some((Ok::<_, Infallible>(lines), reader))
    }));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// One reader of a node's stream. It is asked for more only when the connection can take it.
struct Reader {
    /// Kept for its end.
    _open: Option<replicas::Stream>,
    node: NodeName,
    shared: Arc<Shared>,
    /// When the stream ends, with the token that it was asked for with.
    until: Option<Instant>,
    place: Option<Revision>,
    /// Of what the reader came with.
    digest: Option<String>,
    changed: watch::Receiver<u64>,
    first: bool,
}

impl Reader {
    /// Waits for something to say; `None` when the stream ends.
    async fn next_lines(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.first) {
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = tokio::time::sleep(self.shared.heartbeat) => {}
                () = self.shared.stop.cancelled() => return None,
                () = over(self.until) => {
                    info!(node = %self.node, "the time of a stream's token is over");
                    return None;
                }
            }
        }
        self.changed.mark_unchanged();
        let (answer, missed) = oneshot::channel();
        let place = self.place.clone();
        let ask = Input::Missed(self.node.clone(), place, self.digest.take(), answer);
        self.shared.index.send(ask).await.ok()?;
        let messages = missed.await.ok()?;
        let mut lines = Vec::new();
        for message in messages {
            lines.extend(frame::encode(&message));
            let (Message::Snapshot { revision, .. }
            | Message::Same { revision }
            | Message::Delta { revision, .. }
            | Message::InSync { revision }) = message;
            self.place = Some(revision);
        }
        Some(lines.into())
    }
}

/// Waits until then, or for ever.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        info!(node = %self.node, "a stream ended");
    }
}

/// `PUT /v1/nodes/{node}/report`
async fn report(
    Agent { node, .. }: Agent,
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice::<Report>(&body) {
        Err(error) => garbled(&node, &error),
        Ok(report) => {
            if let Some(replicas) = &shared.replicas {
                replicas.tell(&node, body);
            }
            take_report(&shared, node, report).await
        }
    }
}

/// `PUT /v1/replicas/nodes/{node}/report`: what an agent said to another replica.
async fn relayed(
    Path(node): Path<String>,
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let known = shared
        .replicas
        .as_ref()
        .is_some_and(|replicas| replicas.knows(shown));
    if !known {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "this is for replicas of the controller",
        );
    }
    let node = NodeName(node);
    match serde_json::from_slice::<Report>(&body) {
        Err(error) => garbled(&node, &error),
        // An old word on an agent that has come to us meanwhile.
        Ok(_)
            if shared
                .replicas
                .as_ref()
                .is_some_and(|replicas| replicas.is_ours(&node)) =>
        {
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(report) => take_report(&shared, node, report).await,
    }
}

async fn take_report(shared: &Shared, node: NodeName, report: Report) -> Response {
    let report = Input::Report(node, Box::new(report));
    match shared.index.send(report).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => stopping(),
    }
}

/// `POST /v1/nodes/{node}/blocks`
async fn claim_block(
    Agent { node, .. }: Agent,
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Response {
    let ClaimBlock { family, pools } = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return garbled(&node, &error),
    };
    let (answer, claimed) = oneshot::channel();
    let asked = shared
        .claim
        .send(allocate::Request {
            node,
            family,
            pools,
            answer,
        })
        .await;
    match asked.ok().and(claimed.await.ok()) {
        None => stopping(),
        Some(Ok(block)) => Json(BlockClaimed { block }).into_response(),
        Some(Err(error @ Refused::UnknownNode(_))) => refuse(StatusCode::NOT_FOUND, error),
        Some(Err(
            error @ (Refused::Claim(_)
            | Refused::Overlaps { .. }
            | Refused::PodCidrs(_)
            | Refused::NoPodCidrs(_)),
        )) => refuse(StatusCode::CONFLICT, error),
        Some(Err(error @ Refused::Disk { .. })) => refuse(StatusCode::INSUFFICIENT_STORAGE, error),
        Some(Err(error @ (Refused::Api(_) | Refused::Race))) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, error)
        }
    }
}

fn garbled(node: &NodeName, error: &serde_json::Error) -> Response {
    warn!(%node, %error, "a request is not understood");
    refuse(
        StatusCode::BAD_REQUEST,
        format!("the request is not understood: {error}"),
    )
}

fn refuse(status: StatusCode, reason: impl std::fmt::Display) -> Response {
    (
        status,
        Json(Refusal {
            error: reason.to_string(),
        }),
    )
        .into_response()
}

fn stopping() -> Response {
    refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        "the controller is stopping: try again",
    )
}
