//! UPDATEs on their way into the table.

use std::cell::OnceCell;
use std::time::Instant;

use ipnet::IpNet;

use super::Speaker;
use super::limits::ending;
use super::peer::Peer;
use super::recent::Outcome;
use crate::filter::{Applied, From, RouteView};
use crate::rib::{AttrId, Importer, LocRib, Refusal, SourceId, fits};
use crate::session::{ConnectionId, Event};
use crate::settings::PrefixLimit;
use crate::types::{Family, FamilySet, PeerName};
use crate::wire::update::Skeleton;
use crate::wire::{Announced, NextHop, Nlri, PathAttrs, Update};

/// What an UPDATE means for the session, besides that it came.
#[derive(Default)]
struct Verdict {
    refused: Option<Refusal>,
    /// The limit that was broken, and must end the session.
    broken: Option<(Family, PrefixLimit)>,
}

impl Speaker {
    /// Takes an UPDATE of an established peer into the table; says what it means for the session, if that is more than
    /// that it came.
    pub(super) fn update(
        &mut self,
        connection: ConnectionId,
        name: &PeerName,
        body: &[u8],
        now: Instant,
    ) -> Option<Event> {
        let peer = self.peers.get_mut(name)?;
        peer.counts.updates_in += 1;
        let (context, source) = (peer.context()?, peer.source?);
        let generation = peer.generation;
        peer.session.heard(connection, now);
        let mut verdict = Verdict::default();
        let mut key = std::mem::take(&mut self.key);
        let skeleton = Skeleton::read(body, context, &mut key);
        let known = skeleton
            .as_ref()
            .and_then(|_| self.recent.find(source, generation, &key));
        if let (Some(skeleton), Some(known)) = (&skeleton, known) {
            self.withdraw_all(name, source, skeleton.withdrawn());
            self.take_known(name, source, known, skeleton.announced(), &mut verdict);
        } else {
            match Update::decode(body, context) {
                Ok(update) => {
                    let known = self.take(name, source, update, body, &mut verdict);
                    let store = &mut self.rib.store;
                    match (known, skeleton) {
                        (Some(known), Some(_)) => {
                            self.recent.put(store, source, generation, &key, known);
                        }
                        (Some(known), None) => known.release(store),
                        (None, _) => {}
                    }
                }
                Err(error) => {
                    self.key = key;
                    self.bad_message(name, body);
                    return Some(Event::UpdateMsgErr(connection, error));
                }
            }
        }
        self.key = key;
        if let Some(refusal) = verdict.refused
            && let Some(peer) = self.peers.get_mut(name)
        {
            peer.refusals.add(refusal);
        }
        let (family, limit) = verdict.broken?;
        ending(family, limit)
    }

    /// Takes in what has been taken apart. What its attributes became is worth to be remembered if nothing was
    /// wrong with them.
    fn take(
        &mut self,
        name: &PeerName,
        source: SourceId,
        update: Update<'_>,
        body: &[u8],
        verdict: &mut Verdict,
    ) -> Option<Outcome> {
        let peer = self.peers.get_mut(name)?;
        let agreed = peer.agreed()?;
        let families: FamilySet = agreed.families.iter().copied().collect();
        let spoken = |nlri: &Nlri<'_>| families.contains(nlri.family()) && !nlri.is_empty();
        let withdrawn = [Some(update.withdrawn), update.mp_withdrawn];
        let withdrawn = withdrawn.map(|nlri| nlri.filter(spoken));
        let classic = update
            .next_hop
            .map(|next_hop| (NextHop::V4(next_hop), update.nlri));
        let multiprotocol = update.mp_nlri.map(|reach| (reach.next_hop, reach.nlri));
        let announced = [classic, multiprotocol].map(|one| one.filter(|(_, nlri)| spoken(nlri)));
        let count = announced.iter().flatten().count();
        let mut clean = update.discarded.is_empty();
        for error in update.discarded {
            peer.complain(&error);
        }
        self.withdraw_all(name, source, withdrawn.into_iter().flatten());
        let mut outcome = None;
        match update.announced {
            Announced::Nothing => {}
            Announced::Unusable(error) => {
                for (_, nlri) in announced.into_iter().flatten() {
                    self.withdraw_all(name, source, [nlri]);
                }
                // Also where NEXT_HOP is what is missing.
                self.withdraw_all(name, source, [update.nlri]);
                if let Some(peer) = self.peers.get_mut(name) {
                    peer.complain(&error);
                }
            }
            Announced::Routes(mut attrs) => {
                clean &= count == 1;
                for (number, (next_hop, nlri)) in (1..).zip(announced.into_iter().flatten()) {
                    let attrs = if number == count {
                        std::mem::take(&mut attrs)
                    } else {
                        attrs.clone()
                    };
                    let known = self.judge(name, attrs, next_hop);
                    self.take_known(name, source, known, [nlri], verdict);
                    if !clean {
                        known.release(&mut self.rib.store);
                    }
                    outcome = Some(known);
                }
            }
        }
        if let Some(ended) = update.end_of_rib {
            self.end_of_rib(name, source, ended);
        }
        if let Some(peer) = self.peers.get_mut(name)
            && let Some(error) = peer.complaint.take()
        {
            self.actions.push_back(super::Action::BadUpdate {
                peer: name.clone(),
                error,
                octets: body.to_vec(),
            });
        }
        outcome.filter(|_| clean)
    }

    /// What becomes of routes with these attributes, whatever their prefix. Attributes are held once.
    fn judge(&mut self, name: &PeerName, attrs: PathAttrs, next_hop: NextHop) -> Outcome {
        let peer = self.peers.get(name);
        let own = &self.own_addresses;
        let importer = peer.and_then(|peer| peer.importer(&self.settings, own));
        let Some(importer) = importer else {
            return Outcome::Refused(Refusal::NoPolicy);
        };
        if let Err(refusal) = importer.check(&attrs, next_hop) {
            return Outcome::Refused(refusal);
        }
        match importer.taken(attrs) {
            Ok(attrs) => Outcome::Attrs(self.rib.store.intern(&attrs, next_hop)),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// Takes routes in whose attributes are judged already.
    fn take_known<'a>(
        &mut self,
        name: &PeerName,
        source: SourceId,
        known: Outcome,
        announced: impl IntoIterator<Item = Nlri<'a>>,
        verdict: &mut Verdict,
    ) {
        let attrs = match known {
            // What is refused counts as withdrawn.
            Outcome::Refused(refusal) => {
                self.withdraw_all(name, source, announced);
                verdict.refused = Some(refusal);
                return;
            }
            Outcome::Attrs(attrs) => attrs,
        };
        let Self {
            peers,
            rib,
            settings,
            ..
        } = self;
        let Some(peer) = peers.get_mut(name) else {
            return;
        };
        let keep = peer.settings.keep_received.is_on();
        let mut memo = Memo::new(attrs);
        for nlri in announced {
            let family = nlri.family();
            let room = peer.room(family);
            for (id, prefix) in nlri.paths() {
                if keep {
                    let kept = &mut peer.kept;
                    kept.put(&mut rib.store, (prefix, id), attrs, room);
                }
                let passed = memo.passed(rib, peer, source, prefix, settings.asn);
                match passed {
                    Ok(attrs) => place(rib, peer, source, (prefix, id), attrs, verdict),
                    Err(refusal) => {
                        verdict.refused = Some(refusal);
                        let removed = rib.remove(&prefix, source, id);
                        peer.counts.taken(family, removed);
                    }
                }
            }
        }
        memo.release(rib);
    }

    fn withdraw_all<'a>(
        &mut self,
        name: &PeerName,
        source: SourceId,
        withdrawn: impl IntoIterator<Item = Nlri<'a>>,
    ) {
        let Self { peers, rib, .. } = self;
        let mut withdrawn = withdrawn
            .into_iter()
            .filter(|nlri| !nlri.is_empty())
            .peekable();
        if withdrawn.peek().is_none() {
            return;
        }
        let Some(peer) = peers.get_mut(name) else {
            return;
        };
        for nlri in withdrawn {
            for (id, prefix) in nlri.paths() {
                if !peer.kept.is_empty() {
                    peer.kept.remove(&mut rib.store, (prefix, id));
                }
                let removed = rib.remove(&prefix, source, id);
                peer.counts.taken(nlri.family(), removed);
            }
        }
    }

    /// The import filter, or what the limits leave room for, is another now: what was kept goes through it again. Says
    /// which limit that breaks.
    pub(super) fn filter_again(&mut self, name: &PeerName) -> Option<(Family, PrefixLimit)> {
        let Self {
            peers,
            rib,
            settings,
            ..
        } = self;
        let peer = peers.get_mut(name)?;
        let source = peer.source?;
        let kept = std::mem::take(&mut peer.kept);
        let mut verdict = Verdict::default();
        for (prefix, id, attrs) in kept.iter() {
            let mut memo = Memo::new(attrs);
            if let Ok(attrs) = memo.passed(rib, peer, source, prefix, settings.asn) {
                place(rib, peer, source, (prefix, id), attrs, &mut verdict);
            } else {
                let removed = rib.remove(&prefix, source, id);
                peer.counts.taken(Family::of_prefix(&prefix), removed);
            }
            memo.release(rib);
        }
        peer.kept = kept;
        if let Some(refusal) = verdict.refused {
            peer.refusals.add(refusal);
        }
        verdict.broken
    }
}

/// Puts a path into the table, unless there is no room for it.
fn place(
    rib: &mut LocRib,
    peer: &mut Peer,
    source: SourceId,
    (prefix, id): (IpNet, u32),
    attrs: AttrId,
    verdict: &mut Verdict,
) {
    let family = Family::of_prefix(&prefix);
    match peer.over_limit(rib, source, family, &prefix, id) {
        None => {
            let replaced = rib.insert(&prefix, source, id, attrs);
            peer.counts.put(family, replaced);
        }
        Some(limit) => {
            verdict.refused = Some(Refusal::Limit(limit.max));
            verdict.broken = Some((family, limit));
            let removed = rib.remove(&prefix, source, id);
            peer.counts.taken(family, removed);
        }
    }
}

/// What the filter made of the attributes of one UPDATE, by the rules that changed them.
struct Memo {
    attrs: AttrId,
    plain: OnceCell<PathAttrs>,
    changed: Vec<(Applied, AttrId)>,
}

impl Memo {
    fn new(attrs: AttrId) -> Self {
        Self {
            attrs,
            plain: OnceCell::new(),
            changed: Vec::new(),
        }
    }

    /// What becomes of the attributes for one prefix.
    fn passed(
        &mut self,
        rib: &mut LocRib,
        peer: &Peer,
        source: SourceId,
        prefix: IpNet,
        asn: crate::types::Asn,
    ) -> Result<AttrId, Refusal> {
        Importer::check_prefix(&prefix)?;
        match &peer.settings.import_filter {
            None => Ok(self.attrs),
            Some(filter) => self.filtered(rib, filter, source, prefix, asn),
        }
    }

    fn filtered(
        &mut self,
        rib: &mut LocRib,
        filter: &crate::filter::Filter,
        source: SourceId,
        prefix: IpNet,
        asn: crate::types::Asn,
    ) -> Result<AttrId, Refusal> {
        let stored = rib.store.get(self.attrs);
        let from = rib.neighbours.get(source).map_or(From::Own, From::Peer);
        let route = RouteView::new(prefix, from, stored, &self.plain);
        let applied = filter.judge(&route).ok_or(Refusal::Filter)?;
        if applied.is_empty() {
            return Ok(self.attrs);
        }
        if let Some((_, known)) = self.changed.iter().find(|(other, _)| *other == applied) {
            return Ok(*known);
        }
        let (mut attrs, mut next_hop) = (stored.attrs(), stored.next_hop);
        filter.apply(&applied, &mut attrs, &mut next_hop, asn);
        let changed = rib.store.intern(&fits(attrs)?, next_hop);
        self.changed.push((applied, changed));
        Ok(changed)
    }

    fn release(self, rib: &mut LocRib) {
        for (_, attrs) in self.changed {
            rib.store.release(attrs);
        }
    }
}
