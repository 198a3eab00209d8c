//! What comes in: connections, octets, messages.

use std::net::IpAddr;
use std::time::Instant;

use super::peer::Peer;
use super::{Action, ConnectionId, Speaker, Stream};
use crate::session;
use crate::wire::{MessageType, Notification, Open, RouteRefresh, Update, take_frame};

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
        let Some(name) = known.map(|(name, _)| name.clone()) else {
            self.actions.push_back(Action::Stranger { remote });
            self.actions.push_back(Action::Close { connection });
            return;
        };
        let stream = Stream {
            peer: name.clone(),
            partial: Vec::new(),
        };
        self.streams.insert(connection, stream);
        let event = session::Event::TcpConnectionConfirmed(connection, local.to_canonical());
        self.tell(connection, event, now);
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
    pub(super) fn received(&mut self, connection: ConnectionId, octets: &[u8], now: Instant) {
        let Some(stream) = self.streams.get_mut(&connection) else {
            return;
        };
        if stream.partial.is_empty() {
            let left = self.messages(connection, octets, now);
            if let Some(stream) = self.streams.get_mut(&connection) {
                stream.partial = left.to_vec();
            }
        } else {
            let mut whole = std::mem::take(&mut stream.partial);
            whole.extend_from_slice(octets);
            let left = self.messages(connection, &whole, now).len();
            if let Some(stream) = self.streams.get_mut(&connection) {
                whole.drain(..whole.len() - left);
                stream.partial = whole;
            }
        }
    }

    /// Acts on every whole message in `octets`; gives back the rest. Ends early when the connection does.
    fn messages<'a>(
        &mut self,
        connection: ConnectionId,
        mut octets: &'a [u8],
        now: Instant,
    ) -> &'a [u8] {
        while self.streams.contains_key(&connection) {
            match take_frame(&mut octets) {
                Ok(None) => return octets,
                Ok(Some(frame)) => self.message(connection, frame.kind, frame.body, now),
                Err(error) => {
                    let event = session::Event::BgpHeaderErr(connection, error);
                    self.tell(connection, event, now);
                }
            }
        }
        &[]
    }

    fn message(&mut self, connection: ConnectionId, kind: MessageType, body: &[u8], now: Instant) {
        let event = match kind {
            MessageType::Open => match Open::decode(body) {
                Ok(open) => session::Event::BgpOpen(connection, open),
                Err(error) => session::Event::BgpOpenMsgErr(connection, error),
            },
            MessageType::Notification => {
                session::Event::NotifMsg(connection, Notification::decode(body))
            }
            MessageType::Keepalive => session::Event::KeepAliveMsg(connection),
            MessageType::Update => self.update(connection, body),
            MessageType::RouteRefresh => self.route_refresh(connection, body),
        };
        self.tell(connection, event, now);
    }

    /// Takes an UPDATE into the table; says what it means for the session.
    fn update(&mut self, connection: ConnectionId, body: &[u8]) -> session::Event {
        let Some(context) = self.established(connection).map(Peer::context) else {
            return session::Event::UpdateMsg(connection);
        };
        match Update::decode(body, context) {
            Ok(update) => {
                self.apply(connection, update);
                session::Event::UpdateMsg(connection)
            }
            Err(error) => session::Event::UpdateMsgErr(connection, error),
        }
    }

    fn route_refresh(&mut self, connection: ConnectionId, body: &[u8]) -> session::Event {
        if let RouteRefresh::Request(family) = RouteRefresh::decode(body) {
            let Self {
                peers,
                streams,
                rib,
                ..
            } = self;
            let stream = streams.get(&connection);
            if let Some(peer) = stream.and_then(|stream| peers.get_mut(&stream.peer)) {
                peer.refresh(connection, family, rib);
            }
        }
        session::Event::RouteRefreshMsg(connection)
    }

    /// The peer whose established session runs over `connection`.
    fn established(&self, connection: ConnectionId) -> Option<&Peer> {
        let peer = self.peers.get(&self.streams.get(&connection)?.peer)?;
        let (established, ..) = peer.session.established()?;
        (established == connection).then_some(peer)
    }

    fn apply(&mut self, connection: ConnectionId, update: Update<'_>) {
        let Some(name) = self
            .streams
            .get(&connection)
            .map(|stream| stream.peer.clone())
        else {
            return;
        };
        let Self {
            settings,
            peers,
            rib,
            own_addresses,
            interner,
            actions,
            ..
        } = self;
        let Some(peer) = peers.get_mut(&name) else {
            return;
        };
        let importer = peer.importer(settings.asn, settings.bgp_id, own_addresses);
        let changes = peer.apply(update, importer.as_ref(), rib, interner);
        if let Some(error) = peer.complaint.take() {
            let peer = name.clone();
            actions.push_back(Action::BadUpdate { peer, error });
        }
        for (prefix, selection) in changes {
            self.selected(prefix, &selection);
        }
    }
}
