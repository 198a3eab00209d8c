//! What felix makes of a controller that speaks TLS and HTTP/2 well, and says nonsense.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use crate::support::{CONTROLLER, Node, Sandbox, eventually, snapshot};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A controller that answers every request for a stream with the same octets, then ends it.
struct Controller(Arc<Mutex<Bytes>>);

impl Controller {
    fn start(node: &Node) -> Self {
        let made = rcgen::generate_simple_self_signed(["margay-controller".to_owned()]).unwrap();
        std::fs::write(node.authority(), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = node.inside(|| std::net::TcpListener::bind(CONTROLLER).unwrap());
        listener.set_nonblocking(true).unwrap();
        let says = Arc::new(Mutex::new(Bytes::new()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // Ends with the test's process.
        std::thread::spawn({
            let says = Arc::clone(&says);
            move || runtime.block_on(serve(listener, TlsAcceptor::from(Arc::new(config)), says))
        });
        Self(says)
    }

    fn say(&self, octets: impl Into<Bytes>) {
        *self.0.lock().unwrap() = octets.into();
    }
}

async fn serve(listener: std::net::TcpListener, tls: TlsAcceptor, says: Arc<Mutex<Bytes>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, says) = (tls.clone(), Arc::clone(&says));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request: Request<Incoming>| {
                let watched = request.uri().path().ends_with("/watch");
                let body = if watched {
                    says.lock().unwrap().clone()
                } else {
                    Bytes::new()
                };
                async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
            });
            let _hung_up = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Why felix has no stream.
fn reason(node: &Node) -> String {
    node.get("/status")["controller"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn nonsense_from_the_controller_is_named_and_changes_nothing() {
    let mut node = Node::stopped();
    let controller = Controller::start(&node);
    let delta = json!({"type": "delta", "since": {"run": "test", "count": 9}, "revision": {"run": "test", "count": 10}, "changes": []});
    controller.say("{\"type\":\"snap\n");
    node.start_felix();
    let before = node.traces();
    let snapshot_before = std::fs::read(node.state().join("stream.jsonl")).unwrap();
    for (octets, named) in [
        (
            "{\"type\":\"snap\n".to_owned(),
            "line 1 of the stream is not understood",
        ),
        ("{\"type\":\"in-sync\"".to_owned(), "broke off in line 1"),
        (
            "\u{0}\u{1}\u{2}nonsense\n".to_owned(),
            "line 1 of the stream is not understood",
        ),
        ("[]\n".to_owned(), "line 1 of the stream is not understood"),
        (truncated(&snapshot()), "broke off in line 1"),
        (format!("{delta}\n"), "revision"),
    ] {
        controller.say(octets.clone());
        eventually(
            &format!("felix names what is wrong with {octets:.40}"),
            || reason(&node).contains(named),
        );
        assert_eq!(node.traces(), before, "{octets:.40}");
    }
    let kept = std::fs::read(node.state().join("stream.jsonl")).unwrap();
    assert_eq!(kept, snapshot_before);
    assert!(!node.log().contains("panicked"), "{}", node.log());

    let mut better = snapshot();
    better["revision"]["count"] = json!(11);
    better["state"]["policy"]["endpoints"]["web/late"] =
        json!({"uid": "", "addresses": [], "ingress": null, "egress": null});
    controller.say(format!("{better}\n"));
    eventually("felix takes what makes sense again", || {
        let kept = std::fs::read(node.state().join("stream.jsonl")).unwrap();
        String::from_utf8_lossy(&kept).contains("web/late")
    });
}

#[test]
fn what_has_neither_pod_nor_link_is_taken_back_without_del() {
    let mut node = Node::stopped();
    let controller = Controller::start(&node);
    node.start_felix();
    let (lost, kept) = (
        Sandbox::new("front", "c-lost"),
        Sandbox::new("back", "c-kept"),
    );
    node.add(&lost).done();
    node.add(&kept).done();
    // A runtime that lost its state: the sandbox goes, and nobody says DEL. The other's pod alone goes: it may come back.
    lost.destroy();
    let mut without = snapshot();
    without["revision"]["count"] = json!(8);
    without["state"]["policy"]["endpoints"] = json!({});
    controller.say(format!("{without}\n"));
    let attached = || node.get("/status")["pods"].clone();
    eventually("the lost pod's addresses are free", || {
        attached().get("web/front").is_none()
    });
    assert!(attached().get("web/back").is_some(), "its link is there");
    assert!(node.log().contains("no DEL came"), "{}", node.log());
}

/// All but the end.
fn truncated(message: &Value) -> String {
    let text = message.to_string();
    text[..text.len() / 2].to_owned()
}
