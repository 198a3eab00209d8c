//! A peer that says exactly what a test has it say.

use super::*;
use crate::rib::Freshness;
use crate::wire::update::{put_announcements, put_withdrawals};
use crate::wire::{
    AsWidth, Capability, Context, Forwarding, GracefulRestart, LongLived, MAX_MESSAGE,
    Notification, Open, PathAttrs, PathIds, PeerKind, RefreshMark, RestartState, RouteRefresh,
    Shape, Update, afi_safi, encode_end_of_rib, encode_keepalive, encode_route_refresh,
    encode_route_refresh_mark, take_frame,
};

pub(super) const PEER: &str = "192.0.2.2";

/// A speaker of AS 65000 that announces 10.0.0.0/24, and its peer `p` of AS 65001, which dials.
pub(super) struct Scripted {
    pub(super) speaker: Speaker,
    settings: Settings,
    now: Instant,
    connection: ConnectionId,
    connections: u64,
    /// What we have said to it since somebody looked.
    said: Vec<String>,
}

impl Scripted {
    pub(super) fn new(set: impl FnOnce(&mut PeerSettings)) -> Self {
        let mut settings = Settings::new(Asn(65000), BgpId([192, 0, 2, 1].into()));
        settings.announce = prefixes(&["10.0.0.0/24"]);
        let mut peer = PeerSettings::new(address(PEER), Asn(65001));
        peer.dial = Dial::Passive;
        set(&mut peer);
        settings.peers.insert("p".into(), peer);
        let now = net::epoch();
        Self {
            speaker: Speaker::new(settings.clone(), 1, now),
            settings,
            now,
            connection: ConnectionId::Accepted(0),
            connections: 0,
            said: Vec::new(),
        }
    }

    /// Starts the speaker anew with other settings.
    pub(super) fn begin(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.settings);
        self.speaker = Speaker::new(self.settings.clone(), 1, self.now);
        self
    }

    pub(super) fn change(&mut self, set: impl FnOnce(&mut Settings)) {
        set(&mut self.settings);
        self.event(Event::Settings(self.settings.clone()));
    }

    pub(super) fn set(&mut self, set: impl FnOnce(&mut PeerSettings)) {
        self.change(|settings| set(settings.peers.get_mut("p").unwrap()));
    }

    fn event(&mut self, event: Event<'_>) {
        self.speaker.handle_event(event, self.now);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.speaker.poll_action() {
            match action {
                Action::Send { connection, octets } => {
                    let mut rest = &*octets;
                    while let Ok(Some(frame)) = take_frame(&mut rest) {
                        self.said.push(words(frame.kind, frame.body));
                    }
                    let octets = octets.len();
                    self.event(Event::Sent { connection, octets });
                }
                Action::Close { .. } => self.said.push("close".to_owned()),
                Action::Connect { .. }
                | Action::TrackNextHop(_)
                | Action::ForgetNextHop(_)
                | Action::Route(_)
                | Action::StateChanged { .. }
                | Action::BadUpdate { .. }
                | Action::BadMessage { .. }
                | Action::Stranger { .. } => {}
            }
        }
    }

    /// The peer establishes a session; besides both families it offers route refresh and these.
    pub(super) fn up(&mut self, capabilities: &[Capability]) {
        self.dial();
        self.open(capabilities);
        self.send(&encode_keepalive());
        assert_eq!(self.state(), State::Established);
    }

    pub(super) fn dial(&mut self) {
        self.connection = ConnectionId::Accepted(self.connections);
        self.connections += 1;
        self.event(Event::Accepted {
            connection: self.connection,
            local: address("192.0.2.1"),
            remote: address(PEER),
        });
    }

    /// The peer's OPEN, without timers.
    pub(super) fn opening(capabilities: &[Capability]) -> Open {
        let mut open = Open::new(
            Asn(65001),
            HoldTime::from_secs(0),
            BgpId([192, 0, 2, 2].into()),
            &Family::ALL.into(),
            RestartState::Running,
        );
        open.capabilities
            .retain(|capability| capability.as_graceful_restart().is_none());
        open.capabilities.extend_from_slice(capabilities);
        open
    }

    pub(super) fn open(&mut self, capabilities: &[Capability]) {
        self.send(&Self::opening(capabilities).encode());
    }

    pub(super) fn send(&mut self, octets: &[u8]) {
        let connection = self.connection;
        self.event(Event::Received { connection, octets });
    }

    pub(super) fn announce(&mut self, list: &[&str]) {
        let mut attrs = PathAttrs::default();
        attrs.as_path = attrs.as_path.prepended(Asn(65001));
        self.announce_with(&attrs, list);
    }

    pub(super) fn announce_with(&mut self, attrs: &PathAttrs, list: &[&str]) {
        let hops = [address(PEER), address("2001:db8::2")];
        for (family, hop) in Family::ALL.into_iter().zip(hops) {
            let mut octets = Vec::new();
            let paths = paths(family, list);
            let shape = Shape::plain(AsWidth::Four);
            put_announcements(&mut octets, attrs, hop.into(), family, &paths, shape);
            self.send(&octets);
        }
    }

    pub(super) fn withdraw(&mut self, list: &[&str]) {
        for family in Family::ALL {
            let mut octets = Vec::new();
            let paths = paths(family, list);
            put_withdrawals(&mut octets, family, &paths, MAX_MESSAGE, PathIds::Absent);
            self.send(&octets);
        }
    }

    pub(super) fn end_of_rib(&mut self) {
        for family in Family::ALL {
            self.send(&encode_end_of_rib(family));
        }
    }

    pub(super) fn mark(&mut self, family: Family, mark: RefreshMark) {
        self.send(&encode_route_refresh_mark(family, mark));
    }

    pub(super) fn ask(&mut self, family: Family) {
        self.send(&encode_route_refresh(family));
    }

    /// The connection is reset.
    pub(super) fn lose(&mut self) {
        let connection = self.connection;
        let why = Failure::Reset;
        self.event(Event::Closed { connection, why });
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.speaker.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.speaker.handle_timeout(self.now);
            self.act();
        }
        self.now = end;
    }

    pub(super) fn state(&self) -> State {
        self.status().state
    }

    pub(super) fn status(&self) -> PeerStatus {
        self.speaker.status().remove("p").unwrap()
    }

    pub(super) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// The prefixes that the table has from the peer.
    pub(super) fn has(&self) -> Vec<String> {
        let received = self.speaker.received("p").into_iter();
        received.map(|(prefix, _)| prefix.to_string()).collect()
    }

    pub(super) fn freshness(&self, prefix: &str) -> Option<Freshness> {
        let slot = self.speaker.rib.find(&prefix.parse().unwrap())?;
        let path = self.speaker.rib.paths(slot).first()?;
        Some(path.freshness)
    }
}

fn paths(family: Family, list: &[&str]) -> Vec<(u32, IpNet)> {
    prefixes(list)
        .into_iter()
        .filter(|prefix| Family::of_prefix(prefix) == family)
        .map(|prefix| (0, prefix))
        .collect()
}

/// A message in a word or two.
fn words(kind: MessageType, body: &[u8]) -> String {
    match kind {
        MessageType::Open => "OPEN".to_owned(),
        MessageType::Keepalive => "KEEPALIVE".to_owned(),
        MessageType::Notification => {
            let Notification { code, subcode, .. } = Notification::decode(body);
            format!("{code}/{subcode}")
        }
        MessageType::Update => {
            let context = Context::new(AsWidth::Four, PeerKind::Ebgp);
            match Update::decode(body, context).unwrap().end_of_rib {
                Some(family) => format!("End-of-RIB {family}"),
                None => "UPDATE".to_owned(),
            }
        }
        MessageType::RouteRefresh => match RouteRefresh::decode(body).unwrap() {
            RouteRefresh::Request(family) => format!("asks {family}"),
            RouteRefresh::Begin(family) => format!("BoRR {family}"),
            RouteRefresh::End(family) => format!("EoRR {family}"),
            RouteRefresh::Other => "other".to_owned(),
        },
    }
}

/// Graceful restart within so many seconds.
pub(super) fn graceful(time: u16, families: &[(Family, Forwarding)]) -> Capability {
    let families = families.iter();
    Capability::GracefulRestart(GracefulRestart {
        state: RestartState::Running,
        notification: crate::settings::Switch::Off,
        time,
        families: families
            .map(|(family, forwarding)| (afi_safi(*family), *forwarding))
            .collect(),
    })
}

/// Stale routes are kept for so many seconds in the end.
pub(super) fn long_lived(families: &[(Family, Forwarding, u32)]) -> Capability {
    let families = families.iter();
    let of = |(family, forwarding, time): &(Family, Forwarding, u32)| {
        let (forwarding, time) = (*forwarding, *time);
        (afi_safi(*family), LongLived { forwarding, time })
    };
    Capability::LongLived(families.map(of).collect())
}
