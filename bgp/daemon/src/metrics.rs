//! Metrics of every peer in Prometheus' text format, over HTTP.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{PeerName, PeerStatus, State, Status};

/// How long a question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// No request is longer.
const REQUEST: usize = 4096;

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
        name: "margay_bgp_peer_updates_sent_total",
        kind: "counter",
        help: "UPDATEs sent.",
        value: |peer| peer.traffic.updates_out,
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
        head(&mut text, name, kind, help);
        for (peer, status) in &status.peers {
            line(&mut text, name, peer, status, value(status));
        }
    }
    if status.bfd.is_empty() {
        return text;
    }
    let name = "margay_bgp_peer_bfd_up";
    let help = "Whether BFD hears the peer; only of peers that it watches.";
    head(&mut text, name, "gauge", help);
    for (peer, bfd) in &status.bfd {
        if let Some(status) = status.peers.get(peer) {
            let up = bfd.state == margay_bgp::bfd::State::Up;
            line(&mut text, name, peer, status, up.into());
        }
    }
    text
}

// Writing to a string does not fail.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, peer: &PeerName, status: &PeerStatus, value: u64) {
    let _ = writeln!(
        text,
        "{name}{{peer=\"{}\",address=\"{}\",asn=\"{}\"}} {value}",
        escaped(peer.as_str()),
        status.address,
        status.asn,
    );
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
    let mut request = Vec::new();
    // All of it, or the connection would end in a reset instead of the answer.
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (code, body) = if request.starts_with(b"GET /metrics ") {
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

#[cfg(test)]
mod tests;
