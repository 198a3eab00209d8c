//! HTTP/1.1 over the daemons' unix sockets: one request per connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// The JSON at `page` of the daemon behind `socket`.
///
/// # Errors
/// If the daemon is away, or its answer is not what is expected.
pub fn get<T: DeserializeOwned>(socket: &Path, page: &str) -> Result<T> {
    let body = text(socket, page)?;
    serde_json::from_str(&body)
        .with_context(|| format!("{} answered {page} with: {body}", socket.display()))
}

/// The text at `page` of the daemon behind `socket`.
///
/// # Errors
/// If the daemon is away, or does not answer with 200.
pub fn text(socket: &Path, page: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody answers at {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0: the answer ends with the connection and has no chunks.
    write!(stream, "GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("{page} at {}", socket.display()))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!(
            "{} answered {page} with {}: {body}",
            socket.display(),
            head.lines().next().unwrap_or_default()
        );
    }
    Ok(body.to_owned())
}
