//! What comes in: connections, octets, messages.

use std::net::IpAddr;
use std::time::Instant;

use super::{Action, ConnectionId, Speaker, Stream};
use crate::session;
use crate::settings::{Dial, PeerSettings};
use crate::types::PeerName;
use crate::wire::{Frame, MessageType, Notification, Open, take_frame_of};

impl Speaker {
    pub(super) fn accepted(
        &mut self,
        connection: ConnectionId,
        local: IpAddr,
        remote: IpAddr,
        now: Instant,
    ) {
        let known = self
            .peers
            .iter()
            .find(|(_, peer)| peer.settings.address == remote && peer.unusable.is_none());
        let known = known.map(|(name, _)| name.clone());
        let Some(name) = known.or_else(|| self.guest(remote, now)) else {
            self.actions.push_back(Action::Stranger { remote });
            self.actions.push_back(Action::Close { connection });
            return;
        };
        self.streams.insert(connection, Stream::of(&name));
        let event = session::Event::TcpConnectionConfirmed(connection, local.to_canonical());
        self.tell(connection, event, now);
    }

    /// Makes whoever dials from a range a peer, unless the range is full.
    fn guest(&mut self, remote: IpAddr, now: Instant) -> Option<PeerName> {
        let ranges = self.settings.ranges.iter();
        let (range, how) = ranges
            .filter(|(_, how)| how.prefix.contains(&remote))
            .max_by_key(|(_, how)| how.prefix.prefix_len())?;
        let (range, how) = (range.clone(), how.clone());
        let guests = self.peers.values();
        let guests = guests.filter(|peer| peer.range.as_ref() == Some(&range));
        let unusable = self.settings.asn.0 == 0 || self.settings.bgp_id.0.is_unspecified();
        if unusable || guests.count() >= how.limit as usize {
            return None;
        }
        let name: PeerName = format!("{range}-{remote}").into();
        if self.peers.contains_key(&name) {
            return None;
        }
        let settings = PeerSettings {
            address: remote,
            dial: Dial::Passive,
            ..how.template
        };
        self.add(name.clone(), settings, None, now);
        let peer = self.peers.get_mut(&name)?;
        peer.range = Some(range);
        peer.session.accept_as(how.asns);
        Some(name)
    }

    /// Hands an event to the session that the connection is of.
    pub(super) fn tell(&mut self, connection: ConnectionId, event: session::Event, now: Instant) {
        let Some(stream) = self.streams.get(&connection) else {
            return;
        };
        let name = stream.peer.clone();
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.session.handle_event(event, now);
        }
        self.follow(&name, now);
    }

    /// Takes whole messages out of what came.
    pub(super) fn take_in(&mut self, connection: ConnectionId, octets: &[u8], now: Instant) {
        let Some(stream) = self.streams.get_mut(&connection) else {
            return;
        };
        let name = stream.peer.clone();
        let partial = std::mem::take(&mut stream.partial);
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.counts.octets_in += octets.len() as u64;
        }
        let rest = if partial.is_empty() {
            self.messages(connection, &name, octets, now).to_vec()
        } else {
            let mut whole = partial;
            whole.extend_from_slice(octets);
            let left = self.messages(connection, &name, &whole, now).len();
            whole.drain(..whole.len() - left);
            whole
        };
        if let Some(stream) = self.streams.get_mut(&connection) {
            stream.partial = rest;
        }
    }

    /// Acts on every whole message in `octets`; gives back the rest. Ends early when the connection does.
    fn messages<'a>(
        &mut self,
        connection: ConnectionId,
        name: &PeerName,
        mut octets: &'a [u8],
        now: Instant,
    ) -> &'a [u8] {
        while self.streams.contains_key(&connection) {
            let left = octets;
            let Some(peer) = self.peers.get(name) else {
                break;
            };
            let established = peer.session.established();
            let established = established.is_some_and(|(id, ..)| id == connection);
            match take_frame_of(&mut octets, peer.session.max_message(connection)) {
                Ok(None) => return octets,
                Ok(Some(frame)) if established && frame.kind == MessageType::Update => {
                    if let Some(event) = self.update(connection, name, frame.body, now) {
                        self.tell(connection, event, now);
                    }
                }
                Ok(Some(frame)) => {
                    self.message(connection, name, frame, established, now);
                }
                Err(error) => {
                    self.bad_message(name, left);
                    let event = session::Event::BgpHeaderErr(connection, error);
                    self.tell(connection, event, now);
                }
            }
        }
        &[]
    }

    /// Has the octets shown that end a connection: as many as the longest usual message has.
    pub(super) fn bad_message(&mut self, name: &PeerName, octets: &[u8]) {
        const SHOWN: usize = 4096;
        self.actions.push_back(Action::BadMessage {
            peer: name.clone(),
            octets: octets[..octets.len().min(SHOWN)].to_vec(),
        });
    }

    fn message(
        &mut self,
        connection: ConnectionId,
        name: &PeerName,
        frame: Frame<'_>,
        established: bool,
        now: Instant,
    ) {
        let Frame { kind, body } = frame;
        let event = match kind {
            MessageType::Open => match Open::decode(body) {
                Ok(open) => session::Event::BgpOpen(connection, open),
                Err(error) => {
                    self.bad_message(name, body);
                    session::Event::BgpOpenMsgErr(connection, error)
                }
            },
            MessageType::Notification => {
                session::Event::NotifMsg(connection, Notification::decode(body))
            }
            MessageType::Keepalive => session::Event::KeepAliveMsg(connection),
            // Those of an established session are taken in already.
            MessageType::Update => session::Event::UpdateMsg(connection),
            MessageType::RouteRefresh if established => {
                self.route_refresh(connection, name, body, now)
            }
            MessageType::RouteRefresh => session::Event::RouteRefreshMsg(connection),
        };
        self.tell(connection, event, now);
    }
}
