//! Settings that change, and where to listen.

use std::net::SocketAddr;
use std::sync::Arc;

use margay_bgp::Event;
use margay_bgp::session::Failure;
use tracing::warn;

use super::{Driver, Io};
use crate::clock::now;
use crate::kernel::{self, Group};
use crate::listener;
use crate::unnumbered::Unnumbered;

impl Driver {
    /// Takes over what the owner says now.
    pub(super) fn set_settings(&mut self) {
        self.links = Unnumbered::links(&self.settings.borrow_and_update());
        self.unnumbered.look(&self.links);
        self.watch_links();
        self.take_over();
    }

    /// Sees who is on the links of unnumbered peers.
    pub(super) fn look_for_routers(&mut self) {
        if self.unnumbered.look(&self.links) {
            self.take_over();
        }
    }

    /// Has somebody tell of changes there, if there are such peers.
    pub(super) fn watch_links(&mut self) {
        if self.links.is_empty() || self.neighbours_watch.is_some() {
            return;
        }
        let events = self.events.clone();
        let task = self.tasks.spawn(async move {
            let groups = [Group::Links, Group::Neighbours];
            if let Err(error) = kernel::watch(&groups, || Io::NeighboursChanged, events).await {
                warn!(%error, "routers that come and go are not seen any more");
            }
        });
        self.neighbours_watch = Some(task);
    }

    fn take_over(&mut self) {
        self.news = true;
        let settings = self.unnumbered.resolve(&self.settings.borrow());
        self.current = settings.clone();
        let signatures = settings.signatures(self.has_ao);
        self.signatures.send_replace(Arc::new(signatures));
        self.listen(&settings.listen);
        let mut other_keys = Vec::new();
        for (id, connection) in &mut self.connections {
            if let Ok((_, remote)) = connection.ends() {
                let transport = settings.transport(remote.ip());
                if connection.transport().ao != transport.ao {
                    other_keys.push(*id);
                }
                connection.set_transport(transport);
            }
        }
        self.troubles.clear();
        self.sessions_changed = true;
        let event = Event::Settings(settings.speaker);
        self.speaker.handle_event(event, now());
        // A connection keeps its key of TCP-AO; the peer has another one too, or soon.
        for id in other_keys {
            if self.connections.remove(&id).is_some() {
                let why = Failure::Other("the TCP-AO key is another one now".to_owned());
                self.tell(Event::Closed {
                    connection: id,
                    why,
                });
            }
        }
    }

    /// Listens at these places and no others.
    pub(super) fn listen(&mut self, places: &[SocketAddr]) {
        self.listeners.retain(|place, (task, _)| {
            let keep = places.contains(place);
            if !keep {
                task.abort();
            }
            keep
        });
        for place in places {
            if !self.listeners.contains_key(place) {
                let signatures = self.signatures.subscribe();
                let task = listener::listen(*place, signatures, self.events.clone());
                let task = self.tasks.spawn(task);
                let state = Err("not tried yet".to_owned());
                self.listeners.insert(*place, (task, state));
            }
        }
    }
}
