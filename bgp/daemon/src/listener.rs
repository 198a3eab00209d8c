//! Listening, again and again until it works.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};

use crate::driver::Io;
use crate::transport::Signature;
use crate::{socket, sys};

/// What those sign with who may dial us.
pub(crate) type Signatures = Arc<BTreeMap<IpNet, Signature>>;

/// Listens at `address` and hands what comes to the driver, until aborted.
pub(crate) async fn listen(
    address: SocketAddr,
    mut signatures: watch::Receiver<Signatures>,
    events: mpsc::Sender<Io>,
) {
    loop {
        let Some(reason) = try_to_listen(address, &mut signatures, &events).await else {
            return;
        };
        let told = events.send(Io::Listening(address, Err(reason))).await;
        if told.is_err() {
            return;
        }
        tokio::time::sleep(socket::LISTEN_AGAIN).await;
    }
}

/// Returns why it does not go on, or nothing if the driver is gone.
async fn try_to_listen(
    address: SocketAddr,
    signatures: &mut watch::Receiver<Signatures>,
    events: &mpsc::Sender<Io>,
) -> Option<String> {
    let mut keys = Keys::default();
    let socket = match socket::bind(address) {
        Ok(socket) => socket,
        Err(error) => return Some(socket::listen_failure(&error)),
    };
    // Nobody may get in before the keys are there.
    let wanted = signatures.borrow_and_update().clone();
    if let Err(reason) = keys.set(&socket, address, &wanted) {
        return Some(reason);
    }
    let listener = match socket::listen(socket) {
        Ok(listener) => listener,
        Err(error) => return Some(socket::listen_failure(&error)),
    };
    events.send(Io::Listening(address, Ok(()))).await.ok()?;
    loop {
        tokio::select! {
            changed = signatures.changed() => {
                changed.ok()?;
                let wanted = signatures.borrow_and_update().clone();
                if let Err(reason) = keys.set(&listener, address, &wanted) {
                    return Some(reason);
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    socket::prepare(&stream);
                    events.send(Io::Accepted(stream)).await.ok()?;
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => return Some(socket::listen_failure(&error)),
            }
        }
    }
}

/// What a socket has.
#[derive(Default)]
struct Keys(BTreeMap<IpNet, Signature>);

impl Keys {
    fn set(
        &mut self,
        socket: &impl std::os::fd::AsFd,
        address: SocketAddr,
        wanted: &BTreeMap<IpNet, Signature>,
    ) -> Result<(), String> {
        let reason = |peers: &IpNet, why: &dyn std::fmt::Display| {
            format!("not listening: for {peers} {why}")
        };
        let family = |peers: &IpNet| peers.addr().is_ipv4() == address.is_ipv4();
        let stays = |peers: &IpNet, had: &Signature| match (wanted.get(peers), had) {
            // The new password takes the old one's place.
            (Some(Signature::Md5(_)), Signature::Md5(_)) => true,
            (wanted, had) => wanted == Some(had),
        };
        let gone: Vec<_> = self
            .0
            .iter()
            .filter(|(peers, had)| !stays(peers, had))
            .map(|(peers, had)| (*peers, had.clone()))
            .collect();
        for (peers, had) in gone {
            match &had {
                Signature::Md5(_) => sys::set_md5(socket, peers, &[]),
                Signature::Ao(key) => sys::remove_ao(socket, peers, key),
            }
            .map_err(|error| reason(&peers, &error))?;
            self.0.remove(&peers);
        }
        for (peers, signature) in wanted.iter().filter(|(peers, _)| family(peers)) {
            if self.0.get(peers) != Some(signature) {
                socket::sign(socket, *peers, signature).map_err(|why| reason(peers, &why))?;
                self.0.insert(*peers, signature.clone());
            }
        }
        Ok(())
    }
}

/// `accept` reports errors of the connection that it would have returned; the listener is well then.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
