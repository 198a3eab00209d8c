//! What the speaker wants done.

use std::collections::BTreeMap;
use std::net::IpAddr;

use margay_bgp::{Action, Event, PeerName};
use tracing::{debug, warn};

use super::{Driver, Io};
use crate::clock::now;
use crate::kernel::{self, Group};
use crate::{RouteChange, socket};

/// Streams that may say goodbye at a time; more are cut.
const GOODBYES: usize = 256;

impl Driver {
    /// Does what the speaker wants, and hands the kernel what it takes. Says whether that gave the speaker
    /// something to do.
    pub(super) fn act(&mut self) -> bool {
        let mut moved = self.carry_out();
        if moved {
            self.ask_for_ways(false);
        }
        for id in std::mem::take(&mut self.writable) {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let octets = connection.write(id, &self.events, &mut self.tasks);
            if connection.is_broken() {
                self.readable.insert(id);
            }
            if octets > 0 {
                moved = true;
                let connection = id;
                self.tell(Event::Sent { connection, octets });
            }
        }
        moved
    }

    /// Says whether there are new next hops to ask for.
    pub(super) fn carry_out(&mut self) -> bool {
        let mut ask = false;
        while let Some(action) = self.speaker.poll_action() {
            match action {
                Action::Connect {
                    connection,
                    to,
                    source,
                } => self.dial(connection, to, source),
                Action::Send { connection, octets } => {
                    if let Some(stream) = self.connections.get_mut(&connection) {
                        stream.send(octets);
                        self.writable.insert(connection);
                    }
                }
                Action::Close { connection } => {
                    if let Some(dial) = self.dials.remove(&connection) {
                        dial.abort();
                    }
                    if let Some(mut stream) = self.connections.remove(&connection) {
                        stream.write(connection, &self.events, &mut self.tasks);
                        stream.close(&mut self.goodbyes, GOODBYES);
                    }
                }
                Action::TrackNextHop(address) => {
                    self.tracker.track(address);
                    ask = true;
                }
                Action::ForgetNextHop(address) => self.tracker.forget(address),
                Action::Route(change) => {
                    if !self.routes.is_closed() {
                        let change = self.with_links(change);
                        self.changes.insert(change.prefix, change);
                    }
                }
                Action::StateChanged {
                    peer,
                    from,
                    to,
                    reason,
                } => self.log_state(peer, from, to, reason),
                Action::BadUpdate {
                    peer,
                    error,
                    octets,
                } => {
                    warn!(peer = %peer, error, "bad UPDATE, session kept");
                    self.show(&peer, &octets);
                }
                Action::BadMessage { peer, octets } => self.show(&peer, &octets),
                Action::Stranger { remote } => {
                    debug!(%remote, "connection from an address that no peer has, closed");
                }
            }
        }
        ask
    }

    /// Shows what a peer sent to whoever debugs. Not all of what a sick peer may send.
    fn show(&mut self, peer: &PeerName, octets: &[u8]) {
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(octets) = self.shown.hex(octets, now())
        {
            debug!(%peer, octets, "a bad message");
        }
    }

    /// Tells the speaker what the kernel says of next hops, of all or of the new ones.
    pub(super) fn ask_for_ways(&mut self, all: bool) {
        if self.routes_watch.is_none() {
            let events = self.events.clone();
            let task = self.tasks.spawn(async move {
                let groups = [Group::Links, Group::Ipv4Routes, Group::Ipv6Routes];
                if let Err(error) = kernel::watch(&groups, || Io::RoutesChanged, events).await {
                    warn!(%error, "changes of the kernel's routes are not seen any more");
                }
            });
            self.routes_watch = Some(task);
        }
        let news = self.tracker.ask(all);
        if !news.is_empty() {
            self.tell(Event::NextHops(news));
        }
    }

    /// Adds where link-local next hops are: on the link of the peer that has the address, or told of it.
    fn with_links(&self, change: margay_bgp::RouteChange) -> RouteChange {
        let margay_bgp::RouteChange {
            prefix,
            next_hops,
            peer,
        } = change;
        let mut links = BTreeMap::new();
        for hop in next_hops.iter().filter(|hop| is_link_local(**hop)) {
            let own = self.current.transport(*hop);
            let teller = peer
                .as_ref()
                .and_then(|peer| self.current.transport.get(peer));
            let found = [Some(&own), teller].into_iter().flatten();
            let mut found = found.filter_map(|transport| socket::scope(*hop, transport).ok());
            links.extend(found.next().map(|link| (*hop, link)));
        }
        RouteChange {
            prefix,
            next_hops,
            links,
            peer,
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
