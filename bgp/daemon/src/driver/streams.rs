//! Connections: who dials whom, and what comes over them.

use std::net::{IpAddr, SocketAddr};

use margay_bgp::{ConnectionId, Event};
use tokio::net::TcpStream;
use tracing::debug;

use super::{Driver, Io};
use crate::clock::now;
use crate::connection::{Connection, Reading};
use crate::socket;
use crate::transport::Transport;

/// Octets that are a single change rather than part of a flood.
const LITTLE: usize = 1024;
/// Reads of one stream before it is others' turn.
const READS: usize = 4;

impl Driver {
    /// Reads from every stream that has something, each for its turn.
    pub(super) fn read(&mut self) {
        for id in std::mem::take(&mut self.readable) {
            if self.read_one(id) {
                self.readable.insert(id);
            }
        }
    }

    /// Whether there may be more.
    fn read_one(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        for _ in 0..READS {
            match connection.read(&mut self.buffer) {
                Reading::Octets(count) => {
                    self.news = true;
                    let event = Event::Received {
                        connection: id,
                        octets: &self.buffer[..count],
                    };
                    self.speaker.handle_event(event, now());
                    // What little came is answered before it is asked for more.
                    if count == self.buffer.len() || count < LITTLE {
                        return true;
                    }
                }
                Reading::Nothing => return false,
                Reading::Ended(why) => {
                    self.news = true;
                    self.connections.remove(&id);
                    let connection = id;
                    self.tell(Event::Closed { connection, why });
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn accept(&mut self, stream: TcpStream) {
        let id = ConnectionId::Accepted(self.accepted);
        let mut stream = Connection::new(stream, Transport::default());
        let Ok((local, remote)) = stream.ends() else {
            return;
        };
        let transport = self.current.transport(remote.ip());
        if !socket::is_on_its_link(remote, &transport) {
            debug!(%remote, "connection from another link than the peer's, closed");
            return;
        }
        if let Some(ttl) = stream.syn_ttl().filter(|ttl| *ttl < transport.ttl.least()) {
            self.came_from_afar(remote.ip(), ttl);
            return;
        }
        if let Some(key) = &transport.ao
            && !(self.has_ao && stream.is_signed(remote.ip(), key))
        {
            debug!(%remote, "connection that is not signed by TCP-AO, closed");
            return;
        }
        // The password is there already: the kernel takes it over from the listener.
        stream.set_transport(transport);
        self.accepted += 1;
        self.connections.insert(id, stream);
        self.tell(Event::Accepted {
            connection: id,
            local: local.ip(),
            remote: remote.ip(),
        });
        // A stranger is closed at once.
        if self.carry_out() {
            self.ask_for_ways(false);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.watch(id, self.events.clone(), &mut self.tasks);
        }
    }

    pub(super) fn connected(&mut self, id: ConnectionId, stream: TcpStream, transport: Transport) {
        if self.dials.remove(&id).is_none() {
            return;
        }
        let mut stream = Connection::new(stream, transport);
        match stream.ends() {
            Ok((local, remote)) => {
                // The settings may have changed meanwhile.
                stream.set_transport(self.current.transport(remote.ip()));
                stream.watch(id, self.events.clone(), &mut self.tasks);
                self.connections.insert(id, stream);
                self.tell(Event::Connected {
                    connection: id,
                    local: local.ip(),
                });
            }
            Err(error) => self.tell(Event::Closed {
                connection: id,
                why: socket::failure(error),
            }),
        }
    }

    pub(super) fn dial(&mut self, id: ConnectionId, to: SocketAddr, source: Option<IpAddr>) {
        let events = self.events.clone();
        let transport = self.current.transport(to.ip());
        let task = self.tasks.spawn(async move {
            let event = match socket::dial(to, source, transport.clone()).await {
                Ok(stream) => Io::Connected(id, stream, transport),
                Err(failure) => Io::NotConnected(id, failure),
            };
            // The driver may be gone, and then needs no telling.
            let _ = events.send(event).await;
        });
        self.dials.insert(id, task);
    }
}
