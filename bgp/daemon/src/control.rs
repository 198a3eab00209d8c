//! Answers on a unix socket: `GET /bgp` and `GET /bgp/routes`, HTTP/1.1 with JSON, one request a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::clock::now;
use crate::{Asn, BgpId, Family, PeerStatus, RouteChange, Status};

/// Learned routes by prefix.
pub type Routes = BTreeMap<IpNet, RouteChange>;

/// A request must be whole within this time and size.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: usize = 4096;

#[derive(Serialize)]
struct StatusPage {
    peers: BTreeMap<String, PeerPage>,
    listeners: BTreeMap<SocketAddr, ListenerPage>,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum ListenerPage {
    Up,
    Down { reason: String },
}

#[derive(Serialize)]
struct PeerPage {
    address: IpAddr,
    asn: Asn,
    state: String,
    reason: String,
    hint: String,
    notes: Vec<String>,
    since_seconds: u64,
    received: u32,
    announced: u32,
    families: BTreeSet<Family>,
    end_of_rib: BTreeSet<Family>,
    hold_time: Option<u16>,
    local_address: Option<IpAddr>,
    bgp_id: Option<BgpId>,
}

#[derive(Serialize)]
struct RoutePage<'a> {
    prefix: IpNet,
    next_hops: &'a BTreeSet<IpAddr>,
    peer: Option<&'a str>,
}

/// Listens at `path`, for root alone. A socket that an earlier run left there is replaced.
///
/// # Errors
/// The kernel's.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until dropped.
pub async fn serve(
    listener: UnixListener,
    status: watch::Receiver<Status>,
    routes: watch::Receiver<Routes>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (status, routes) = (status.clone(), routes.clone());
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(PATIENCE, answer(stream, status, routes));
                    if let Ok(Err(error)) = answered.await {
                        tracing::debug!(%error, "a question was not answered");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    status: watch::Receiver<Status>,
    routes: watch::Receiver<Routes>,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request
        .split(|octet| *octet == b'\r')
        .next()
        .unwrap_or_default();
    let mut words = line.split(|octet| *octet == b' ');
    let (code, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/bgp")) => ("200 OK", status_page(&status.borrow())?),
        (Some(b"GET"), Some(b"/bgp/routes")) => ("200 OK", routes_page(&routes.borrow())?),
        _ => (
            "404 Not Found",
            serde_json::json!({"error": "ask GET /bgp or GET /bgp/routes"}).to_string(),
        ),
    };
    let head = format!(
        "HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn status_page(status: &Status) -> serde_json::Result<String> {
    let Status { peers, listeners } = status;
    serde_json::to_string(&StatusPage {
        peers: peers
            .iter()
            .map(|(name, peer)| (name.to_string(), peer_page(peer)))
            .collect(),
        listeners: listeners
            .iter()
            .map(|(place, result)| {
                let page = match result {
                    Ok(()) => ListenerPage::Up,
                    Err(reason) => ListenerPage::Down {
                        reason: reason.clone(),
                    },
                };
                (*place, page)
            })
            .collect(),
    })
}

fn peer_page(peer: &PeerStatus) -> PeerPage {
    let PeerStatus {
        address,
        asn,
        state,
        since,
        reason,
        hint,
        notes,
        received,
        announced,
        families,
        end_of_rib,
        hold_time,
        local_address,
        bgp_id,
        ..
    } = peer.clone();
    PeerPage {
        address,
        asn,
        state: state.to_string(),
        reason,
        hint,
        notes,
        since_seconds: now().saturating_duration_since(since).as_secs(),
        received,
        announced,
        families,
        end_of_rib,
        hold_time: hold_time.map(crate::HoldTime::as_secs),
        local_address,
        bgp_id,
    }
}

fn routes_page(routes: &Routes) -> serde_json::Result<String> {
    let pages: Vec<_> = routes
        .values()
        .map(|route| RoutePage {
            prefix: route.prefix,
            next_hops: &route.next_hops,
            peer: route.peer.as_ref().map(crate::PeerName::as_str),
        })
        .collect();
    serde_json::to_string(&pages)
}
