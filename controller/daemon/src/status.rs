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
use margay_api::load::Key;
use margay_sync::message::Refusal;
use margay_sync::status::{ControllerStatus, ObjectStatus, ObjectsPage, PolicyPage};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::index_task::{Finding, Input, PageRequest};
use crate::sources::Pages;

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

/// Who answers.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) index: mpsc::Sender<Input>,
    pub(crate) objects: Pages,
}

/// Serves until told to stop.
pub(crate) async fn run(listener: UnixListener, sources: Sources, stop: CancellationToken) {
    let router = axum::Router::new()
        .route(
            "/status",
            get(|State(sources): State<Sources>| async move { answer(sources.status().await) }),
        )
        .route(
            "/nodes",
            get(|State(sources): State<Sources>| async move {
                answer(sources.ask(PageRequest::Nodes).await)
            }),
        )
        .route(
            "/objects",
            get(|State(sources): State<Sources>| async move { answer(sources.objects().await) }),
        )
        .route(
            "/ipam",
            get(|State(sources): State<Sources>| async move {
                answer(sources.ask(PageRequest::Ipam).await)
            }),
        )
        .route(
            "/policy",
            get(|State(sources): State<Sources>| async move { answer(sources.policy().await) }),
        )
        .route(
            "/world",
            get(|State(sources): State<Sources>| async move {
                answer(sources.ask(PageRequest::World).await)
            }),
        )
        .fallback(|| async {
            let error = "there is /status, /nodes, /objects, /ipam, /policy and /world".to_owned();
            (StatusCode::NOT_FOUND, Json(Refusal { error }))
        })
        .with_state(sources);
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = server.await {
        error!(%error, "the status socket failed");
    }
}

impl Sources {
    /// Waits until the index has done all it was given so far; `None` if it has ended.
    pub(crate) async fn ready(&self) -> Option<()> {
        self.ask(PageRequest::Nodes).await.map(drop)
    }

    /// A page of the index.
    async fn ask<T>(&self, request: fn(oneshot::Sender<T>) -> PageRequest) -> Option<T> {
        let (answer, page) = oneshot::channel();
        self.index.send(Input::Page(request(answer))).await.ok()?;
        page.await.ok()
    }

    /// What the source holds, with what objects of the network contradict in each other.
    async fn objects(&self) -> Option<ObjectsPage> {
        let mut page = self.objects.get().await?;
        for finding in self.ask(PageRequest::Contradictions).await? {
            let Finding {
                kind,
                namespace,
                name,
                reason: _,
                note,
            } = finding;
            let mut objects = page.objects.iter_mut();
            let object = objects.find(|object| {
                (object.kind.as_str(), &object.namespace, &object.name) == (kind, &namespace, &name)
            });
            if let Some(object) = object {
                object.problems.push(note);
            }
        }
        Some(page)
    }

    async fn status(&self) -> Option<ControllerStatus> {
        let mut status = self.ask(PageRequest::Status).await?;
        let page = self.objects().await?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let troubled = page
            .objects
            .iter()
            .filter(|object| !object.problems.is_empty());
        status.problems = count(troubled.count());
        status.refused = count(page.refused.len());
        for object in page.objects {
            *status.objects.entry(object.kind).or_insert(0) += 1;
        }
        Some(status)
    }

    async fn policy(&self) -> Option<PolicyPage> {
        let mut page = self.ask(PageRequest::Policy).await?;
        for object in self.objects.get().await?.objects {
            let ObjectStatus {
                kind,
                namespace,
                name,
                problems,
                ..
            } = object;
            let key = Key {
                kind,
                namespace,
                name,
            };
            if let Some(policy) = page.policies.get_mut(&key.to_string()) {
                policy.problems = problems;
            }
        }
        Some(page)
    }
}

fn answer<T: Serialize>(page: Option<T>) -> Response {
    if let Some(page) = page {
        return Json(page).into_response();
    }
    let error = "the controller is stopping".to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, Json(Refusal { error })).into_response()
}
