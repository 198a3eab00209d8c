//! Health and metrics, on a thread of their own.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use margay_sync::status::Link;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::bgp;
use crate::nft::Nft;
use crate::view::View;

/// How long the writer of the rules may take to say how many there are. One that waits for the kernel says nothing; the
/// other metrics are wanted then all the more.
const SIZES: Duration = Duration::from_secs(1);

/// All metrics. Those that events count are handed to whom they happen; the others are looked up when asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) latency: Histogram,
    pub(crate) routes: Gauge,
    pub(crate) repairs: Family<What, Counter>,
    pub(crate) messages: Family<Message, Counter>,
    received: Gauge,
    realised: Gauge,
    attachments: Gauge,
    controller: Gauge,
    chains: Gauge,
    rules: Gauge,
    elements: Gauge,
    sessions: Family<Session, Gauge>,
    memory: Gauge,
}

/// What was repaired.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct What {
    pub(crate) what: String,
}

/// What the controller's stream said.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Message {
    pub(crate) kind: &'static str,
}

/// The state of a session.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Session {
    state: String,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("margay_felix");
        // From 10 µs on, ten times more each third.
        let seconds = [
            1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0,
        ];
        let latency = Histogram::new(seconds);
        registry.register(
            "apply_seconds",
            "from a change of policy until the kernel has it",
            latency.clone(),
        );
        let repairs = Family::<What, Counter>::default();
        registry.register(
            "repairs",
            "changes of others to what is ours that were undone, by kind",
            repairs.clone(),
        );
        let messages = Family::<Message, Counter>::default();
        registry.register(
            "stream_messages",
            "messages of the controller's stream: a snapshot is all there is, same says that what felix has is right",
            messages.clone(),
        );
        let sessions = Family::<Session, Gauge>::default();
        registry.register("bgp_sessions", "BGP sessions by state", sessions.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            latency,
            repairs,
            messages,
            sessions,
            routes: gauge("routes", "routes of ours in the kernel"),
            received: gauge(
                "revision_received",
                "last revision received from the controller",
            ),
            realised: gauge("revision_realised", "last revision that the kernel has"),
            attachments: gauge("attachments", "attached pods"),
            controller: gauge(
                "controller_up",
                "whether the stream from the controller is up",
            ),
            chains: gauge("chains", "chains in the table inet margay"),
            rules: gauge("rules", "rules in the table inet margay"),
            elements: gauge("elements", "set elements in the table inet margay"),
            memory: gauge("resident_octets", "resident memory"),
            registry: Mutex::new(registry),
        }
    }
}

/// What is looked up.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) bgp: watch::Receiver<margay_bgpd::Status>,
    pub(crate) link: watch::Receiver<Link>,
    pub(crate) nft: Nft,
}

/// Serves on a thread of its own until the process ends.
pub(crate) fn start(address: SocketAddr, sources: Sources) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot serve health on {address}"))?;
    serve(listener, sources)
}

fn serve(listener: TcpListener, sources: Sources) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(sources);
    std::thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).await
            });
            if let Err(error) = served {
                tracing::error!(%error, "health is not served any more");
            }
        })?;
    Ok(())
}

/// Ready is who has its own rules in force; peers and controller are others' business.
async fn ready(State(sources): State<Sources>) -> Response {
    match sources.view.borrow().trouble.clone() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    sources.look_up().await;
    let mut text = String::new();
    let registry = sources.metrics.registry.lock();
    match encode(&mut text, &registry.unwrap_or_else(PoisonError::into_inner)) {
        Ok(()) => {
            // Those of each peer stand before the mark of the end.
            let end = text.rfind("# EOF").unwrap_or(text.len());
            text.insert_str(
                end,
                &margay_bgpd::metrics::open_metrics(&sources.bgp.borrow()),
            );
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Sources {
    async fn look_up(&self) {
        let metrics = &self.metrics;
        let view = Arc::clone(&self.view.borrow());
        let count = |revision: &Option<margay_sync::message::Revision>| {
            let count = revision.as_ref().map_or(0, |revision| revision.count);
            i64::try_from(count).unwrap_or(i64::MAX)
        };
        metrics.received.set(count(&view.received));
        metrics.realised.set(count(&view.realised));
        metrics.attachments.set(number(view.pods.len()));
        metrics
            .controller
            .set((*self.link.borrow() == Link::Up).into());
        metrics.sessions.clear();
        for (state, count) in bgp::sessions(&self.bgp.borrow()) {
            metrics
                .sessions
                .get_or_create(&Session { state })
                .set(count);
        }
        let sizes = self.nft.ask(|planner| {
            let ruleset = planner.ruleset();
            (
                ruleset.chains.len(),
                ruleset
                    .chains
                    .values()
                    .map(|chain| chain.rules.len())
                    .sum::<usize>(),
                ruleset
                    .sets
                    .values()
                    .map(|set| set.elements.len())
                    .sum::<usize>(),
            )
        });
        if let Ok(Ok((chains, rules, elements))) = tokio::time::timeout(SIZES, sizes).await {
            metrics.chains.set(number(chains));
            metrics.rules.set(number(rules));
            metrics.elements.set(number(elements));
        }
        metrics.memory.set(resident().unwrap_or(0));
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Resident memory in octets, from /proc.
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests;
