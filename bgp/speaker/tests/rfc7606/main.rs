//! The 88 cases of [`cases`] through a speaker: a session on a virtual clock, with a peer that is only octets.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod cases;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cases::{CASES, Case, Fate, ROUTE, SENTINEL, octets, update};
use margay_bgp::wire::{Notification, take_frame};
use margay_bgp::{
    Action, Asn, BgpId, ConnectionId, Event, PeerSettings, Settings, Speaker, State, wire,
};

const PEER: [u8; 4] = [192, 0, 2, 2];

/// An established session with a peer in `asn`, and everything that the speaker has said.
struct Lab {
    speaker: Speaker,
    now: Instant,
    connection: ConnectionId,
    sent: Vec<u8>,
}

impl Lab {
    fn new(asn: u32) -> Self {
        let now = epoch();
        let mut settings = Settings::new(Asn(64512), BgpId([192, 0, 2, 1].into()));
        let mut peer = PeerSettings::new(IpAddr::from(PEER), Asn(asn));
        peer.dial = margay_bgp::Dial::Passive;
        settings.peers.insert("peer".into(), peer);
        let connection = ConnectionId::Accepted(0);
        let mut lab = Self {
            speaker: Speaker::new(settings, 1, now),
            now,
            connection,
            sent: Vec::new(),
        };
        lab.event(Event::Accepted {
            connection,
            local: IpAddr::from([192, 0, 2, 1]),
            remote: IpAddr::from(PEER),
        });
        let families = margay_bgp::Family::ALL.into();
        let open = wire::Open::new(
            Asn(asn),
            margay_bgp::HoldTime::default(),
            BgpId(PEER.into()),
            &families,
            wire::RestartState::Running,
        );
        lab.receive(&open.encode());
        lab.receive(&wire::encode_keepalive());
        assert_eq!(lab.state(), State::Established);
        lab
    }

    fn event(&mut self, event: Event<'_>) {
        self.speaker.handle_event(event, self.now);
        while let Some(action) = self.speaker.poll_action() {
            if let Action::Send { octets, .. } = action {
                self.sent.extend_from_slice(&octets);
            }
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        self.now += Duration::from_millis(1);
        let connection = self.connection;
        self.event(Event::Received { connection, octets });
    }

    fn state(&self) -> State {
        self.speaker.status()["peer"].state
    }

    fn has(&self, prefix: &str) -> bool {
        self.speaker.destination(&prefix.parse().unwrap()).is_some()
    }

    /// Code and subcode of the NOTIFICATION that the speaker ended with.
    fn notification(&self) -> Option<(u8, u8)> {
        let mut sent = self.sent.as_slice();
        let mut last = None;
        while let Ok(Some(frame)) = take_frame(&mut sent) {
            if frame.kind == wire::MessageType::Notification {
                let notification = Notification::decode(frame.body);
                last = Some((notification.code, notification.subcode));
            }
        }
        last
    }
}

/// Plays one case: the routes are there and good, then the bad UPDATE comes.
fn play(case: &Case, asn: u32, expected: Fate) {
    let internal = asn == 64512;
    let message = |attribute: &str, nlri: &[u8]| update(attribute, nlri, PEER, asn, internal);
    let what = format!("{}, {}", case.name, if internal { "iBGP" } else { "eBGP" });
    let mut lab = Lab::new(asn);
    let med = "80 04 04 00000007";
    for nlri in [SENTINEL, ROUTE] {
        lab.receive(&message(med, &nlri));
    }
    let (route, sentinel) = ("198.51.100.0/24", "203.0.113.0/24");
    assert!(lab.has(route) && lab.has(sentinel), "{what}: good routes");
    lab.receive(&message(case.attribute, &ROUTE));
    if let Fate::Reset(subcode) = expected {
        assert_ne!(lab.state(), State::Established, "{what}");
        assert_eq!(lab.notification(), Some((3, subcode)), "{what}");
        return;
    }
    assert_eq!(lab.notification(), None, "{what}");
    assert_eq!(lab.state(), State::Established, "{what}: the session");
    assert!(lab.has(sentinel), "{what}: the other route");
    assert_eq!(
        lab.has(route),
        expected != Fate::Withdraw,
        "{what}: the route"
    );
    if expected == Fate::Withdraw {
        return;
    }
    let destination = lab.speaker.destination(&route.parse().unwrap()).unwrap();
    let attrs = &destination.paths[0].attrs;
    assert_ne!(attrs.med, Some(7), "{what}: it is the new route");
    let code = octets(case.attribute)[1];
    let there = match code {
        1 => attrs.origin != wire::Origin::Igp,
        5 => attrs.local_pref.is_some(),
        6 => attrs.atomic_aggregate,
        7 | 18 => attrs.aggregator.is_some(),
        9 => attrs.originator_id.is_some(),
        10 => !attrs.cluster_list.is_empty(),
        17 => attrs.as_path.count(Asn(0)) > 0,
        code => attrs.unknown.iter().any(|other| other.code == code),
    };
    assert_eq!(there, expected == Fate::Fine, "{what}: the attribute");
}

#[test]
fn every_case_has_exactly_the_disposition_of_rfc_7606_from_ebgp_peers() {
    for case in CASES {
        play(case, 65000, case.ebgp);
    }
}

#[test]
fn every_case_has_exactly_the_disposition_of_rfc_7606_from_ibgp_peers() {
    for case in CASES {
        play(case, 64512, case.ibgp);
    }
}

#[test]
fn there_are_88_cases_each_with_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!((CASES.len(), names.len()), (88, 88));
}

/// Some moment.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; it is never read again"
)]
fn epoch() -> Instant {
    Instant::now()
}
