//! Answers on a unix socket: HTTP/1.1 with JSON, one request a connection.
//!
//! `GET /bgp`: sessions. `GET /bgp/routes`: the table; `/bgp/routes/ADDRESS` and `/bgp/routes/PREFIX/LENGTH`: what
//! packets to an address take, or one prefix. `GET /bgp/peers/NAME/received` and `…/advertised`: a peer's routes.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::pages::{PathPage, RoutePage, StatusPage};
use crate::{Family, Questions, Status};

/// A request must be whole within this time and size, and an answer be taken within the other.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: usize = 4096;
const ANSWER: Duration = Duration::from_mins(1);
/// Prefixes looked up at once: sessions wait meanwhile.
const PREFIXES: usize = 500;

/// What can be asked for, to those who ask for something else.
const HELP: &str = "ask GET /bgp, /bgp/routes, /bgp/routes/ADDRESS, /bgp/routes/PREFIX/LENGTH, \
                    /bgp/peers/NAME/received or /bgp/peers/NAME/advertised";

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
pub async fn serve(listener: UnixListener, status: watch::Receiver<Status>, questions: Questions) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (status, questions) = (status.clone(), questions.clone());
                tokio::spawn(async move {
                    if let Err(error) = talk(stream, status, questions).await {
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

async fn talk(
    mut stream: UnixStream,
    status: watch::Receiver<Status>,
    questions: Questions,
) -> io::Result<()> {
    let Some(path) = tokio::time::timeout(PATIENCE, request(&mut stream)).await?? else {
        return Ok(());
    };
    tokio::time::timeout(ANSWER, answer(&mut stream, &path, &status, &questions)).await?
}

/// The path that is asked for; none if this is no request.
async fn request(stream: &mut UnixStream) -> io::Result<Option<String>> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(None);
        }
    }
    let line = request.split(|octet| *octet == b'\r').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    let path = match (words.next(), words.next()) {
        (Some("GET"), Some(path)) => path,
        _ => "",
    };
    Ok(Some(path.to_owned()))
}

async fn answer(
    stream: &mut UnixStream,
    path: &str,
    status: &watch::Receiver<Status>,
    questions: &Questions,
) -> io::Result<()> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["bgp"] => {
            let page = StatusPage::new(&status.borrow());
            whole(stream, "200 OK", &page).await
        }
        ["bgp", "routes"] => all_routes(stream, questions).await,
        ["bgp", "routes", wanted @ ..] => {
            let wanted = wanted.join("/");
            let found = if let Ok(prefix) = wanted.parse::<IpNet>() {
                questions
                    .ask(move |speaker| speaker.destination(&prefix))
                    .await
            } else if let Ok(address) = wanted.parse::<IpAddr>() {
                questions.ask(move |speaker| speaker.lookup(address)).await
            } else {
                let complaint = format!("`{wanted}` is no address and no prefix");
                return error(stream, "400 Bad Request", &complaint).await;
            };
            match found.flatten() {
                Some(destination) => whole(stream, "200 OK", &RoutePage::new(destination)).await,
                None => error(stream, "404 Not Found", &format!("no route to {wanted}")).await,
            }
        }
        ["bgp", "peers", name, what @ ("received" | "advertised")] => {
            if !status.borrow().peers.contains_key(*name) {
                let names: Vec<String> = status
                    .borrow()
                    .peers
                    .keys()
                    .map(ToString::to_string)
                    .collect();
                let complaint = format!("no peer {name}; there are: {}", names.join(", "));
                return error(stream, "404 Not Found", &complaint).await;
            }
            let name = (*name).to_owned();
            let received = *what == "received";
            let paths = questions.ask(move |speaker| {
                if received {
                    let paths = speaker.received(&name).into_iter();
                    paths
                        .map(|(prefix, path)| PathPage::received(prefix, path))
                        .collect()
                } else {
                    let paths = speaker.advertised(&name).into_iter();
                    paths
                        .map(|(prefix, id, next_hop, attrs)| {
                            PathPage::told(Some(prefix), id, next_hop, &attrs)
                        })
                        .collect::<Vec<_>>()
                }
            });
            let paths = paths.await.unwrap_or_default();
            whole(stream, "200 OK", &paths).await
        }
        _ => error(stream, "404 Not Found", HELP).await,
    }
}

async fn error(stream: &mut UnixStream, code: &str, complaint: &str) -> io::Result<()> {
    whole(stream, code, &serde_json::json!({"error": complaint})).await
}

async fn whole(stream: &mut UnixStream, code: &str, page: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_string(page)?;
    let length = format!("content-length: {}\r\n", body.len());
    head(stream, code, &length).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

async fn head(stream: &mut UnixStream, code: &str, more: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {code}\r\ncontent-type: application/json\r\n{more}connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}

/// The table may be large: it is looked up and sent piece by piece, and need not be of one moment.
async fn all_routes(stream: &mut UnixStream, questions: &Questions) -> io::Result<()> {
    head(stream, "200 OK", "").await?;
    let mut opening = "[";
    for family in Family::ALL {
        let prefixes = questions.ask(move |speaker| speaker.prefixes(family)).await;
        for some in prefixes.unwrap_or_default().chunks(PREFIXES) {
            let some = some.to_vec();
            let found = questions.ask(move |speaker| {
                let found = some.iter().filter_map(|prefix| speaker.destination(prefix));
                found.collect::<Vec<_>>()
            });
            let mut text = String::new();
            for destination in found.await.unwrap_or_default() {
                text.push_str(opening);
                opening = ",";
                text.push_str(&serde_json::to_string(&RoutePage::new(destination))?);
            }
            stream.write_all(text.as_bytes()).await?;
        }
    }
    let closing = if opening == "[" { "[]" } else { "]" };
    stream.write_all(closing.as_bytes()).await?;
    stream.shutdown().await
}
