use rustls::ServerConfig;
use rustls::server::ResolvesServerCertUsingSni;

use super::*;

#[test]
fn an_agent_that_connects_anew_is_ours_until_its_last_stream_ends() {
    let replicas = replicas();
    let node = NodeName("n1".to_owned());
    let first = replicas.open(&node);
    replicas.tell(&node, Bytes::from_static(b"{}"));
    let second = replicas.open(&node);
    drop(first);
    assert!(replicas.is_ours(&node), "it reads the second stream here");
    drop(second);
    assert!(!replicas.is_ours(&node));
    assert!(replicas.streams().is_empty(), "nothing is left of it");
}

fn replicas() -> Replicas {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    let (_, credentials) = watch::channel(Arc::new(Credentials::alone(server)));
    Replicas::new(credentials)
}
