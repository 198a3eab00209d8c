//! A peer: its session, what it told us and what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::table::Table;
use crate::interner::Interner;
use crate::rib::{AdjRibOut, Exporter, Importer, LocRib, Neighbour, Selection};
use crate::session::{ConnectionId, Down, Ending, Session, Unusable};
use crate::settings::{NextHops, PeerSettings};
use crate::status::PeerStatus;
use crate::types::{Asn, BgpId, Family, PeerName, State};
use crate::wire::{Announced, AsWidth, Context, GracefulRestart, Nlri, Update};

/// One configured peer.
#[derive(Debug)]
pub(super) struct Peer {
    name: PeerName,
    pub(super) settings: PeerSettings,
    pub(super) session: Session,
    /// Why its settings cannot be used; it stays idle then.
    pub(super) unusable: Option<Unusable>,
    /// The state that was last told to the driver.
    pub(super) noted: State,
    pub(super) out: AdjRibOut,
    /// What to tell the driver about its bad UPDATEs, the first time in a session.
    pub(super) complaint: Option<String>,
    neighbour: Option<Arc<Neighbour>>,
    next_hops: BTreeMap<Family, IpAddr>,
    /// How the peer restarts, as it said in the present or last session.
    restart: Option<GracefulRestart>,
    stale: Option<Stale>,
    received: u32,
    end_of_rib: BTreeSet<Family>,
    errors: Tally,
    refusals: Tally,
}

/// Routes of a session that was lost, kept while the peer restarts (RFC 4724 §4.2). They are in the table.
#[derive(Debug)]
struct Stale {
    prefixes: BTreeSet<IpNet>,
    until: Instant,
}

/// How long a peer that is back may take for its End-of-RIB before what it has not told again goes.
const STALE_TIME: Duration = Duration::from_mins(6);

/// How often something happened, and the last instance.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    last: String,
}

impl Tally {
    fn add(&mut self, what: impl ToString) {
        self.count += 1;
        self.last = what.to_string();
    }
}

impl Peer {
    pub(super) fn new(
        name: PeerName,
        settings: PeerSettings,
        session: Session,
        unusable: Option<Unusable>,
    ) -> Self {
        Self {
            name,
            settings,
            session,
            unusable,
            noted: State::Idle,
            out: AdjRibOut::default(),
            complaint: None,
            neighbour: None,
            next_hops: BTreeMap::new(),
            restart: None,
            stale: None,
            received: 0,
            end_of_rib: BTreeSet::new(),
            errors: Tally::default(),
            refusals: Tally::default(),
        }
    }

    /// Whether `new` leaves a running session as it is.
    pub(super) fn same_session(&self, new: &PeerSettings) -> bool {
        let mut old = self.settings.clone();
        // What takes effect without a new session.
        old.port = new.port;
        old.dial = new.dial;
        old.export = new.export;
        old == *new
    }

    /// Takes settings for which [`Peer::same_session`] holds.
    pub(super) fn set_settings(&mut self, settings: PeerSettings, rib: &LocRib, now: Instant) {
        if settings == self.settings {
            return;
        }
        if settings.export != self.settings.export && self.neighbour.is_some() {
            self.out.touch_all(rib);
        }
        self.session.set_settings(settings.clone(), now);
        self.settings = settings;
    }

    /// The session is established. Returns the routes of the one before that are void now.
    pub(super) fn up(&mut self, rib: &LocRib, now: Instant) -> BTreeSet<IpNet> {
        let Some((_, agreed, _)) = self.session.established() else {
            return BTreeSet::new();
        };
        self.neighbour = Some(Arc::new(Neighbour {
            name: self.name.clone(),
            kind: self.session.kind(),
            address: self.settings.address,
            bgp_id: agreed.bgp_id,
        }));
        self.out = AdjRibOut::start(rib, &agreed.families);
        self.restart.clone_from(&agreed.restart);
        let preserved = self.restart.as_ref().map(GracefulRestart::preserved);
        let kept = &preserved.unwrap_or_default() & &agreed.families;
        if let Some(stale) = &mut self.stale {
            stale.until = now + STALE_TIME;
        }
        self.stale_without(|family| !kept.contains(&family))
    }

    /// When [`Peer::stale_expired`] or the session has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let stale = self.stale.as_ref().map(|stale| stale.until);
        self.session.poll_timeout().into_iter().chain(stale).min()
    }

    /// The kept routes that are void because the peer took too long.
    pub(super) fn stale_expired(&mut self, now: Instant) -> BTreeSet<IpNet> {
        match &self.stale {
            Some(stale) if stale.until <= now => self.no_stale(),
            Some(_) | None => BTreeSet::new(),
        }
    }

    /// All kept routes, which are void.
    pub(super) fn no_stale(&mut self) -> BTreeSet<IpNet> {
        self.stale_without(|_| true)
    }

    /// Takes the kept routes of some families out.
    fn stale_without(&mut self, void: impl Fn(Family) -> bool) -> BTreeSet<IpNet> {
        let Some(stale) = &mut self.stale else {
            return BTreeSet::new();
        };
        let gone: BTreeSet<IpNet> = stale
            .prefixes
            .extract_if(.., |prefix| void(Family::of_address(prefix.addr())))
            .collect();
        if stale.prefixes.is_empty() {
            self.stale = None;
        }
        self.received -= u32::try_from(gone.len()).unwrap_or(u32::MAX);
        gone
    }

    /// The session is over. `told` is what the peer has in the table; what is void of it is returned.
    pub(super) fn down(
        &mut self,
        ending: Ending,
        told: Vec<IpNet>,
        now: Instant,
    ) -> BTreeSet<IpNet> {
        let kept = match (ending, &self.restart) {
            (Ending::Lost, Some(restart)) if restart.time > 0 => restart.known_families(),
            (Ending::Lost | Ending::Orderly, _) => BTreeSet::new(),
        };
        let time = self.restart.as_ref().map_or(0, |restart| restart.time);
        self.stale = Some(Stale {
            prefixes: told.into_iter().collect(),
            until: now + Duration::from_secs(time.into()),
        });
        let void = self.stale_without(|family| !kept.contains(&family));
        self.neighbour = None;
        self.next_hops.clear();
        self.out = AdjRibOut::default();
        self.end_of_rib.clear();
        self.errors = Tally::default();
        self.refusals = Tally::default();
        void
    }

    /// `prefix` may have to be told.
    pub(super) fn touch(&mut self, prefix: IpNet) {
        if self.neighbour.is_some() {
            self.out.touch(prefix);
        }
    }

    /// The peer asks for all routes of `family` again.
    pub(super) fn refresh(&mut self, connection: ConnectionId, family: Family, rib: &LocRib) {
        let agreed = self
            .session
            .established()
            .is_some_and(|(id, agreed, _)| id == connection && agreed.families.contains(&family));
        if agreed {
            self.out.refresh(family, rib);
        }
    }

    /// Chooses our address for each family's routes; `local` are our addresses in all sessions.
    pub(super) fn set_next_hops(
        &mut self,
        configured: NextHops,
        local: &BTreeSet<IpAddr>,
        rib: &LocRib,
    ) {
        let Some((_, agreed, own)) = self.session.established() else {
            return;
        };
        let reachable = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        let next_hops: BTreeMap<Family, IpAddr> = agreed
            .families
            .iter()
            .filter_map(|family| {
                let fits = |address: &&IpAddr| {
                    Family::of_address(**address) == *family && reachable(address)
                };
                let address = Some(&own).filter(fits).copied();
                let address = address.or_else(|| configured.of(*family));
                Some((
                    *family,
                    address.or_else(|| local.iter().find(fits).copied())?,
                ))
            })
            .collect();
        if next_hops != self.next_hops {
            self.next_hops = next_hops;
            self.out.touch_all(rib);
        }
    }

    /// How UPDATEs of the peer are to be read; only while established.
    pub(super) fn context(&self) -> Context {
        let agreed = self.session.established().map(|(_, agreed, _)| agreed);
        Context {
            as_width: agreed.map_or(AsWidth::Four, |agreed| agreed.as_width),
            peer: self.session.kind(),
        }
    }

    /// What routes of the peer are checked against.
    pub(super) fn importer<'a>(
        &self,
        asn: Asn,
        bgp_id: BgpId,
        own: &'a BTreeSet<IpAddr>,
    ) -> Option<Importer<'a>> {
        let (_, _, local) = self.session.established()?;
        Some(Importer {
            asn,
            bgp_id,
            local,
            own,
        })
    }

    /// How the peer is told routes, if there is something to tell.
    pub(super) fn exporter(&self, asn: Asn) -> Option<Exporter> {
        let (_, agreed, _) = self.session.established()?;
        (!self.out.is_idle()).then(|| Exporter {
            peer: self.name.clone(),
            kind: self.session.kind(),
            asn,
            export: self.settings.export,
            as_width: agreed.as_width,
            next_hops: self.next_hops.clone(),
        })
    }

    /// Takes an UPDATE into the table; says what changed there.
    pub(super) fn apply(
        &mut self,
        update: Update<'_>,
        importer: Option<&Importer<'_>>,
        rib: &mut LocRib,
        interner: &mut Interner,
    ) -> Vec<(IpNet, Selection)> {
        let (Some((_, agreed, _)), Some(neighbour), Some(importer)) =
            (self.session.established(), self.neighbour.clone(), importer)
        else {
            return Vec::new();
        };
        let spoken = |nlri: &Nlri<'_>| agreed.families.contains(&nlri.family());
        let withdrawn: Vec<_> = [Some(update.withdrawn), update.mp_withdrawn]
            .into_iter()
            .flatten()
            .filter(spoken)
            .collect();
        let classic = update
            .next_hop
            .map(|next_hop| (IpAddr::V4(next_hop), update.nlri));
        let multiprotocol = update.mp_nlri.map(|reach| (reach.next_hop, reach.nlri));
        let announced: Vec<_> = [classic, multiprotocol]
            .into_iter()
            .flatten()
            .filter(|(_, nlri)| spoken(nlri))
            .collect();
        let ended = update.end_of_rib;
        self.end_of_rib.extend(ended);
        for error in update.discarded {
            self.complain(&error);
        }
        let mut table = Table {
            neighbour,
            rib,
            received: &mut self.received,
            stale: self.stale.as_mut().map(|stale| &mut stale.prefixes),
            changes: Vec::new(),
        };
        for nlri in withdrawn {
            table.withdraw(nlri);
        }
        let mut refused = None;
        let mut unusable = None;
        match update.announced {
            Announced::Nothing => {}
            Announced::Unusable(error) => {
                for (_, nlri) in announced {
                    table.withdraw(nlri);
                }
                // Also where NEXT_HOP is what is missing.
                table.withdraw(update.nlri);
                unusable = Some(error);
            }
            Announced::Routes(attrs) => {
                let attrs = interner.intern(attrs);
                for (next_hop, nlri) in announced {
                    refused = table.announce(importer, &attrs, next_hop, nlri).or(refused);
                }
            }
        }
        let mut changes = table.changes;
        for prefix in self.stale_without(|family| Some(family) == ended) {
            changes.push((prefix, rib.remove(&prefix, Some(&self.name))));
        }
        if let Some(error) = unusable {
            self.complain(&error);
        }
        if let Some(refusal) = refused {
            self.refusals.add(refusal);
        }
        changes
    }

    fn complain(&mut self, error: &impl ToString) {
        if self.errors.count == 0 {
            self.complaint = Some(error.to_string());
        }
        self.errors.add(error.to_string());
    }

    /// How it is.
    pub(super) fn status(&self) -> PeerStatus {
        let established = self.session.established();
        let agreed = established.map(|(_, agreed, _)| agreed);
        let (reason, hint) = match (&self.unusable, agreed) {
            (Some(unusable), _) => {
                let down = Down::Unusable(unusable.clone());
                (down.to_string(), down.hint())
            }
            (None, None) => (self.session.reason(), self.session.hint()),
            (None, Some(_)) => (String::new(), String::new()),
        };
        PeerStatus {
            address: self.settings.address,
            asn: self.settings.asn,
            state: self.session.state(),
            since: self.session.since(),
            reason,
            hint,
            notes: self.notes(),
            received: self.received,
            announced: u32::try_from(self.out.announced()).unwrap_or(u32::MAX),
            families: agreed
                .map(|agreed| agreed.families.clone())
                .unwrap_or_default(),
            end_of_rib: self.end_of_rib.clone(),
            hold_time: agreed.map(|agreed| agreed.hold_time),
            local_address: established.map(|(.., local)| local),
            bgp_id: agreed.map(|agreed| agreed.bgp_id),
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(stale) = &self.stale {
            notes.push(format!(
                "{} routes are kept from the session before: the peer said that it forwards on while it restarts",
                stale.prefixes.len()
            ));
        }
        if let Some((_, agreed, _)) = self.session.established() {
            for family in &agreed.families {
                if !self.next_hops.contains_key(family) {
                    notes.push(format!(
                        "{family} routes are not announced here: no {family} address of our own is known \
                         to be their next hop"
                    ));
                }
            }
        }
        for (tally, what) in [
            (&self.errors, "UPDATEs had errors"),
            (&self.refusals, "UPDATEs had routes that are not used"),
        ] {
            if tally.count > 0 {
                notes.push(format!("{} {what}, the last: {}", tally.count, tally.last));
            }
        }
        notes
    }
}
