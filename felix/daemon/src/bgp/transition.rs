//! From one topology to the next: what is to go stays until what comes has taken its place.
//!
//! A session with another node that is no longer wanted goes when every prefix that came over it has another way, and
//! a reflector goes on reflecting for a while, so that its clients can meet each other. Decides; does nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use margay_bgp::Speaker;
use margay_bgp::settings::Reflection;
use margay_bgpd::{Family, PeerName, PeerSettings, Settings, Transport};

/// How long a session stays after all of its prefixes have another way: the other end needs one, too.
const LINGER: Duration = Duration::from_secs(2);
/// How long a session stays at most.
const LONGEST: Duration = Duration::from_mins(2);
/// How long a reflector goes on for clients that are none any more: until they have sessions with each other.
const REFLECTS: Duration = Duration::from_secs(10);

/// What is kept of an earlier topology.
#[derive(Debug, Default)]
pub(super) struct Transition {
    leaving: BTreeMap<PeerName, Leaving>,
    /// Peers that we reflect for until then.
    reflecting: BTreeMap<PeerName, (Instant, PeerSettings)>,
}

/// Why settings change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nodes are to pair otherwise.
    Topology,
    /// Anything else: a node came or went, say. Whoever is gone is gone.
    Other,
}

#[derive(Debug)]
struct Leaving {
    settings: PeerSettings,
    transport: Transport,
    /// Since when all of its prefixes have another way.
    covered: Option<Instant>,
    until: Instant,
}

impl Transition {
    /// The settings to use while `wanted` takes the place of `used`, `why` it does. `nodes` are the sessions with other nodes among
    /// both, `established` those that are up.
    pub(super) fn settings(
        &mut self,
        used: &Settings,
        mut wanted: Settings,
        why: Why,
        nodes: &BTreeSet<PeerName>,
        established: &BTreeSet<PeerName>,
        now: Instant,
    ) -> Settings {
        let before = &used.speaker;
        let identity = (before.asn, before.bgp_id) == (wanted.speaker.asn, wanted.speaker.bgp_id);
        if !identity {
            // Every session begins anew anyway.
            *self = Self::default();
            return wanted;
        }
        for (name, settings) in &before.peers {
            let goes = !wanted.speaker.peers.contains_key(name) && nodes.contains(name);
            let switched = why == Why::Topology;
            if goes && switched && established.contains(name) && !self.leaving.contains_key(name) {
                let leaving = Leaving {
                    settings: settings.clone(),
                    transport: used.transport.get(name).cloned().unwrap_or_default(),
                    covered: None,
                    until: now + LONGEST,
                };
                self.leaving.insert(name.clone(), leaving);
            }
        }
        let addresses: BTreeSet<_> = wanted.speaker.peers.values().map(|p| p.address).collect();
        self.leaving.retain(|name, leaving| {
            let lingered = leaving.covered.is_some_and(|since| since + LINGER <= now);
            !wanted.speaker.peers.contains_key(name)
                && !addresses.contains(&leaving.settings.address)
                && leaving.until > now
                && !lingered
        });
        for (name, leaving) in &self.leaving {
            let peers = &mut wanted.speaker.peers;
            peers.insert(name.clone(), leaving.settings.clone());
            wanted
                .transport
                .insert(name.clone(), leaving.transport.clone());
        }
        self.reflect(used, &mut wanted, nodes, now);
        wanted
    }

    fn reflect(
        &mut self,
        used: &Settings,
        wanted: &mut Settings,
        nodes: &BTreeSet<PeerName>,
        now: Instant,
    ) {
        for (name, new) in &mut wanted.speaker.peers {
            let Some(old) = used
                .speaker
                .peers
                .get(name)
                .filter(|_| nodes.contains(name))
            else {
                continue;
            };
            let tells = |peer: &PeerSettings| {
                (
                    peer.reflection == Reflection::Client,
                    peer.export == margay_bgp::Export::All,
                )
            };
            let less = tells(new) < tells(old);
            if less && !self.leaving.contains_key(name) {
                let (until, old) = self
                    .reflecting
                    .entry(name.clone())
                    .or_insert_with(|| (now + REFLECTS, old.clone()));
                if *until > now {
                    new.reflection = old.reflection;
                    new.export = old.export;
                    new.export_filter.clone_from(&old.export_filter);
                    continue;
                }
            }
            self.reflecting.remove(name);
        }
        let peers = &wanted.speaker.peers;
        self.reflecting.retain(|name, _| peers.contains_key(name));
    }

    /// Whether there is anything to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.leaving.is_empty() && self.reflecting.is_empty()
    }

    /// The sessions that are to go.
    pub(super) fn leaving(&self) -> BTreeSet<PeerName> {
        self.leaving.keys().cloned().collect()
    }

    /// Takes note of which of them are the only way to some prefix.
    pub(super) fn note(&mut self, needed: &BTreeSet<PeerName>, now: Instant) {
        for (name, leaving) in &mut self.leaving {
            if needed.contains(name) {
                leaving.covered = None;
            } else {
                leaving.covered.get_or_insert(now);
            }
        }
    }
}

/// Those of `leaving` that some prefix has no other way than.
pub(super) fn needed(speaker: &Speaker, leaving: &BTreeSet<PeerName>) -> BTreeSet<PeerName> {
    let mut needed = BTreeSet::new();
    for family in Family::ALL {
        for prefix in speaker.prefixes(family) {
            let Some(destination) = speaker.destination(&prefix) else {
                continue;
            };
            let stays = |path: &margay_bgp::PathView| {
                path.peer
                    .as_ref()
                    .is_none_or(|peer| !leaving.contains(peer))
            };
            if !destination.paths.iter().any(stays) {
                needed.extend(destination.paths.into_iter().filter_map(|path| path.peer));
            }
        }
    }
    needed
}

#[cfg(test)]
mod tests;
