//! Answers on a unix socket: HTTP/1.1 with JSON, one request a connection.
//!
//! `GET /bgp`: sessions. `GET /bgp/routes`: the table; `/bgp/routes/ADDRESS` and `/bgp/routes/PREFIX/LENGTH`: what
//! packets to an address take, or one prefix. `GET /bgp/peers/NAME/received` and `…/advertised`: a peer's routes.

use std::collections::VecDeque;
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
    if path == ROUTES {
        // It may be large, and goes out as it comes.
        head(stream, 200, "").await?;
        let mut table = Table::new(questions);
        while let Some(piece) = table.next().await {
            stream.write_all(piece.as_bytes()).await?;
        }
    } else {
        let (code, body) = page(path, status, questions).await;
        let length = format!("content-length: {}\r\n", body.len());
        head(stream, code, &length).await?;
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// The whole table.
const ROUTES: &str = "/bgp/routes";

/// What is at `path`: the status code of HTTP, and JSON.
pub async fn page(
    path: &str,
    status: &watch::Receiver<Status>,
    questions: &Questions,
) -> (u16, String) {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["bgp"] => {
            let page = StatusPage::new(&status.borrow());
            json(200, &page)
        }
        ["bgp", "routes"] => {
            let mut table = Table::new(questions);
            let mut body = String::new();
            while let Some(piece) = table.next().await {
                body.push_str(&piece);
            }
            (200, body)
        }
        ["bgp", "routes", wanted @ ..] => routes(&wanted.join("/"), questions).await,
        ["bgp", "peers", name, what @ ("received" | "advertised")] => {
            if !status.borrow().peers.contains_key(*name) {
                let names: Vec<String> = status
                    .borrow()
                    .peers
                    .keys()
                    .map(ToString::to_string)
                    .collect();
                let complaint = format!("no peer {name}; there are: {}", names.join(", "));
                return error(404, &complaint);
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
            json(200, &paths.await.unwrap_or_default())
        }
        _ => error(404, HELP),
    }
}

/// What packets to an address take, or one prefix.
async fn routes(wanted: &str, questions: &Questions) -> (u16, String) {
    let found = if let Ok(prefix) = wanted.parse::<IpNet>() {
        questions
            .ask(move |speaker| speaker.destination(&prefix))
            .await
    } else if let Ok(address) = wanted.parse::<IpAddr>() {
        questions.ask(move |speaker| speaker.lookup(address)).await
    } else {
        return error(400, &format!("`{wanted}` is no address and no prefix"));
    };
    match found.flatten() {
        Some(destination) => json(200, &RoutePage::new(destination)),
        None => error(404, &format!("no route to {wanted}")),
    }
}

fn error(code: u16, complaint: &str) -> (u16, String) {
    json(code, &serde_json::json!({"error": complaint}))
}

fn json(code: u16, page: &impl Serialize) -> (u16, String) {
    match serde_json::to_string(page) {
        Ok(body) => (code, body),
        Err(error) => (500, format!("{{\"error\":\"{error}\"}}")),
    }
}

async fn head(stream: &mut UnixStream, code: u16, more: &str) -> io::Result<()> {
    let word = match code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        _ => "Internal Server Error",
    };
    let head = format!(
        "HTTP/1.1 {code} {word}\r\ncontent-type: application/json\r\n{more}connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}

/// The table may be large: it is looked up piece by piece, and need not be of one moment.
struct Table<'a> {
    questions: &'a Questions,
    families: VecDeque<Family>,
    prefixes: VecDeque<IpNet>,
    opening: &'static str,
}

impl<'a> Table<'a> {
    fn new(questions: &'a Questions) -> Self {
        Self {
            questions,
            families: Family::ALL.into(),
            prefixes: VecDeque::new(),
            opening: "[",
        }
    }

    /// The next piece of a list in JSON.
    async fn next(&mut self) -> Option<String> {
        let closing = match self.opening {
            "" => return None,
            "[" => "[]",
            _ => "]",
        };
        loop {
            if self.prefixes.is_empty() {
                let Some(family) = self.families.pop_front() else {
                    self.opening = "";
                    return Some(closing.to_owned());
                };
                let prefixes = self.questions.ask(move |speaker| speaker.prefixes(family));
                self.prefixes = prefixes.await.unwrap_or_default().into();
                continue;
            }
            let some = self.prefixes.len().min(PREFIXES);
            let some: Vec<IpNet> = self.prefixes.drain(..some).collect();
            let found = self.questions.ask(move |speaker| {
                let found = some.iter().filter_map(|prefix| speaker.destination(prefix));
                found.map(RoutePage::new).collect::<Vec<_>>()
            });
            let mut text = String::new();
            for page in found.await.unwrap_or_default() {
                text.push_str(self.opening);
                self.opening = ",";
                text.push_str(&json(200, &page).1);
            }
            if !text.is_empty() {
                return Some(text);
            }
        }
    }
}
