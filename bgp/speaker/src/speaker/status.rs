//! How the sessions are, in words for people.

use std::collections::BTreeMap;

use super::Speaker;
use super::peer::Peer;
use crate::rib::Freshness;
use crate::session::Down;
use crate::status::{PeerStatus, Traffic};
use crate::types::{Family, FamilySet, PeerName};

impl Speaker {
    /// How the sessions are.
    pub fn status(&self) -> BTreeMap<PeerName, PeerStatus> {
        self.peers
            .iter()
            .map(|(name, peer)| (name.clone(), self.status_of(peer)))
            .collect()
    }

    fn status_of(&self, peer: &Peer) -> PeerStatus {
        let established = peer.session.established();
        let agreed = established.map(|(_, agreed, _)| agreed);
        let (reason, hint) = match (&peer.unusable, agreed) {
            (Some(unusable), _) => {
                let down = Down::Unusable(unusable.clone());
                (down.to_string(), down.hint())
            }
            (None, None) => (peer.session.reason(), peer.session.hint()),
            (None, Some(_)) => (String::new(), String::new()),
        };
        let group = peer.group.and_then(|at| self.groups.get(at)?.as_ref());
        let announced = group
            .zip(peer.told())
            .map(|(group, told)| group.count(told));
        let every = |set: FamilySet| Family::ALL.into_iter().filter(move |f| set.contains(*f));
        PeerStatus {
            address: peer.settings.address,
            asn: peer.session.peer_asn(),
            state: peer.session.state(),
            since: peer.session.since(),
            reason,
            hint,
            notes: self.notes(peer),
            received: peer.counts.paths.iter().sum(),
            announced: announced.unwrap_or_default(),
            families: agreed
                .map(|agreed| agreed.families.clone())
                .unwrap_or_default(),
            end_of_rib: peer.end_of_rib.clone(),
            hold_time: peer.hold_time(),
            hold_until: peer.session.hold_until(),
            dial_at: peer.session.dial_at(),
            local_address: established.map(|(.., local)| local),
            bgp_id: agreed.map(|agreed| agreed.bgp_id),
            range: peer.range.clone(),
            capabilities: agreed
                .map(|agreed| agreed.capabilities.clone())
                .unwrap_or_default(),
            paths_in: agreed
                .map(|agreed| every(agreed.paths_in).collect())
                .unwrap_or_default(),
            paths_out: agreed
                .map(|agreed| every(agreed.paths_out).collect())
                .unwrap_or_default(),
            received_by_family: Family::ALL
                .into_iter()
                .map(|family| (family, peer.counts.paths[family as usize]))
                .collect(),
            traffic: Traffic {
                updates_in: peer.counts.updates_in,
                updates_out: peer.counts.updates_out,
                octets_in: peer.counts.octets_in,
                octets_out: peer.counts.octets_out,
            },
            sessions: peer.counts.sessions,
            errors: peer.errors.count,
            refused: peer.refusals.count,
        }
    }

    fn notes(&self, peer: &Peer) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(note) = self.restart_note(peer) {
            notes.push(note);
        }
        if let Some(agreed) = peer.agreed() {
            for family in &agreed.families {
                if !peer.next_hops.contains_key(family) {
                    notes.push(format!(
                        "{family} routes are not announced here: no {family} address of our own is known \
                         to be their next hop"
                    ));
                }
            }
        }
        for (family, limit) in &peer.settings.prefix_limits {
            let count = peer.counts.fresh[*family as usize];
            let warn = u64::from(limit.max) * u64::from(limit.warn_percent) / 100;
            if u64::from(count) >= warn && count > 0 {
                notes.push(format!(
                    "{count} {family} prefixes of at most {} are announced by the peer",
                    limit.max
                ));
            }
        }
        for (tally, what) in [
            (&peer.errors, "UPDATEs had errors"),
            (&peer.refusals, "UPDATEs had routes that are not used"),
        ] {
            if tally.count > 0 {
                notes.push(format!("{} {what}, the last: {}", tally.count, tally.last));
            }
        }
        notes
    }

    /// What is kept of a session that was lost.
    fn restart_note(&self, peer: &Peer) -> Option<String> {
        let source = peer.source.filter(|_| peer.restart.keeps())?;
        let slots = Family::ALL
            .into_iter()
            .flat_map(|family| self.rib.slots(family));
        let paths = slots.flat_map(|slot| self.rib.paths(slot));
        let stale = paths.filter(|path| {
            path.source == source
                && matches!(path.freshness, Freshness::Stale | Freshness::LongStale)
        });
        let count = stale.count();
        (count > 0).then(|| {
            format!(
                "{count} routes are kept from the session before: the peer said that it forwards on while it \
                 restarts"
            )
        })
    }
}
