//! Listening, again and again until it works.

use std::net::SocketAddr;

use tokio::sync::mpsc;

use crate::driver::Io;
use crate::socket;

/// Listens at `address` and hands what comes to the driver, until aborted.
pub(crate) async fn listen(address: SocketAddr, events: mpsc::Sender<Io>) {
    loop {
        let reason = match socket::listen(address) {
            Err(error) => socket::listen_failure(&error),
            Ok(listener) => {
                if events.send(Io::Listening(address, Ok(()))).await.is_err() {
                    return;
                }
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            socket::prepare(&stream);
                            if events.send(Io::Accepted(stream)).await.is_err() {
                                return;
                            }
                        }
                        Err(error) if is_about_one_connection(&error) => {}
                        Err(error) => break socket::listen_failure(&error),
                    }
                }
            }
        };
        if events
            .send(Io::Listening(address, Err(reason)))
            .await
            .is_err()
        {
            return;
        }
        tokio::time::sleep(socket::LISTEN_AGAIN).await;
    }
}

/// `accept` reports errors of the connection that it would have returned; the listener is well then.
fn is_about_one_connection(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::Interrupted
            | std::io::ErrorKind::HostUnreachable
            | std::io::ErrorKind::NetworkUnreachable
    )
}
