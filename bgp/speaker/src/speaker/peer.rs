//! A peer: its session, what it told us and what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::kept::Kept;
use super::restart::Restart;
use crate::export::{Exporter, Lag, Lane, Told};
use crate::rib::{Freshness, Importer, Neighbour, SourceId};
use crate::session::{Agreed, Session, Unusable};
use crate::settings::{HoldTime, NextHops, OwnAs, PeerSettings, Settings, Switch};
use crate::types::{Family, PeerName, State};
use crate::wire::{Context, MAX_EXTENDED, MAX_MESSAGE, NextHop, PathIds, PeerKind, Shape};

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: PeerName,
    pub(super) settings: PeerSettings,
    pub(super) session: Session,
    /// Why its settings cannot be used; it stays idle then.
    pub(super) unusable: Option<Unusable>,
    /// The range that it came from; it goes when its session does.
    pub(super) range: Option<String>,
    /// The state that was last told to the driver.
    pub(super) noted: State,
    /// Its number in the table, while it has or may have paths there.
    pub(super) source: Option<SourceId>,
    /// The group it is told with, while established.
    pub(super) group: Option<usize>,
    /// What it lacks that its group was told.
    pub(super) lag: Option<Lag>,
    /// Our address by family, for the families it speaks; it stands as next hop.
    pub(super) next_hops: BTreeMap<Family, NextHop>,
    /// What was received, before the filter; kept if the settings ask for it.
    pub(super) kept: Kept,
    /// Counted up when what its routes become changes.
    pub(super) generation: u32,
    pub(super) restart: Restart,
    pub(super) counts: Counts,
    pub(super) end_of_rib: BTreeSet<Family>,
    pub(super) errors: Tally,
    pub(super) refusals: Tally,
    /// What to tell the driver about its bad UPDATEs, the first time in a session.
    pub(super) complaint: Option<String>,
}

/// What has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Paths in the table, by family.
    pub(super) paths: [u32; 2],
    /// Those of them that the peer need not tell again.
    pub(super) fresh: [u32; 2],
    pub(super) updates_in: u64,
    pub(super) updates_out: u64,
    pub(super) octets_in: u64,
    pub(super) octets_out: u64,
    /// How often the session was established.
    pub(super) sessions: u64,
}

impl Counts {
    /// A path was put into the table, in place of one that was so fresh.
    pub(super) fn put(&mut self, family: Family, replaced: Option<Freshness>) {
        let at = family as usize;
        self.paths[at] += u32::from(replaced.is_none());
        self.fresh[at] += u32::from(replaced != Some(Freshness::Fresh));
    }

    /// One that was so fresh was taken out, if one was there.
    pub(super) fn taken(&mut self, family: Family, removed: Option<Freshness>) {
        let at = family as usize;
        self.paths[at] -= u32::from(removed.is_some());
        self.fresh[at] -= u32::from(removed == Some(Freshness::Fresh));
    }
}

/// How often something happened, and the last instance.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) last: String,
}

impl Tally {
    pub(super) fn add(&mut self, what: impl ToString) {
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
            range: None,
            noted: State::Idle,
            source: None,
            group: None,
            lag: None,
            next_hops: BTreeMap::new(),
            kept: Kept::default(),
            generation: 0,
            restart: Restart::default(),
            counts: Counts::default(),
            end_of_rib: BTreeSet::new(),
            errors: Tally::default(),
            refusals: Tally::default(),
            complaint: None,
        }
    }

    /// Whether `new` leaves a running session as it is.
    pub(super) fn same_session(&self, new: &PeerSettings) -> bool {
        let PeerSettings {
            address,
            port: _,
            asn,
            hold_time,
            source,
            dial: _,
            families,
            export: _,
            import_filter: _,
            export_filter: _,
            shut_down,
            delay_open: _,
            restart,
            extended_messages,
            enhanced_refresh,
            extended_next_hop,
            add_path,
            reflection: _,
            next_hop: _,
            allow_own_as: _,
            local_as,
            own_as: _,
            private_as: _,
            prefix_limits: _,
            keep_received: _,
            graceful_shutdown: _,
        } = new;
        let old = &self.settings;
        (*address, *asn, *hold_time, *source) == (old.address, old.asn, old.hold_time, old.source)
            && (families, shut_down, restart) == (&old.families, &old.shut_down, &old.restart)
            && (*extended_messages, *enhanced_refresh)
                == (old.extended_messages, old.enhanced_refresh)
            && (*extended_next_hop, *add_path) == (old.extended_next_hop, old.add_path)
            && *local_as == old.local_as
    }

    /// What both sides agreed on, while established.
    pub(super) fn agreed(&self) -> Option<&Agreed> {
        self.session.established().map(|(_, agreed, _)| agreed)
    }

    /// How the peer's routes are known in the table.
    pub(super) fn neighbour(&self) -> Option<Neighbour> {
        let agreed = self.agreed()?;
        Some(Neighbour {
            name: self.name.clone(),
            kind: self.session.kind(),
            address: self.settings.address,
            bgp_id: agreed.bgp_id,
            reflection: self.settings.reflection,
        })
    }

    /// How others know what it told.
    pub(super) fn told(&self) -> Option<Told> {
        self.source.map(Told::by)
    }

    /// When [`super::Speaker::handle_timeout`] has something to do for it.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.session.poll_timeout(), self.restart.poll_timeout()];
        timers.into_iter().flatten().min()
    }

    /// How UPDATEs of the peer are to be read.
    pub(super) fn context(&self) -> Option<Context> {
        let agreed = self.agreed()?;
        Some(Context {
            as_width: agreed.as_width,
            peer: self.session.kind(),
            add_path: agreed.paths_in,
            extended_next_hop: agreed.extended_next_hop,
        })
    }

    /// What routes of the peer are checked against.
    pub(super) fn importer<'a>(
        &self,
        settings: &Settings,
        own: &'a BTreeSet<IpAddr>,
    ) -> Option<Importer<'a>> {
        let (_, _, local) = self.session.established()?;
        let kind = self.session.kind();
        let required = kind == PeerKind::Ebgp && settings.ebgp_requires_policy.is_on();
        Some(Importer {
            asn: settings.asn,
            allow_own_as: self.settings.allow_own_as,
            local_as: self.settings.local_as,
            bgp_id: settings.bgp_id,
            cluster: settings.cluster_id.unwrap_or(settings.bgp_id),
            kind,
            graceful_shutdown: settings.honour_graceful_shutdown,
            without_policy: (required && self.settings.import_filter.is_none()).into(),
            local,
            own,
        })
    }

    /// Chooses our address for each family's routes; `local` are our addresses in all sessions.
    pub(super) fn choose_next_hops(&mut self, configured: NextHops, local: &BTreeSet<IpAddr>) {
        let Some((_, agreed, own)) = self.session.established() else {
            self.next_hops.clear();
            return;
        };
        let reachable = |address: &IpAddr| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        let choose = |family: Family| {
            let fits =
                |address: &&IpAddr| Family::of_address(**address) == family && reachable(address);
            // Over a link-local session the link-local address is the one that both ends surely have in common; and an
            // IPv4 route may have an IPv6 next hop where that was agreed on (RFC 8950).
            let six = family == Family::Ipv6 || agreed.extended_next_hop.is_on();
            let over_link = Some(own).filter(|own| own.is_ipv6() && six);
            let address = over_link.filter(|own| !reachable(own));
            let address = address.or(Some(own).filter(|own| fits(&own)));
            let address = address.or_else(|| configured.of(family)).or(over_link);
            address.or_else(|| local.iter().find(fits).copied())
        };
        self.next_hops = agreed
            .families
            .iter()
            .filter_map(|family| Some((*family, NextHop::from(choose(*family)?))))
            .collect();
    }

    /// How the peer is told; `None` unless established.
    pub(super) fn exporter(&self, settings: &Settings) -> Option<Exporter> {
        let agreed = self.agreed()?;
        let own = &self.settings;
        let kind = self.session.kind();
        let max = if agreed.extended_messages.is_on() {
            MAX_EXTENDED
        } else {
            MAX_MESSAGE
        };
        let lane = |family: Family| {
            let several = agreed.paths_out.contains(family);
            Some(Lane {
                own: *self.next_hops.get(&family)?,
                shape: Shape {
                    as_width: agreed.as_width,
                    max,
                    ids: if several {
                        PathIds::Present
                    } else {
                        PathIds::Absent
                    },
                },
                extended_next_hop: agreed.extended_next_hop,
                paths: if several { own.add_path.send.max(1) } else { 0 },
            })
        };
        let leaving = settings.graceful_shutdown.is_on() || own.graceful_shutdown.is_on();
        let required = kind == PeerKind::Ebgp && settings.ebgp_requires_policy.is_on();
        Some(Exporter {
            kind,
            asn: settings.asn,
            bgp_id: settings.bgp_id,
            cluster: settings.cluster_id.unwrap_or(settings.bgp_id),
            local_as: own.local_as,
            override_as: (own.own_as == OwnAs::Override).then_some(agreed.asn),
            private_as: own.private_as,
            export: own.export,
            filter: own.export_filter.clone(),
            without_policy: (required && own.export_filter.is_none()).into(),
            reflection: own.reflection,
            next_hop: own.next_hop,
            graceful_shutdown: leaving.into(),
            long_lived: Switch::from(!agreed.long_lived.is_empty()),
            lanes: [lane(Family::Ipv4), lane(Family::Ipv6)],
        })
    }

    pub(super) fn complain(&mut self, error: &impl ToString) {
        if self.errors.count == 0 {
            self.complaint = Some(error.to_string());
        }
        self.errors.add(error.to_string());
    }

    /// Counts of a session that is over.
    pub(super) fn forget_session(&mut self) {
        self.group = None;
        self.lag = None;
        self.next_hops.clear();
        self.end_of_rib.clear();
        self.errors = Tally::default();
        self.refusals = Tally::default();
    }

    /// The hold time that holds.
    pub(super) fn hold_time(&self) -> Option<HoldTime> {
        self.agreed().map(|agreed| agreed.hold_time)
    }
}
