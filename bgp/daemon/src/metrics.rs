//! Metrics of every peer in Prometheus' text format, over HTTP.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{PeerStatus, State, Status};

/// How long a question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A number of each peer.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&PeerStatus) -> u64,
}

const METRICS: &[Metric] = &[
    Metric {
        name: "margay_bgp_peer_established",
        kind: "gauge",
        help: "Whether the session is established.",
        value: |peer| u64::from(peer.state == State::Established),
    },
    Metric {
        name: "margay_bgp_peer_sessions_total",
        kind: "counter",
        help: "How often a session was established.",
        value: |peer| peer.sessions,
    },
    Metric {
        name: "margay_bgp_peer_received_routes",
        kind: "gauge",
        help: "Routes of the peer in the table.",
        value: |peer| peer.received.into(),
    },
    Metric {
        name: "margay_bgp_peer_announced_routes",
        kind: "gauge",
        help: "Routes that the peer is told.",
        value: |peer| peer.announced.into(),
    },
    Metric {
        name: "margay_bgp_peer_updates_received_total",
        kind: "counter",
        help: "UPDATEs received.",
        value: |peer| peer.traffic.updates_in,
    },
    Metric {
        name: "margay_bgp_peer_received_bytes_total",
        kind: "counter",
        help: "Octets received.",
        value: |peer| peer.traffic.octets_in,
    },
    Metric {
        name: "margay_bgp_peer_sent_bytes_total",
        kind: "counter",
        help: "Octets sent.",
        value: |peer| peer.traffic.octets_out,
    },
    Metric {
        name: "margay_bgp_peer_bad_updates",
        kind: "gauge",
        help: "UPDATEs of the present session that had errors.",
        value: |peer| peer.errors,
    },
];

/// Everything as text.
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let Metric {
            name,
            kind,
            help,
            value,
        } = metric;
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (peer, status) in &status.peers {
            let _ = writeln!(
                text,
                "{name}{{peer=\"{}\",address=\"{}\",asn=\"{}\"}} {}",
                escaped(peer.as_str()),
                status.address,
                status.asn,
                value(status)
            );
        }
    }
    text
}

/// The same in the words of `OpenMetrics`, where the family of a counter is called without `_total`; no mark of the end.
pub fn open_metrics(status: &Status) -> String {
    let text = text(status);
    let lines = text.lines().map(|line| {
        let line = if line.starts_with('#') {
            line.replacen("_total ", " ", 1)
        } else {
            line.to_owned()
        };
        line + "\n"
    });
    lines.collect()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Answers until dropped.
pub async fn serve(listener: TcpListener, status: watch::Receiver<Status>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let status = status.clone();
                tokio::spawn(async move {
                    // Whoever asks and goes away gets nothing.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, status)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "metrics");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, status: watch::Receiver<Status>) -> io::Result<()> {
    let mut request = [0; 4096];
    let count = stream.read(&mut request).await?;
    let (code, body) = if request[..count].starts_with(b"GET /metrics ") {
        ("200 OK", text(&status.borrow()))
    } else {
        ("404 Not Found", "ask GET /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {code}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
