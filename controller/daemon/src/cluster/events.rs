//! Events on the objects of users, in their words.
//!
//! An event's name is made of its object and a hash of what it says, so saying it again is refused by the API server:
//! also a restarted or another replica does not repeat what is still there to be read (an hour, as a rule). What
//! stays true is said again once it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use margay_policy::model::{NodeName, PodId};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::answer;
use crate::clock;
use crate::index_task::Finding;
use crate::sources::kubernetes::{Subject, Trouble};

const CONTROLLER: &str = "margay.io/controller";
/// Events to write at a time; the rest come with the next look.
const AT_ONCE: usize = 50;
/// An event's note is at most so long.
const NOTE: usize = 1_000;
/// The API server's limit for names: a DNS subdomain (RFC 1123).
const LONGEST_NAME: usize = 253;
/// How long an event that was written is taken to stand: API servers forget events, after an hour unless told otherwise.
const STANDS: Duration = Duration::from_mins(30);

/// Writes events.
pub(crate) struct Events {
    client: Client,
    identity: String,
    written: Mutex<Written>,
}

/// Names of events that were written, and when.
#[derive(Debug, Default)]
struct Written(BTreeMap<String, Instant>);

impl Written {
    /// Forgets those that may not stand there any more.
    fn expire(&mut self, now: Instant) {
        self.0
            .retain(|_, at| now.saturating_duration_since(*at) < STANDS);
    }
}

impl Events {
    pub(crate) fn new(client: &Client, identity: &str) -> Self {
        Self {
            client: client.clone(),
            identity: identity.to_owned(),
            written: Mutex::default(),
        }
    }

    /// Writes what is new of all that is true now.
    pub(crate) async fn publish(
        &self,
        findings: Vec<Finding>,
        troubled: Vec<Trouble>,
        uids: &BTreeMap<Subject, String>,
    ) {
        let mut events = Vec::new();
        for Trouble {
            kind,
            namespace,
            name,
            uid,
            refused,
            problems,
        } in troubled
        {
            let subject = (kind, namespace, name);
            if let Some(note) = refused {
                events.push(self.event(&subject, &uid, "Refused", &note));
            }
            for note in problems {
                events.push(self.event(&subject, &uid, reason_of(kind), &note));
            }
        }
        for Finding {
            kind,
            namespace,
            name,
            reason,
            note,
        } in findings
        {
            let subject = (kind, namespace, name);
            if let Some(uid) = uids.get(&subject) {
                events.push(self.event(&subject, uid, reason, &note));
            }
        }
        let names: BTreeSet<String> = events.iter().map(name_of).collect();
        self.written().0.retain(|name, _| names.contains(name));
        self.write(events).await;
    }

    /// Says that a node, and its pods that have no address, get none.
    pub(crate) async fn no_address(
        &self,
        node: &NodeName,
        uid: &str,
        pods: Vec<(PodId, String)>,
        why: &str,
    ) {
        let subject = ("Node", String::new(), node.0.clone());
        let mut events = vec![self.event(&subject, uid, "NoAddresses", why)];
        for (pod, uid) in pods {
            let words = format!("node {node} has no free address for this pod: {why}");
            let subject = ("Pod", pod.namespace, pod.name);
            events.push(self.event(&subject, &uid, "NoFreeAddress", &words));
        }
        self.write(events).await;
    }

    /// Writes those that were not written yet.
    async fn write(&self, events: Vec<Event>) {
        let now = clock::now();
        let news: Vec<Event> = {
            let mut written = self.written();
            written.expire(now);
            let news = events
                .into_iter()
                .filter(|event| !written.0.contains_key(&name_of(event)));
            news.take(AT_ONCE).collect()
        };
        for event in news {
            let namespace = event.metadata.namespace.clone().unwrap_or_default();
            let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
            match answer(api.create(&PostParams::default(), &event)).await {
                Ok(_) => {}
                // It stands there already, or its namespace is being deleted.
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => {}
                Err(kube::Error::Api(status)) if is_about_this_one(status.code) => {
                    let name = name_of(&event);
                    warn!(
                        name,
                        error = status.message,
                        "the API server does not take an event"
                    );
                }
                Err(error) => {
                    warn!(%error, "cannot write an event");
                    return;
                }
            }
            self.written().0.insert(name_of(&event), now);
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(
        &self,
        (kind, namespace, name): &Subject,
        uid: &str,
        reason: &str,
        note: &str,
    ) -> Event {
        let api_version = match *kind {
            "NetworkPolicy" => "networking.k8s.io/v1",
            "Pod" | "Node" | "Namespace" => "v1",
            _ => margay_api::v1::API_VERSION,
        };
        // Events of objects without a namespace stand in this one (`kubectl describe` looks there).
        let place = if namespace.is_empty() {
            "default"
        } else {
            namespace
        };
        let digest = Sha256::digest(format!("{kind}\n{uid}\n{reason}\n{note}"));
        let digest = digest
            .iter()
            .take(8)
            .fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
        let mut note = note.to_owned();
        if note.len() > NOTE {
            let end = (0..=NOTE).rev().find(|end| note.is_char_boundary(*end));
            note.truncate(end.unwrap_or_default());
            note.push('…');
        }
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(name, &digest)),
                namespace: Some(place.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.identity.clone()),
            action: Some("Read".to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(note),
            type_: Some("Warning".to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(api_version.to_owned()),
                kind: Some((*kind).to_owned()),
                namespace: (!namespace.is_empty()).then(|| namespace.clone()),
                name: Some(name.clone()),
                uid: (!uid.is_empty()).then(|| uid.to_owned()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

/// What an object is told of what in it cannot be used.
fn reason_of(kind: &str) -> &'static str {
    match kind {
        // What a policy cannot say, it does not allow.
        "NetworkPolicy" => "FailsClosed",
        "Node" => "UnclearAddress",
        // Nothing of a pod is a permission.
        "Pod" => "Ignored",
        // Of our own kinds: a selector that matches nothing.
        _ => "SelectsNothing",
    }
}

/// Whether the next event may fare better after this answer: the API server is there, knows us, and has time.
fn is_about_this_one(code: u16) -> bool {
    matches!(code, 400..500) && !matches!(code, 401 | 408 | 429)
}

/// The name of an event on the object `name`: a DNS subdomain like that, and no longer than one may be.
fn event_name(name: &str, digest: &str) -> String {
    let room = LONGEST_NAME - digest.len() - 1;
    let end = (0..=room).rev().find(|end| name.is_char_boundary(*end));
    let name = name.get(..end.unwrap_or_default()).unwrap_or(name);
    // No part of such a name ends so.
    let name = name.trim_end_matches(['.', '-']);
    format!("{name}.{digest}")
}

fn name_of(event: &Event) -> String {
    let metadata = &event.metadata;
    format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
