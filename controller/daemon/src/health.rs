//! Health and metrics over HTTP, answered by a thread of their own: a probe is late only if what it asks
//! about is.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::error;

use crate::index_task::{Input, PageRequest};

/// How long the index may take to answer: far more than any update.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of our health.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    ready: Arc<AtomicBool>,
    index: Arc<OnceLock<mpsc::Sender<Input>>>,
}

impl Health {
    /// Agents are served from now on.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Probes ask this index from now on whether it lives.
    pub(crate) fn watch(&self, index: mpsc::Sender<Input>) {
        // A controller has one index.
        let _ = self.index.set(index);
    }

    async fn live(&self) -> Result<String, String> {
        match self.held().await? {
            None => Ok("starting\n".to_owned()),
            Some(_) => Ok("ok\n".to_owned()),
        }
    }

    async fn ready(&self) -> Result<String, String> {
        let live = self.live().await?;
        if self.ready.load(Ordering::Relaxed) {
            Ok(live)
        } else {
            Err("not ready: the objects of the API server are not all listed yet\n".to_owned())
        }
    }

    /// What the index holds; `None` while there is none.
    async fn held(&self) -> Result<Option<std::collections::BTreeMap<String, u64>>, String> {
        let Some(index) = self.index.get() else {
            return Ok(None);
        };
        let (answer, held) = oneshot::channel();
        let asked = async {
            let sent = index.send(Input::Page(PageRequest::Held(answer))).await;
            sent.ok()?;
            held.await.ok()
        };
        match timeout(PATIENCE, asked).await {
            Ok(Some(held)) => Ok(Some(held)),
            Ok(None) => Err("the index has ended\n".to_owned()),
            Err(_) => Err("the index does not answer\n".to_owned()),
        }
    }

    async fn metrics(&self) -> Result<String, String> {
        let mut text = String::from(
            "# HELP margay_controller_ready Whether agents are served.\n# TYPE margay_controller_ready gauge\n",
        );
        let ready = u8::from(self.ready.load(Ordering::Relaxed));
        // Writing to a string does not fail.
        let _ = writeln!(text, "margay_controller_ready {ready}");
        text.push_str(
            "# HELP margay_controller_held What is held of what grows with the cluster.\n",
        );
        text.push_str("# TYPE margay_controller_held gauge\n");
        for (what, count) in self.held().await?.unwrap_or_default() {
            let _ = writeln!(text, "margay_controller_held{{what=\"{what}\"}} {count}");
        }
        Ok(text)
    }
}

/// The server; it ends with this.
#[derive(Debug)]
pub(crate) struct Handle {
    _stop: oneshot::Sender<()>,
}

/// Serves on `address`.
///
/// # Errors
/// If the address cannot be used, or there can be no more threads.
pub(crate) fn start(address: SocketAddr, health: Health) -> anyhow::Result<Handle> {
    let listener = std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| format!("cannot serve health on {address}"))?;
    let (stop, stopped) = oneshot::channel();
    thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || {
            if let Err(error) = run(listener, health, stopped) {
                error!(
                    error = format!("{error:#}"),
                    "health is not served any more"
                );
            }
        })
        .context("cannot start the thread that serves health")?;
    Ok(Handle { _stop: stop })
}

fn run(
    listener: std::net::TcpListener,
    health: Health,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let router = axum::Router::new()
            .route(
                "/livez",
                get(|State(health): State<Health>| async move { answer(health.live().await) }),
            )
            .route(
                "/readyz",
                get(|State(health): State<Health>| async move { answer(health.ready().await) }),
            )
            .route(
                "/metrics",
                get(|State(health): State<Health>| async move { answer(health.metrics().await) }),
            )
            .with_state(health);
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = axum::serve(listener, router);
        tokio::select! {
            ended = server => ended.context("the server failed"),
            // Dropped or told: both mean the end.
            _ = stopped => Ok(()),
        }
    })
}

fn answer(result: Result<String, String>) -> (StatusCode, String) {
    match result {
        Ok(text) => (StatusCode::OK, text),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    }
}
