//! The root-only socket for `margayctl`: what only this node knows.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use margay_dataplane::render::render;
use margay_sync::message::Refusal;
use margay_sync::status::{Drift, Link, NodeStatus, RouteStatus};
use tokio::sync::watch;

use crate::clock;
use crate::host::{Host, Order};
use crate::nft::Nft;
use crate::view::{self, View};

/// What can be asked about.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) bgp: watch::Receiver<margay_bgpd::Status>,
    pub(crate) questions: margay_bgpd::Questions,
    pub(crate) link: watch::Receiver<Link>,
    pub(crate) host: Host,
    pub(crate) nft: Nft,
}

/// Serves until dropped.
pub(crate) async fn serve(listener: UnixListener, sources: Sources) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let router = Router::new()
        .route("/status", get(status))
        .route("/routes", get(routes))
        .route("/bgp", get(bgp))
        .route("/bgp/{*page}", get(bgp))
        .route("/ruleset", get(ruleset))
        .route("/drift", get(drift))
        .fallback(|| async {
            let there = "there are /status, /routes, /bgp, /bgp/routes, /ruleset and /drift";
            refuse(StatusCode::NOT_FOUND, there)
        })
        .with_state(sources);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn status(State(sources): State<Sources>) -> Json<NodeStatus> {
    let view = Arc::clone(&sources.view.borrow());
    let bgp = sources.bgp.borrow().clone();
    let link = sources.link.borrow().clone();
    Json(view::status(&view, &link, &bgp, clock::now()))
}

async fn routes(State(sources): State<Sources>) -> Response {
    match all_routes(&sources).await {
        Ok(routes) => Json(routes).into_response(),
        Err(refusal) => refusal,
    }
}

/// The pages of the speaker, as a `margay-bgpd` has them.
async fn bgp(State(sources): State<Sources>, uri: Uri) -> Response {
    let (code, body) =
        margay_bgpd::control::page(uri.path(), &sources.bgp, &sources.questions).await;
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn all_routes(sources: &Sources) -> Result<Vec<RouteStatus>, Response> {
    let host = sources.host.clone();
    let routes = tokio::task::spawn_blocking(move || host.ask(Order::Show)).await;
    routes.ok().flatten().ok_or_else(ending)
}

async fn ruleset(State(sources): State<Sources>) -> Response {
    match sources.nft.ask(|planner| render(planner.ruleset())).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(),
        Err(_) => ending(),
    }
}

async fn drift(State(sources): State<Sources>) -> Json<Vec<Drift>> {
    Json(sources.view.borrow().drift.clone())
}

fn ending() -> Response {
    refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        "felix is ending: try again",
    )
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    let refusal = Refusal {
        error: reason.to_owned(),
    };
    (status, Json(refusal)).into_response()
}
