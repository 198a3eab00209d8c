//! A way to the API server that can be cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Listens on loopback until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Proxy {
    /// An open way to `server`, written `ADDRESS:PORT`.
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut open) = (server.clone(), is_open.clone());
                tokio::spawn(async move {
                    let closed = async { open.wait_for(|open| !open).await.is_ok() };
                    let moved = async {
                        let mut far = TcpStream::connect(server).await.unwrap();
                        // Either end may hang up as it likes.
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    };
                    tokio::select! {
                        _ = closed => {}
                        () = moved => {}
                    }
                });
            }
        });
        Self { address, open }
    }

    /// Cuts it, or opens it again.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}
