//! Pages for people, as JSON on a unix socket that only root may use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use margay_sync::message::Refusal;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::index_task::{Input, PageRequest};

/// Opens the socket in place of one that nobody listens on any more.
///
/// # Errors
/// If somebody does, or the path cannot be used.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!(
                "another process listens on {}: stop it first",
                path.display()
            );
        }
        fs::remove_file(path)
            .with_context(|| format!("cannot remove the old socket {}", path.display()))?;
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot keep others from {}", path.display()))?;
    Ok(listener)
}

/// Serves until told to stop.
pub(crate) async fn run(
    listener: UnixListener,
    index: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let router = axum::Router::new()
        .route(
            "/status",
            get(|State(index)| page(index, PageRequest::Status)),
        )
        .route(
            "/nodes",
            get(|State(index)| page(index, PageRequest::Nodes)),
        )
        .route(
            "/objects",
            get(|State(index)| page(index, PageRequest::Objects)),
        )
        .route("/ipam", get(|State(index)| page(index, PageRequest::Ipam)))
        .route(
            "/policy",
            get(|State(index)| page(index, PageRequest::Policy)),
        )
        .route(
            "/world",
            get(|State(index)| page(index, PageRequest::World)),
        )
        .fallback(|| async {
            let error = "there is /status, /nodes, /objects, /ipam, /policy and /world".to_owned();
            (StatusCode::NOT_FOUND, Json(Refusal { error }))
        })
        .with_state(index);
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = server.await {
        error!(%error, "the status socket failed");
    }
}

async fn page<T: Serialize>(
    index: mpsc::Sender<Input>,
    request: fn(oneshot::Sender<T>) -> PageRequest,
) -> Response {
    let (answer, page) = oneshot::channel();
    let asked = index.send(Input::Page(request(answer))).await;
    if let Some(page) = asked.ok().and(page.await.ok()) {
        return Json(page).into_response();
    }
    let error = "the controller is stopping".to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, Json(Refusal { error })).into_response()
}
