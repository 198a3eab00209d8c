//! Listening, again and again until it works.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};

use crate::driver::Io;
use crate::transport::Password;
use crate::{socket, sys};

/// The passwords of those who may dial us.
pub(crate) type Passwords = Arc<BTreeMap<IpNet, Password>>;

/// Listens at `address` and hands what comes to the driver, until aborted.
pub(crate) async fn listen(
    address: SocketAddr,
    mut passwords: watch::Receiver<Passwords>,
    events: mpsc::Sender<Io>,
) {
    loop {
        let Some(reason) = try_to_listen(address, &mut passwords, &events).await else {
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
    passwords: &mut watch::Receiver<Passwords>,
    events: &mpsc::Sender<Io>,
) -> Option<String> {
    let mut keys = Keys::default();
    let socket = match socket::bind(address) {
        Ok(socket) => socket,
        Err(error) => return Some(socket::listen_failure(&error)),
    };
    // Nobody may get in before the passwords are there.
    let wanted = passwords.borrow_and_update().clone();
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
            changed = passwords.changed() => {
                changed.ok()?;
                let wanted = passwords.borrow_and_update().clone();
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

/// The passwords that a socket has.
#[derive(Default)]
struct Keys(BTreeMap<IpNet, Password>);

impl Keys {
    fn set(
        &mut self,
        socket: &impl std::os::fd::AsFd,
        address: SocketAddr,
        wanted: &BTreeMap<IpNet, Password>,
    ) -> Result<(), String> {
        let reason = |peers: &IpNet, error: io::Error| {
            format!("not listening: the kernel refuses the TCP MD5 password of {peers}: {error}")
        };
        let family = |peers: &IpNet| peers.addr().is_ipv4() == address.is_ipv4();
        let gone: Vec<_> = self
            .0
            .keys()
            .filter(|peers| !wanted.contains_key(peers))
            .copied()
            .collect();
        for peers in gone {
            sys::set_md5(socket, peers, &[]).map_err(|error| reason(&peers, error))?;
            self.0.remove(&peers);
        }
        for (peers, password) in wanted.iter().filter(|(peers, _)| family(peers)) {
            if self.0.get(peers) != Some(password) {
                sys::set_md5(socket, *peers, password.octets())
                    .map_err(|error| reason(peers, error))?;
                self.0.insert(*peers, password.clone());
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
