//! The client of the controller: the stream of this node's state, reports, and block claims.
//!
//! Owns the replica and its copy on disk, so that a restart without a controller knows what was known.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Method, Request, Response, StatusCode};
use margay_ipam::Source;
use margay_policy::model::NodeName;
use margay_sync::frame::{Decoder, MAX_LINE, encode};
use margay_sync::message::{BlockClaimed, ClaimBlock, Message, NodeState, Refusal, Revision};
use margay_sync::replica::Replica;
use margay_sync::status::Link;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Counted;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::clock;
use crate::core::{Input, sleep_until};
use crate::health;
use crate::view::{self, View};

mod connect;
pub(crate) mod kept;

use kept::Kept;

/// Waits between attempts grow from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(3);
/// How long the stream may be silent: the controller gives signs of life much more often.
const SILENCE: Duration = Duration::from_mins(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How often to report when nothing happens.
const REPORT: Duration = Duration::from_secs(30);
/// Least time between two reports of pods: one that comes alone is told at once, many are told together.
const PODS_PAUSE: Duration = Duration::from_millis(5);
/// Least time between two reports that only tell of counters and progress.
const REPORT_PAUSE: Duration = Duration::from_millis(50);
/// How often to look whether there is another token: the kubelet brings one when a fifth of the last one's time is left.
const TOKEN_LOOK: Duration = Duration::from_secs(10);
/// How long until a refused claim is made again.
const CLAIM_AGAIN: Duration = Duration::from_secs(5);

/// Where the controller is and who we are.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    pub(crate) address: String,
    pub(crate) node: NodeName,
    pub(crate) ca: PathBuf,
    pub(crate) token_file: PathBuf,
}

/// The client.
pub(crate) struct Client {
    pub(crate) controller: Controller,
    pub(crate) replica: Replica,
    /// The stream did not fit to what we have: begin with a snapshot.
    pub(crate) anew: bool,
    pub(crate) kept: Kept,
    pub(crate) core: mpsc::Sender<Input>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) bgp: watch::Receiver<margay_bgpd::Status>,
    pub(crate) link: watch::Sender<Link>,
    pub(crate) messages: Counted<health::Message, Counter>,
}

impl Client {
    /// Keeps a connection up for ever.
    pub(crate) async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            let begun = clock::now();
            let ended = self.connected().await;
            self.replica.disconnected();
            let reason = match ended {
                Ok(Ended::ForToken) => {
                    tracing::info!("there is another token: it is shown to the controller");
                    continue;
                }
                Ok(Ended::ByController) => "the controller ended the stream".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            let told = self.link.send_if_modified(|link| {
                let down = Link::Down {
                    reason: reason.clone(),
                };
                let news = *link != down;
                *link = down;
                news
            });
            if told {
                tracing::warn!(
                    reason,
                    "no stream from the controller; what is known stays in force"
                );
            }
            // One that lasted was no failure.
            if clock::now().saturating_duration_since(begun) > LAST_WAIT {
                wait = FIRST_WAIT;
            }
            // Many nodes that lost a controller at once shall not come back at once.
            tokio::time::sleep(wait.mul_f64(1.0 + scatter())).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// One connection, until it ends.
    async fn connected(&mut self) -> anyhow::Result<Ended> {
        let connection = connect::connect(&self.controller).await?;
        let mut requests = connection.requests;
        let _driver = connection.driver;
        let stream = self.watch(&mut requests, &connection.authority, &connection.bearer);
        let stream = timeout(ANSWER, stream)
            .await
            .map_err(|_| anyhow::anyhow!("no answer within {} s", ANSWER.as_secs()))??;
        self.link.send_replace(Link::Up);
        tracing::info!("connected to the controller");
        let talk = Talk {
            requests,
            node: self.controller.node.clone(),
            authority: connection.authority,
            bearer: connection.bearer,
            core: self.core.clone(),
            view: self.view.clone(),
            bgp: self.bgp.clone(),
            link: self.link.subscribe(),
        };
        let controller = self.controller.clone();
        // All end with this function.
        tokio::select! {
            ended = self.follow(stream) => ended.map(|()| Ended::ByController),
            ended = talk.report_changes() => ended.map(|()| Ended::ByController),
            never = talk.claim_blocks() => never.map(|()| Ended::ByController),
            () = another_token(&controller, &talk.bearer, TOKEN_LOOK) => Ok(Ended::ForToken),
        }
    }

    async fn watch(
        &self,
        requests: &mut SendRequest<Full<Bytes>>,
        authority: &str,
        bearer: &str,
    ) -> anyhow::Result<Incoming> {
        let known = self.replica.revision().filter(|_| !self.anew);
        let place = known.map_or(String::new(), |revision| {
            let digest = self.replica.state().digest();
            let state = digest.map_or(String::new(), |digest| format!("&state={digest}"));
            format!("?run={}&from={}{state}", revision.run, revision.count)
        });
        let node = &self.controller.node;
        let uri = format!("https://{authority}/v1/nodes/{node}/watch{place}");
        let request = Request::get(uri)
            .header("authorization", bearer)
            .body(Full::default())?;
        let response = requests.send_request(request).await?;
        Ok(accepted(response).await?.into_body())
    }

    /// Takes the stream's messages until it ends.
    async fn follow(&mut self, mut stream: Incoming) -> anyhow::Result<()> {
        let mut decoder: Decoder<Message> = Decoder::new(MAX_LINE);
        loop {
            let frame = tokio::select! {
                frame = timeout(SILENCE, stream.frame()) => frame,
                () = sleep_until(self.kept.retry_at()) => {
                    self.keep_all();
                    continue;
                }
            };
            let frame = frame.map_err(|_| {
                anyhow::anyhow!("the stream was silent for {} s", SILENCE.as_secs())
            })?;
            let Some(frame) = frame else {
                decoder.finish()?;
                return Ok(());
            };
            let Ok(octets) = frame?.into_data() else {
                continue;
            };
            decoder.push(&octets);
            while let Some(message) = decoder.next_value()? {
                self.take(message).await?;
            }
            if self.kept.is_full() {
                self.keep_all();
            }
        }
    }

    /// Takes one message: writes it down, then tells the core.
    async fn take(&mut self, message: Message) -> anyhow::Result<()> {
        let before = self.replica.revision().cloned();
        let line = encode(&message);
        let whole = matches!(message, Message::Snapshot { .. });
        let kind = match message {
            Message::Snapshot { .. } => "snapshot",
            Message::Same { .. } => "same",
            Message::Delta { .. } => "delta",
            Message::InSync { .. } => "in-sync",
        };
        let counted = health::Message { kind };
        self.messages.get_or_create(&counted).inc();
        let changes = match self.replica.handle(message) {
            Ok(changes) => changes,
            Err(error) => {
                self.anew = true;
                return Err(error.into());
            }
        };
        self.anew = false;
        let revision = self.replica.revision().cloned();
        if whole {
            self.kept.replace(&line);
        } else if before != revision && !self.kept.add(&line) {
            self.keep_all();
        }
        if let Some(revision) = revision
            && (!changes.is_empty() || before.as_ref() != Some(&revision))
        {
            tracing::debug!(
                rev = revision.count,
                changes = changes.len(),
                "the controller told of changes"
            );
            // The core is slower only while the kernel is; then the stream waits, and the controller squashes.
            self.core
                .send(Input::Changes(changes, revision))
                .await
                .map_err(|_| anyhow::anyhow!("felix is ending"))?;
        }
        Ok(())
    }

    /// Writes down all that is known.
    fn keep_all(&mut self) {
        if let Some(revision) = self.replica.revision() {
            let snapshot = Snapshot {
                kind: "snapshot",
                revision,
                state: self.replica.state(),
            };
            self.kept.replace(&encode(&snapshot));
        }
    }
}

/// Why a connection ended.
enum Ended {
    /// The controller ended the stream.
    ByController,
    /// We did, to show another token before the time of the one that was shown is over.
    ForToken,
}

/// Waits until the file has another token than the one that was shown, and looks so often.
async fn another_token(controller: &Controller, shown: &str, look: Duration) {
    loop {
        tokio::time::sleep(look).await;
        // One that cannot be read now is no reason to give up a connection.
        if connect::bearer(controller).is_ok_and(|bearer| bearer != shown) {
            return;
        }
    }
}

/// [`Message::Snapshot`], borrowed.
#[derive(serde::Serialize)]
struct Snapshot<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    revision: &'a Revision,
    state: &'a NodeState,
}

/// What is said besides the stream.
struct Talk {
    requests: SendRequest<Full<Bytes>>,
    node: NodeName,
    authority: String,
    bearer: String,
    core: mpsc::Sender<Input>,
    view: watch::Receiver<Arc<View>>,
    bgp: watch::Receiver<margay_bgpd::Status>,
    link: watch::Receiver<Link>,
}

impl Talk {
    /// Reports at once when pods change, soon when something else does, and now and then.
    async fn report_changes(&self) -> anyhow::Result<()> {
        let (mut view, mut bgp) = (self.view.clone(), self.bgp.clone());
        loop {
            let seen = Arc::clone(&view.borrow_and_update());
            let peers = bgp.borrow_and_update().clone();
            let status = view::status(&seen, &self.link.borrow(), &peers, clock::now());
            let report = view::report(&seen, status);
            self.send(Method::PUT, "report", &report).await?;
            let pods_changed = async {
                tokio::time::sleep(PODS_PAUSE).await;
                let changed = view.wait_for(|view| view.pods != seen.pods).await.is_ok();
                if !changed {
                    std::future::pending::<()>().await;
                }
            };
            let something_changed = async {
                tokio::time::sleep(REPORT_PAUSE).await;
                let mut view = self.view.clone();
                loop {
                    let same = *self.view.borrow() == seen
                        && sessions(&self.bgp.borrow()) == sessions(&peers);
                    if !same {
                        return;
                    }
                    tokio::select! {
                        changed = view.changed() => if changed.is_err() { std::future::pending().await },
                        changed = bgp.changed() => if changed.is_err() { std::future::pending().await },
                    }
                }
            };
            tokio::select! {
                () = pods_changed => {}
                () = something_changed => {}
                () = tokio::time::sleep(REPORT) => {}
            }
        }
    }

    /// Claims a block whenever the core wants one.
    async fn claim_blocks(&self) -> anyhow::Result<()> {
        let mut view = self.view.clone();
        loop {
            let wants = view.borrow_and_update().wants.clone();
            let mut refused = false;
            for source in wants {
                match self.claim(&source).await {
                    Ok(BlockClaimed { block }) => {
                        self.tell(Input::Claimed(block)).await?;
                        // What is wanted counts again once the core has this one.
                        let counted = view.wait_for(|view| view.blocks.contains_key(&block));
                        counted.await?;
                    }
                    Err(error) => {
                        refused = true;
                        self.tell(Input::ClaimFailed(source, format!("{error:#}")))
                            .await?;
                    }
                }
            }
            if refused {
                tokio::time::sleep(CLAIM_AGAIN).await;
            } else if view.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn tell(&self, input: Input) -> anyhow::Result<()> {
        let told = self.core.send(input).await;
        told.map_err(|_| anyhow::anyhow!("felix is ending"))
    }

    async fn claim(&self, source: &Source) -> anyhow::Result<BlockClaimed> {
        let claim = ClaimBlock {
            family: source.family(),
            pools: source.pools().clone(),
        };
        let body = self.send(Method::POST, "blocks", &claim).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    async fn send(
        &self,
        method: Method,
        what: &str,
        value: &impl serde::Serialize,
    ) -> anyhow::Result<Bytes> {
        let (authority, node) = (&self.authority, &self.node);
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{authority}/v1/nodes/{node}/{what}"))
            .header("authorization", &self.bearer)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(value)?)))?;
        let mut requests = self.requests.clone();
        let answer = async move {
            let response = accepted(requests.send_request(request).await?).await?;
            anyhow::Ok(response.into_body().collect().await?.to_bytes())
        };
        timeout(ANSWER, answer)
            .await
            .map_err(|_| anyhow::anyhow!("no answer to {what} within {} s", ANSWER.as_secs()))?
    }
}

/// Something between 0 and 1, different from time to time and from node to node.
fn scatter() -> f64 {
    f64::from(clock::wall().subsec_nanos() % 1_000_000) / 1e6
}

/// What of the sessions is worth a report: not their counters of seconds.
fn sessions(status: &margay_bgpd::Status) -> Vec<(String, String, u32, u32)> {
    let peers = status.peers.iter();
    peers
        .map(|(name, peer)| {
            let state = format!("{} {}", peer.state, peer.reason);
            (name.to_string(), state, peer.received, peer.announced)
        })
        .collect()
}

/// The response if it is one of success; the controller's reason otherwise.
async fn accepted(response: Response<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = http_body_util::Limited::new(response.into_body(), 64 * 1024);
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let said = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Refusal>(&body).ok());
    let said = said.map_or_else(|| "without a reason".to_owned(), |refusal| refusal.error);
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        anyhow::bail!("the controller refuses this node's token: {said}");
    }
    anyhow::bail!("the controller refuses ({status}): {said}")
}

#[cfg(test)]
mod tests;
