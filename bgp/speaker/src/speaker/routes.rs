//! UPDATEs on their way into the table.

use std::cell::OnceCell;
use std::time::Instant;

use ipnet::IpNet;

use super::Speaker;
use super::recent::Outcome;
use crate::filter::{Applied, From, RouteView};
use crate::rib::{AttrId, Importer, LocRib, Refusal, SourceId, fits};
use crate::session::{ConnectionId, Event};
use crate::settings::{LimitAction, PrefixLimit};
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
        match limit.action {
            LimitAction::TearDown { restart } => Some(Event::PrefixLimit {
                family,
                max: limit.max,
                restart,
            }),
            LimitAction::Warn | LimitAction::Block => None,
        }
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
            for (id, prefix) in nlri.paths() {
                if keep {
                    rib.store.hold(attrs);
                    if let Some(old) = peer.kept.insert((prefix, id), attrs) {
                        rib.store.release(old);
                    }
                }
                let passed = Importer::check_prefix(&prefix).and_then(|()| {
                    let filter = peer.settings.import_filter.as_ref();
                    match filter {
                        None => Ok(attrs),
                        Some(filter) => memo.filtered(rib, filter, source, prefix, settings.asn),
                    }
                });
                let passed = passed.and_then(|attrs| {
                    let full = over_limit(rib, peer, source, family, &prefix, id);
                    match full {
                        Some(limit) => {
                            let ends = matches!(limit.action, LimitAction::TearDown { .. });
                            if ends {
                                verdict.broken = Some((family, limit));
                            }
                            Err(Refusal::Limit(limit.max))
                        }
                        None => Ok(attrs),
                    }
                });
                match passed {
                    Ok(attrs) => {
                        if rib.insert(&prefix, source, id, attrs) {
                            peer.counts.paths[family as usize] += 1;
                        }
                    }
                    Err(refusal) => {
                        verdict.refused = Some(refusal);
                        if rib.remove(&prefix, source, id) {
                            peer.counts.paths[family as usize] -= 1;
                        }
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
                if !peer.kept.is_empty()
                    && let Some(attrs) = peer.kept.remove(&(prefix, id))
                {
                    rib.store.release(attrs);
                }
                if rib.remove(&prefix, source, id) {
                    peer.counts.paths[nlri.family() as usize] -= 1;
                }
            }
        }
    }

    /// The import filter is another one now: what was kept goes through it again.
    pub(super) fn filter_again(&mut self, name: &PeerName) {
        let Self {
            peers,
            rib,
            settings,
            ..
        } = self;
        let Some(peer) = peers.get_mut(name) else {
            return;
        };
        let Some(source) = peer.source else {
            return;
        };
        for ((prefix, id), attrs) in &peer.kept {
            let mut memo = Memo::new(*attrs);
            let passed =
                Importer::check_prefix(prefix).and_then(|()| match &peer.settings.import_filter {
                    None => Ok(*attrs),
                    Some(filter) => memo.filtered(rib, filter, source, *prefix, settings.asn),
                });
            let family = Family::of_prefix(prefix) as usize;
            match passed {
                Ok(attrs) => {
                    if rib.insert(prefix, source, *id, attrs) {
                        peer.counts.paths[family] += 1;
                    }
                }
                Err(_) => {
                    if rib.remove(prefix, source, *id) {
                        peer.counts.paths[family] -= 1;
                    }
                }
            }
            memo.release(rib);
        }
    }
}

/// The limit that a further path would break.
fn over_limit(
    rib: &LocRib,
    peer: &super::peer::Peer,
    source: SourceId,
    family: Family,
    prefix: &IpNet,
    id: u32,
) -> Option<PrefixLimit> {
    let limit = *peer.settings.prefix_limits.get(&family)?;
    if limit.action == LimitAction::Warn || peer.counts.paths[family as usize] < limit.max {
        return None;
    }
    let known = rib.find(prefix).is_some_and(|slot| {
        let mut paths = rib.paths(slot).iter();
        paths.any(|path| (path.source, path.id) == (source, id))
    });
    (!known).then_some(limit)
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
