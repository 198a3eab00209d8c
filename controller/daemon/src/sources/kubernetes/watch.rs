//! The watch of one kind.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::Kind;
use super::reduce::Item;

/// Seconds after which the server ends a watch; a connection that died without a word is noticed 5 later.
const WATCH: u32 = 60;
/// Waits between attempts grow from this one
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// to this one: an API server that comes back finds few callers, but soon.
const LAST_WAIT: Duration = Duration::from_secs(4);

/// What a watch says.
#[derive(Debug)]
pub(super) enum Notice {
    /// A list begins.
    Begin,
    /// Part of the list.
    Listed(Item),
    /// The list was whole.
    End,
    /// It came or changed.
    Apply(Item),
    /// It went.
    Delete {
        /// Its namespace; empty if it has none.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Follows a kind until nobody listens.
pub(super) async fn follow<K>(
    api: Api<K>,
    (kind, notices): (Kind, mpsc::Sender<(Kind, Notice)>),
    reduce: fn(K) -> Item,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut config = watcher::Config::default().timeout(WATCH).streaming_lists();
    let mut trouble = Trouble { kind, last: None };
    loop {
        let mut events = watcher(api.clone(), config.clone())
            .backoff(Waits::default())
            .boxed();
        while let Some(event) = events.next().await {
            let notice = match event {
                Ok(Event::Init) => Notice::Begin,
                Ok(Event::InitApply(object)) => Notice::Listed(reduce(object)),
                Ok(Event::InitDone) => Notice::End,
                Ok(Event::Apply(object)) => Notice::Apply(reduce(object)),
                Ok(Event::Delete(object)) => {
                    let meta = object.meta();
                    Notice::Delete {
                        namespace: meta.namespace.clone().unwrap_or_default(),
                        name: meta.name.clone().unwrap_or_default(),
                    }
                }
                Err(error) if cannot_stream_lists(&error) => {
                    info!(kind = kind.name(), "the API server does not stream lists");
                    config = watcher::Config::default().timeout(WATCH);
                    break;
                }
                Err(error) => {
                    trouble.tell(&error);
                    continue;
                }
            };
            trouble.over();
            if notices.send((kind, notice)).await.is_err() {
                return;
            }
        }
    }
}

/// Whether the server refused `sendInitialEvents`: before 1.34 it is not on everywhere.
fn cannot_stream_lists(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else {
        return false;
    };
    status.code == 422 && status.message.contains("sendInitialEvents")
}

/// Tells a failure when it begins, and when it is over.
struct Trouble {
    kind: Kind,
    last: Option<String>,
}

impl Trouble {
    fn tell(&mut self, error: &watcher::Error) {
        let kind = self.kind.name();
        if let watcher::Error::WatchError(status) = error
            && status.code == 410
        {
            debug!(kind, "the watch is too old and begins anew");
            return;
        }
        let words = anyhow::Error::msg(error.to_string());
        let mut words = format!("{words:#}");
        if is_absent(error) {
            words.push_str(
                ": its CustomResourceDefinition is missing; apply manifests/crds or manifests/margay.yaml",
            );
        }
        if self.last.as_ref() != Some(&words) {
            warn!(
                kind,
                error = words,
                "cannot watch; what is known stays in force"
            );
            self.last = Some(words);
        }
    }

    fn over(&mut self) {
        if self.last.take().is_some() {
            info!(kind = self.kind.name(), "watching again");
        }
    }
}

fn is_absent(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404
    )
}

/// Waits that double.
#[derive(Debug, Default)]
struct Waits(Option<Duration>);

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0.map_or(FIRST_WAIT, |last| (last * 2).min(LAST_WAIT));
        self.0 = Some(wait);
        self.0
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests;
