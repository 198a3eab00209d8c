use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::http::{Request, Response};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::book::{Book, Output};
use super::super::reduce;
use super::*;

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again_and_nothing_is_gone_in_between() {
    let expired = json!({"type": "ERROR", "object": {
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410,
        "message": "The resourceVersion for the provided watch is too old.",
    }});
    let mut first = listed(&["stays", "goes"]);
    first.push(expired);
    let server = Server::saying([first, listed(&["comes", "stays"])]);
    let (notices, mut inbox) = mpsc::channel(64);
    let api: Api<Namespace> = Api::all(server.client());
    let watching = follow(api, (Kind::Namespace, notices), reduce::namespace);
    let mut book = Book::default();
    let mut told = Vec::new();
    let taking = async {
        let mut ends = 0;
        while ends < 2 {
            let (kind, notice) = inbox.recv().await.unwrap();
            ends += usize::from(matches!(notice, Notice::End));
            told.extend(book.note(kind, notice).into_iter().map(word));
        }
    };
    tokio::select! {
        () = watching => panic!("somebody listens"),
        taken = tokio::time::timeout(Duration::from_secs(30), taking) => taken.unwrap(),
    }
    assert_eq!(told, ["+stays", "+goes", "+comes", "-goes"]);
    let asked = server.asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for query in asked.iter() {
        assert!(query.contains("sendInitialEvents=true"), "{query}");
    }
}

fn word(output: Output) -> String {
    use crate::sources::ObjectEvent;
    match output {
        Output::Object(ObjectEvent::Apply(object)) => format!("+{}", object.key().name),
        Output::Object(ObjectEvent::Delete(key)) => format!("-{}", key.name),
        Output::Block(block, _) => block.to_string(),
    }
}

/// A streamed list.
fn listed(names: &[&str]) -> Vec<Value> {
    let object =
        |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    let added = names.iter().map(|name| {
        let object = object(json!({"name": name, "uid": name, "resourceVersion": "5"}));
        json!({"type": "ADDED", "object": object})
    });
    let end = json!({"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}});
    let end = json!({"type": "BOOKMARK", "object": object(end)});
    added.chain([end]).collect()
}

/// An API server that answers each request with the next of its lists, and then not at all.
struct Server {
    lists: Arc<Mutex<VecDeque<Vec<Value>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn saying<const N: usize>(lists: [Vec<Value>; N]) -> Self {
        Self {
            lists: Arc::new(Mutex::new(lists.into())),
            asked: Arc::default(),
        }
    }

    fn client(&self) -> Client {
        let (lists, asked) = (Arc::clone(&self.lists), Arc::clone(&self.asked));
        let service = tower::service_fn(move |request: Request<Body>| {
            let next = lists.lock().unwrap().pop_front();
            if next.is_some() {
                let query = request.uri().query().unwrap_or_default();
                asked.lock().unwrap().push(query.to_owned());
            }
            async move {
                let Some(list) = next else {
                    return std::future::pending().await;
                };
                let lines: Vec<String> = list.iter().map(Value::to_string).collect();
                let lines = lines.join("\n") + "\n";
                Ok::<_, std::io::Error>(Response::new(Body::from(lines.into_bytes())))
            }
        });
        Client::new(service, "default")
    }
}
