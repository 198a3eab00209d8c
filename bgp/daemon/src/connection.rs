//! One TCP stream: octets from it to the driver, and from the driver to it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use margay_bgp::ConnectionId;
use margay_bgp::session::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::driver::Io;
use crate::socket;

/// How long last words may take to get out and the peer's to come in.
const GOODBYE: Duration = Duration::from_secs(1);
/// Read at once at most.
const READ: usize = 16 * 1024;

/// The driver's end of a connection. Dropping it closes the stream once everything is sent.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Octets to send.
    pub(crate) send: mpsc::UnboundedSender<Vec<u8>>,
    /// Tells the task by being dropped.
    _open: oneshot::Sender<()>,
}

/// The task's end.
#[derive(Debug)]
pub(crate) struct Task {
    id: ConnectionId,
    events: mpsc::Sender<Io>,
    send: mpsc::UnboundedReceiver<Vec<u8>>,
    closing: oneshot::Receiver<()>,
}

/// Both ends of a new connection.
pub(crate) fn new(id: ConnectionId, events: mpsc::Sender<Io>) -> (Handle, Task) {
    let (send, octets) = mpsc::unbounded_channel();
    let (open, closing) = oneshot::channel();
    let task = Task {
        id,
        events,
        send: octets,
        closing,
    };
    (Handle { send, _open: open }, task)
}

impl Task {
    /// Dials, and if that works carries the connection.
    pub(crate) async fn dial(mut self, to: SocketAddr, source: Option<IpAddr>) {
        let outcome = tokio::select! {
            _ = &mut self.closing => return,
            outcome = socket::dial(to, source) => outcome,
        };
        let connected = outcome.and_then(|stream| {
            let local = stream.local_addr().map_err(socket::failure)?;
            Ok((stream, local.ip()))
        });
        match connected {
            Ok((stream, local)) => {
                if self.tell(Io::Connected(self.id, local)).await {
                    self.carry(stream).await;
                }
            }
            Err(failure) => {
                self.tell(Io::Closed(self.id, failure)).await;
            }
        }
    }

    /// Carries octets both ways until the peer ends it, or the driver does.
    pub(crate) async fn carry(self, mut stream: TcpStream) {
        let Self {
            id,
            events,
            mut send,
            closing,
        } = self;
        let (reader, writer) = stream.split();
        let write = async {
            match write(id, writer, &mut send, &events).await {
                Err(error) => Some(socket::failure(error)),
                Ok(0) => None,
                // The peer's end of the stream is awaited, lest a reset overtake our last words.
                Ok(_) => std::future::pending().await,
            }
        };
        let goodbye = async {
            // An error means dropped: the driver has closed.
            let _ = closing.await;
            tokio::time::sleep(GOODBYE).await;
        };
        let end = tokio::select! {
            end = read(id, reader, &events) => Some(end),
            end = write => end,
            () = goodbye => None,
        };
        if let Some(failure) = end {
            // The driver may be gone, and then needs no telling.
            let _ = events.send(Io::Closed(id, failure)).await;
        }
    }

    async fn tell(&self, event: Io) -> bool {
        self.events.send(event).await.is_ok()
    }
}

async fn read(id: ConnectionId, mut from: ReadHalf<'_>, events: &mpsc::Sender<Io>) -> Failure {
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return Failure::Closed,
            Ok(count) => {
                let octets = buffer[..count].to_vec();
                if events.send(Io::Received(id, octets)).await.is_err() {
                    return Failure::Closed;
                }
            }
            Err(error) => return socket::failure(error),
        }
    }
}

/// Writes until the driver closes, then ends our half of the stream. Says how many octets it wrote.
async fn write(
    id: ConnectionId,
    mut to: WriteHalf<'_>,
    from: &mut mpsc::UnboundedReceiver<Vec<u8>>,
    events: &mpsc::Sender<Io>,
) -> std::io::Result<usize> {
    let mut messages = Vec::new();
    let mut written = 0;
    while from.recv_many(&mut messages, 64).await > 0 {
        let octets = messages.concat();
        messages.clear();
        let mut left = octets.as_slice();
        while !left.is_empty() {
            let count = to.write(left).await?;
            left = &left[count..];
            written += count;
            if events.send(Io::Sent(id, count)).await.is_err() {
                return Ok(written);
            }
        }
    }
    to.shutdown().await?;
    Ok(written)
}
