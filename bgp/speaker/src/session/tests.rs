use std::time::Duration;

use super::*;
use crate::settings::HoldTime;
use crate::types::Family;
use crate::wire::{AsWidth, Capability, MessageType, Open, RestartState, take_frame};

mod collisions;
mod events;

const OURS: ConnectionId = ConnectionId::Dialled(0);
const THEIRS: ConnectionId = ConnectionId::Accepted(0);

#[test]
fn it_dials_at_once_and_speaks_first() {
    let mut lab = Lab::new("192.0.2.1");
    assert_eq!(lab.session.state(), State::Idle);
    lab.event(Event::ManualStart);
    assert_eq!(lab.told(), ["dial"]);
    assert_eq!(lab.session.state(), State::Connect);
    lab.event(Event::TcpCrAcked(OURS, local()));
    assert_eq!(lab.told(), ["OPEN on ours"]);
    assert_eq!(lab.session.state(), State::OpenSent);
    lab.event(Event::BgpOpen(OURS, open("192.0.2.2")));
    assert_eq!(lab.told(), ["KEEPALIVE on ours"]);
    assert_eq!(lab.session.state(), State::OpenConfirm);
    lab.event(Event::KeepAliveMsg(OURS));
    assert_eq!(lab.told(), ["up on ours"]);
    assert_eq!(lab.session.state(), State::Established);
}

#[test]
fn silence_for_the_hold_time_ends_the_session() {
    let mut lab = Lab::established("192.0.2.1");
    lab.pass(Duration::from_millis(89_999));
    assert_eq!(lab.session.state(), State::Established);
    lab.told();
    lab.pass(Duration::from_millis(1));
    assert_eq!(
        lab.told(),
        ["NOTIFICATION 4/0 on ours", "close ours", "down", "dial"]
    );
    assert_eq!(lab.session.down(), &Down::HoldTimer(90));
}

#[test]
fn any_message_but_an_open_keeps_the_session_alive() {
    for event in [
        Event::KeepAliveMsg(OURS),
        Event::UpdateMsg(OURS),
        Event::RouteRefreshMsg(OURS),
    ] {
        let mut lab = Lab::established("192.0.2.1");
        for _ in 0..5 {
            lab.pass(Duration::from_secs(80));
            lab.event(event.clone());
        }
        assert_eq!(lab.session.state(), State::Established);
    }
}

#[test]
fn keepalives_go_out_within_a_third_of_the_lower_hold_time() {
    let mut lab = Lab::established("192.0.2.1");
    for _ in 0..20 {
        lab.told();
        lab.pass(Duration::from_secs(22));
        assert_eq!(lab.told(), Vec::<String>::new());
        lab.pass(Duration::from_secs(8));
        assert_eq!(lab.told(), ["KEEPALIVE on ours"]);
        lab.event(Event::KeepAliveMsg(OURS));
        lab.restart_keepalive();
    }
}

#[test]
fn a_hold_time_of_zero_means_no_timers() {
    let mut lab = Lab::dialled("192.0.2.1");
    let mut open = open("192.0.2.2");
    open.hold_time = HoldTime::from_secs(0);
    lab.event(Event::BgpOpen(OURS, open));
    lab.event(Event::KeepAliveMsg(OURS));
    assert_eq!(lab.session.poll_timeout(), None);
}

#[test]
fn a_peer_that_never_says_open_is_given_up() {
    let mut lab = Lab::dialled("192.0.2.1");
    lab.told();
    lab.pass(Duration::from_mins(1));
    assert_eq!(
        lab.told(),
        ["NOTIFICATION 4/0 on ours", "close ours", "dial"]
    );
    assert_eq!(lab.session.down(), &Down::BeforeOpen(Failure::TimedOut));
}

/// RFC 9687 §4.
#[test]
fn a_peer_that_stops_reading_is_given_up() {
    let mut lab = Lab::established("192.0.2.1");
    lab.stop_reading();
    for _ in 0..7 {
        lab.pass(Duration::from_mins(1));
        lab.event(Event::KeepAliveMsg(OURS));
        assert_eq!(lab.session.state(), State::Established);
    }
    lab.told();
    lab.pass(Duration::from_mins(1));
    assert!(lab.told().contains(&"NOTIFICATION 8/0 on ours".to_owned()));
    assert_eq!(lab.session.down(), &Down::SendHoldTimer);
}

#[test]
fn a_slow_reader_is_not_given_up() {
    let mut lab = Lab::established("192.0.2.1");
    lab.stop_reading();
    for _ in 0..20 {
        lab.pass(Duration::from_mins(1));
        lab.event(Event::KeepAliveMsg(OURS));
        lab.event(Event::Sent(OURS, 10));
    }
    assert_eq!(lab.session.state(), State::Established);
}

/// RFC 6608: the subcode tells the state.
#[test]
fn messages_that_the_state_does_not_allow_end_the_connection() {
    for event in [
        Event::KeepAliveMsg(OURS),
        Event::UpdateMsg(OURS),
        Event::RouteRefreshMsg(OURS),
    ] {
        let mut lab = Lab::dialled("192.0.2.1");
        lab.told();
        lab.event(event);
        assert_eq!(lab.told()[0], "NOTIFICATION 5/1 on ours");
        assert_eq!(lab.session.down(), &Down::Unexpected);
    }
    for event in [
        Event::BgpOpen(OURS, open("192.0.2.2")),
        Event::UpdateMsg(OURS),
        Event::RouteRefreshMsg(OURS),
    ] {
        let mut lab = Lab::dialled("192.0.2.1");
        lab.event(Event::BgpOpen(OURS, open("192.0.2.2")));
        lab.told();
        lab.event(event);
        assert_eq!(lab.told()[0], "NOTIFICATION 5/2 on ours");
    }
    let mut lab = Lab::established("192.0.2.1");
    lab.told();
    lab.event(Event::BgpOpen(OURS, open("192.0.2.2")));
    assert_eq!(lab.told()[0], "NOTIFICATION 5/3 on ours");
}

#[test]
fn opens_that_do_not_fit_are_refused_with_the_right_code() {
    type Change = fn(&mut Open);
    let cases: [(Change, &str); 3] = [
        (
            |open| {
                open.capabilities
                    .retain(|c| !matches!(c, Capability::FourOctetAs(_)));
            },
            "",
        ),
        (
            |open| {
                open.capabilities = vec![Capability::FourOctetAs(Asn(64513))];
            },
            "2/2",
        ),
        (|open| open.bgp_id = id("192.0.2.1"), "2/3"),
    ];
    for (change, code) in cases {
        let mut lab = Lab::dialled("192.0.2.1");
        lab.told();
        let mut open = open("192.0.2.2");
        change(&mut open);
        lab.event(Event::BgpOpen(OURS, open));
        let told = lab.told();
        if code.is_empty() {
            assert_eq!(told, ["KEEPALIVE on ours"]);
        } else {
            assert_eq!(told[0], format!("NOTIFICATION {code} on ours"));
        }
    }
}

#[test]
fn a_peer_without_a_common_family_is_told_which_we_want() {
    let mut settings = settings();
    settings.families = [Family::Ipv6].into();
    let mut lab = Lab::with(settings, "192.0.2.1");
    lab.event(Event::ManualStart);
    lab.event(Event::TcpCrAcked(OURS, local()));
    lab.told();
    let mut open = open("192.0.2.2");
    open.capabilities
        .retain(|c| !matches!(c, Capability::Multiprotocol { .. }));
    lab.event(Event::BgpOpen(OURS, open));
    assert_eq!(lab.told()[0], "NOTIFICATION 2/7 on ours");
    assert_eq!(
        lab.session.down().to_string(),
        "the peer does not speak IPv6"
    );
}

/// RFC 5492 §3, RFC 4760 §8: without capabilities there are IPv4 routes and AS numbers of two octets.
#[test]
fn a_peer_without_capabilities_gets_ipv4_routes() {
    let mut lab = Lab::dialled("192.0.2.1");
    let mut open = open("192.0.2.2");
    open.capabilities.clear();
    lab.event(Event::BgpOpen(OURS, open));
    lab.event(Event::KeepAliveMsg(OURS));
    let (_, agreed, _) = lab.session.established().unwrap();
    assert_eq!(agreed.families, [Family::Ipv4].into());
    assert_eq!(agreed.as_width, AsWidth::Two);
    assert_eq!((agreed.refresh, &agreed.restart), (Switch::Off, &None));
}

/// RFC 5492 §3: who does not know them is asked again without, and offered them anew by the session after.
#[test]
fn a_peer_that_does_not_know_capabilities_is_asked_without_them() {
    let mut lab = Lab::dialled("192.0.2.1");
    assert!(!lab.offered().is_empty());
    let refusal = |id| Event::NotifMsg(id, Notification::new(2, 4, &[]));
    lab.event(refusal(OURS));
    let second = lab.dialled;
    lab.event(Event::TcpCrAcked(second, local()));
    assert!(lab.offered().is_empty());
    // Even if it says now what it can: we have not offered it.
    lab.event(Event::BgpOpen(second, open("192.0.2.2")));
    lab.event(Event::KeepAliveMsg(second));
    let (_, agreed, _) = lab.session.established().unwrap();
    assert_eq!(agreed.families, [Family::Ipv4].into());
    assert_eq!(
        (agreed.as_width, agreed.refresh),
        (AsWidth::Two, Switch::Off)
    );
    lab.event(Event::TcpConnectionFails(second, Failure::Closed));
    lab.pass(Duration::from_secs(1));
    let third = lab.dialled;
    lab.event(Event::TcpCrAcked(third, local()));
    assert!(!lab.offered().is_empty());
    // Where IPv4 is not spoken there is nothing to say without them.
    let mut settings = settings();
    settings.families = [Family::Ipv6].into();
    let mut lab = Lab::with(settings, "192.0.2.1");
    lab.event(Event::ManualStart);
    lab.event(Event::TcpCrAcked(OURS, local()));
    lab.event(refusal(OURS));
    let second = lab.dialled;
    lab.event(Event::TcpCrAcked(second, local()));
    assert!(!lab.offered().is_empty());
}

/// RFC 4271 §8.1.1, `DampPeerOscillations`: without punishing an orderly close.
#[test]
fn a_session_that_held_is_back_at_once_and_one_that_flaps_ever_more_slowly() {
    let mut lab = Lab::new("192.0.2.1");
    lab.event(Event::ManualStart);
    let mut back = |lasts: Duration| {
        let id = lab.dialled;
        lab.event(Event::TcpCrAcked(id, local()));
        lab.event(Event::BgpOpen(id, open("192.0.2.2")));
        lab.event(Event::KeepAliveMsg(id));
        lab.pass(lasts);
        lab.event(Event::NotifMsg(
            id,
            Notification::cease(Cease::AdministrativeShutdown, ""),
        ));
        let ended = lab.now;
        while lab.session.state() != State::Connect {
            lab.pass(Duration::from_millis(10));
        }
        lab.now - ended
    };
    let flapping: Vec<_> = (0..6).map(|_| back(Duration::from_millis(20))).collect();
    assert_eq!(flapping[0], Duration::ZERO);
    assert!(flapping.is_sorted_by(|a, b| a < b), "{flapping:?}");
    assert!(flapping[5] > Duration::from_secs(3), "{flapping:?}");
    assert_eq!(back(Duration::from_secs(10)), Duration::ZERO);
    assert!(
        back(Duration::from_secs(9)) > Duration::ZERO,
        "the second one in a row"
    );
}

#[test]
fn failed_dials_are_repeated_ever_more_slowly_up_to_5_s() {
    let mut lab = Lab::new("192.0.2.1");
    lab.event(Event::ManualStart);
    let mut waits = Vec::new();
    for _ in 0..8 {
        lab.event(Event::TcpConnectionFails(lab.dialled, Failure::Refused));
        let failed = lab.now;
        while lab.session.state() != State::Connect {
            lab.pass(Duration::from_millis(10));
        }
        waits.push(lab.now - failed);
    }
    assert_eq!(waits[0], Duration::ZERO);
    assert!(waits.is_sorted_by(|a, b| a.mul_f32(0.7) < *b), "{waits:?}");
    assert!(waits[7] > Duration::from_millis(3700) && waits[7] <= Duration::from_secs(5));
}

#[test]
fn a_dial_without_answer_is_given_up_after_5_s() {
    let mut lab = Lab::new("192.0.2.1");
    lab.event(Event::ManualStart);
    lab.told();
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.told(), ["close ours", "dial"]);
    assert_eq!(lab.session.down(), &Down::Dial(Failure::TimedOut));
}

#[test]
fn an_attempt_that_was_given_up_and_connects_after_all_is_closed() {
    let mut lab = Lab::new("192.0.2.1");
    lab.event(Event::ManualStart);
    lab.pass(Duration::from_secs(5));
    lab.told();
    lab.event(Event::TcpCrAcked(OURS, local()));
    assert_eq!(lab.told(), ["close ours"]);
}

#[test]
fn stopping_says_why() {
    let mut lab = Lab::established("192.0.2.1");
    lab.told();
    lab.event(Event::ManualStop(
        Cease::AdministrativeShutdown,
        Down::Stopped,
    ));
    assert_eq!(
        lab.told(),
        ["NOTIFICATION 6/2 on ours", "close ours", "down"]
    );
    assert_eq!(lab.session.state(), State::Idle);
    assert_eq!(lab.session.poll_timeout(), None);
    lab.event(Event::TcpConnectionConfirmed(THEIRS, local()));
    assert_eq!(lab.told(), ["close theirs"]);
}

fn id(text: &str) -> BgpId {
    BgpId(text.parse().unwrap())
}

fn local() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

/// An OPEN of the peer.
fn open(bgp_id: &str) -> Open {
    Open::new(
        Asn(64512),
        HoldTime::default(),
        id(bgp_id),
        &Family::ALL.into(),
        RestartState::Running,
    )
}

fn settings() -> PeerSettings {
    PeerSettings::new("192.0.2.2".parse().unwrap(), Asn(64512))
}

fn name(id: ConnectionId) -> &'static str {
    if is_accepted(id) { "theirs" } else { "ours" }
}

/// The timers of RFC 4271 §8.1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    ConnectRetry,
    Hold,
    Keepalive,
    DelayOpen,
}

/// A session and its clock.
struct Lab {
    session: Session,
    now: Instant,
    dials: u64,
    dialled: ConnectionId,
    told: Vec<String>,
    /// The last message.
    sent: Arc<[u8]>,
    /// Whether the peer takes in what is sent.
    reads: bool,
}

impl Lab {
    fn new(bgp_id: &str) -> Self {
        Self::with(settings(), bgp_id)
    }

    fn with(settings: PeerSettings, bgp_id: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "some moment to count from")]
        let now = Instant::now();
        Self {
            session: Session::new(settings, Asn(64512), id(bgp_id), now, 1, now),
            now,
            dials: 0,
            dialled: OURS,
            told: Vec::new(),
            sent: Arc::default(),
            reads: true,
        }
    }

    fn dialled(bgp_id: &str) -> Self {
        let mut lab = Self::new(bgp_id);
        lab.event(Event::ManualStart);
        lab.event(Event::TcpCrAcked(OURS, local()));
        lab
    }

    /// Both sides have dialled, no OPEN has come.
    fn colliding(bgp_id: &str) -> Self {
        let mut lab = Self::new(bgp_id);
        lab.collide();
        lab
    }

    fn collide(&mut self) {
        self.event(Event::ManualStart);
        self.event(Event::TcpCrAcked(OURS, local()));
        self.event(Event::TcpConnectionConfirmed(THEIRS, local()));
        self.told();
    }

    fn established(bgp_id: &str) -> Self {
        let mut lab = Self::dialled(bgp_id);
        lab.event(Event::BgpOpen(OURS, open("192.0.2.2")));
        lab.event(Event::KeepAliveMsg(OURS));
        lab
    }

    fn event(&mut self, event: Event) {
        self.session.handle_event(event, self.now);
        self.act();
    }

    /// The capabilities in our last OPEN.
    fn offered(&self) -> Vec<Capability> {
        let mut octets = &*self.sent;
        let frame = take_frame(&mut octets).unwrap().unwrap();
        assert_eq!(frame.kind, MessageType::Open);
        Open::decode(frame.body).unwrap().capabilities
    }

    /// Time passes, timers run out.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.act();
        }
        self.now = end;
    }

    /// The peer stops reading after this much of an UPDATE.
    fn stop_reading(&mut self) {
        self.reads = false;
        self.session.send_update(vec![0; 1000].into(), self.now);
        self.act();
    }

    /// Begins the wait for the next KEEPALIVE anew.
    fn restart_keepalive(&mut self) {
        let now = self.now;
        let Session {
            connections,
            jitter,
            ..
        } = &mut self.session;
        connections[0].restart_keepalive(jitter, now);
    }

    /// A timer runs out, in states in which it runs.
    fn expire(&mut self, timer: Timer) {
        let now = self.now;
        let due = |at: &mut Option<Instant>| *at = at.map(|_| now);
        for connection in &mut self.session.connections {
            match timer {
                Timer::ConnectRetry => {}
                Timer::Hold => due(&mut connection.hold),
                Timer::Keepalive => due(&mut connection.keepalive),
                Timer::DelayOpen => due(&mut connection.open),
            }
        }
        match &mut self.session.dialler {
            Dialler::Connect { until, .. } if timer == Timer::ConnectRetry => *until = now,
            Dialler::Active { retry } if timer == Timer::ConnectRetry => due(retry),
            Dialler::Idle | Dialler::Connect { .. } | Dialler::Active { .. } => {}
        }
        self.act();
    }

    /// Lets due timers run out and does what the session wants.
    fn act(&mut self) {
        loop {
            if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
                self.session.handle_timeout(self.now);
            }
            let Some(action) = self.session.poll_action() else {
                return;
            };
            let told = match action {
                Action::Dial => {
                    self.dialled = ConnectionId::Dialled(self.dials);
                    self.dials += 1;
                    self.session.dialling(self.dialled, self.now);
                    "dial".to_owned()
                }
                Action::Send(id, octets) => {
                    if self.reads {
                        let event = Event::Sent(id, octets.len());
                        self.session.handle_event(event, self.now);
                    }
                    let told = format!("{} on {}", message(&octets), name(id));
                    self.sent = octets;
                    told
                }
                Action::Close(id) => format!("close {}", name(id)),
                Action::Up(id) => format!("up on {}", name(id)),
                Action::Down(Ending::Orderly | Ending::Complaint) => "down".to_owned(),
                Action::Down(Ending::Lost) => "lost".to_owned(),
            };
            self.told.push(told);
        }
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

fn message(mut octets: &[u8]) -> String {
    let Ok(Some(frame)) = take_frame(&mut octets) else {
        return "octets".to_owned();
    };
    match frame.kind {
        MessageType::Open => "OPEN".to_owned(),
        MessageType::Keepalive => "KEEPALIVE".to_owned(),
        MessageType::Notification => format!("NOTIFICATION {}/{}", frame.body[0], frame.body[1]),
        MessageType::Update => "UPDATE".to_owned(),
        MessageType::RouteRefresh => "ROUTE-REFRESH".to_owned(),
    }
}
