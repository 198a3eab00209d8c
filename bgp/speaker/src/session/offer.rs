//! What our OPEN offers, and what it agrees on with the peer's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::connection::Agreed;
use super::{Down, Session};
use crate::settings::{AddPath, PeerSettings, Switch};
use crate::types::{Asn, Family, FamilySet};
use crate::wire::capability::long_lived;
use crate::wire::{
    AsWidth, Capability, Forwarding, GracefulRestart, Notification, Open, PeerKind, RestartState,
    afi_safi, family,
};

/// Directions of add-path (RFC 7911 §4).
const RECEIVE: u8 = 1;
const SEND: u8 = 2;

impl Session {
    /// Our OPEN.
    pub(super) fn offer(&self, now: Instant) -> Open {
        let PeerSettings {
            hold_time,
            families,
            restart,
            extended_messages,
            enhanced_refresh,
            extended_next_hop,
            add_path,
            ..
        } = &self.settings;
        let asn = self.shown_as();
        let of = |family: &Family| afi_safi(*family);
        let mut capabilities: Vec<_> = families
            .iter()
            .map(of)
            .map(|(afi, safi)| Capability::Multiprotocol { afi, safi })
            .collect();
        capabilities.push(Capability::RouteRefresh);
        if enhanced_refresh.is_on() {
            capabilities.push(Capability::EnhancedRefresh);
        }
        capabilities.push(Capability::FourOctetAs(asn));
        if extended_messages.is_on() {
            capabilities.push(Capability::ExtendedMessage);
        }
        if extended_next_hop.is_on()
            && families.contains(&Family::Ipv4)
            && self.settings.address.is_ipv6()
        {
            capabilities.push(Capability::ExtendedNextHop([(1, 1, 2)].into()));
        }
        let direction = direction(*add_path);
        if direction > 0 {
            let families = families.iter().map(|family| (of(family), direction));
            capabilities.push(Capability::AddPath(families.collect()));
        }
        if restart.graceful.is_on() {
            let state = if now < self.fresh_until {
                RestartState::Restarted
            } else {
                RestartState::Running
            };
            // The owner of the kernel's routes keeps them over our restart, so forwarding is preserved.
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                state,
                notification: restart.notification,
                time: restart.time,
                families: families
                    .iter()
                    .map(|family| (of(family), Forwarding::Preserved))
                    .collect(),
            }));
            if let Some(time) = restart.long_lived {
                capabilities.push(long_lived(families, time));
            }
        }
        if !self.capabilities.is_on() {
            capabilities.clear();
        }
        Open {
            my_as: asn.two_octets(),
            hold_time: *hold_time,
            bgp_id: self.bgp_id,
            capabilities,
        }
    }

    /// The AS number that the peer knows us by.
    fn shown_as(&self) -> Asn {
        match self.settings.local_as {
            Some(local) if self.settings.asn != self.asn => local.asn,
            Some(_) | None => self.asn,
        }
    }

    /// What our OPEN and the peer's agree on, or why they do not.
    pub(super) fn agree(&self, open: &Open) -> Result<Agreed, (Notification, Down)> {
        let PeerSettings {
            asn,
            hold_time,
            families,
            ..
        } = &self.settings;
        let expected = if self.accept_as.is_empty() {
            open.asn() == *asn
        } else {
            self.accept_as.contains(&open.asn())
        };
        if !expected {
            let down = Down::WrongAs {
                expected: *asn,
                got: open.asn(),
            };
            return Err((Notification::bad_peer_as(), down));
        }
        if open.bgp_id == self.bgp_id && open.asn() == self.asn {
            return Err((Notification::bad_bgp_id(), Down::SameId(self.bgp_id)));
        }
        // What only one side offers is not agreed on.
        let plain = Open {
            my_as: open.asn().two_octets(),
            capabilities: Vec::new(),
            ..open.clone()
        };
        let open = if self.capabilities.is_on() {
            open
        } else {
            &plain
        };
        let common = families & &open.families();
        if common.is_empty() {
            let ours: Vec<_> = families.iter().copied().collect();
            let mut data = Vec::new();
            for (afi, safi) in ours.iter().copied().map(afi_safi) {
                data.extend_from_slice(&[1, 4]);
                data.extend_from_slice(&afi.to_be_bytes());
                data.extend_from_slice(&[0, safi]);
            }
            return Err((Notification::new(2, 7, &data), Down::NoFamily { ours }));
        }
        Ok(self.agreed(open, common, *hold_time))
    }

    fn agreed(
        &self,
        open: &Open,
        families: BTreeSet<Family>,
        hold_time: crate::settings::HoldTime,
    ) -> Agreed {
        let settings = &self.settings;
        let both = |ours: Switch, theirs: &Capability| {
            Switch::from(ours.is_on() && open.capabilities.contains(theirs))
        };
        let ours = direction(settings.add_path);
        let paths = |we: u8, they: u8| -> FamilySet {
            let may = open.find(Capability::as_add_path);
            let may = may.filter(|_| ours & we != 0).into_iter().flatten();
            may.filter(|(_, direction)| *direction & they != 0)
                .filter_map(|((afi, safi), _)| family(*afi, *safi))
                .filter(|family| families.contains(family))
                .collect()
        };
        let six = Capability::ExtendedNextHop([(1, 1, 2)].into());
        let six = open.find(|capability| capability.includes(&six).then_some(()));
        let restart = open
            .graceful_restart()
            .filter(|_| settings.restart.graceful.is_on());
        // Only beside graceful restart (RFC 9494 §3.1).
        let long_lived = restart.and_then(|_| open.find(Capability::as_long_lived));
        Agreed {
            hold_time: open.hold_time.min(hold_time),
            as_width: match open.four_octet_as() {
                Some(_) => AsWidth::Four,
                None => AsWidth::Two,
            },
            asn: open.asn(),
            bgp_id: open.bgp_id,
            refresh: both(Switch::On, &Capability::RouteRefresh),
            enhanced_refresh: both(settings.enhanced_refresh, &Capability::EnhancedRefresh),
            ends_rib: open.graceful_restart().is_some().into(),
            extended_messages: both(settings.extended_messages, &Capability::ExtendedMessage),
            extended_next_hop: (six.is_some() && settings.extended_next_hop.is_on()).into(),
            paths_in: paths(RECEIVE, SEND),
            paths_out: paths(SEND, RECEIVE),
            notification: (settings.restart.notification.is_on()
                && restart.is_some_and(|restart| restart.notification.is_on()))
            .into(),
            long_lived: long_lived
                .filter(|_| settings.restart.long_lived.is_some())
                .map(|may| {
                    let known = |(of, long): (&(u16, u8), &_)| Some((family(of.0, of.1)?, *long));
                    may.iter().filter_map(known).collect::<BTreeMap<_, _>>()
                })
                .unwrap_or_default(),
            restart: restart.cloned(),
            capabilities: open.capabilities.iter().map(Capability::name).collect(),
            families,
        }
    }

    /// Whether a peer in this AS is in ours.
    pub(super) fn kind_of(&self, asn: Asn) -> PeerKind {
        if asn == self.asn {
            PeerKind::Ibgp
        } else {
            PeerKind::Ebgp
        }
    }
}

fn direction(add_path: AddPath) -> u8 {
    let receive = if add_path.receive.is_on() { RECEIVE } else { 0 };
    let send = if add_path.send > 0 { SEND } else { 0 };
    receive | send
}
