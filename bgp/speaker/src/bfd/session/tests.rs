use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a clock that stands still needs a beginning"
)]
fn epoch() -> Instant {
    Instant::now()
}

fn settings(interval: u64, multiplier: u8) -> Settings {
    Settings {
        min_tx: millis(interval),
        min_rx: millis(interval),
        multiplier: NonZeroU8::new(multiplier).unwrap(),
    }
}

/// Two sessions on one clock, and a wire that may be cut in either direction.
struct Pair {
    now: Instant,
    ends: [Session; 2],
    cut: [bool; 2],
    /// When each side sent.
    sent: [Vec<Instant>; 2],
    changes: [Vec<(State, Diagnostic)>; 2],
}

impl Pair {
    fn new(one: Settings, other: Settings) -> Self {
        let now = epoch();
        let end = |settings, number: u32| {
            let discriminator = NonZeroU32::new(number).unwrap();
            Session::new(settings, discriminator, number.into(), now)
        };
        Self {
            now,
            ends: [end(one, 7), end(other, 9)],
            cut: [false; 2],
            sent: [const { Vec::new() }; 2],
            changes: [const { Vec::new() }; 2],
        }
    }

    fn exchange(&mut self) {
        for _ in 0..100 {
            let mut idle = true;
            for side in [0, 1] {
                while let Some(action) = self.ends[side].poll_action() {
                    idle = false;
                    match action {
                        Action::Send(packet) => {
                            self.sent[side].push(self.now);
                            let packet = Packet::decode(&packet.encode()).unwrap();
                            if !self.cut[side] {
                                self.ends[1 - side].handle_event(Event::Received(packet), self.now);
                            }
                        }
                        Action::StateChanged { to, diagnostic, .. } => {
                            self.changes[side].push((to, diagnostic));
                        }
                    }
                }
            }
            if idle {
                return;
            }
        }
        panic!("the two never fall silent");
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.exchange();
            let due = self.ends.iter().filter_map(Session::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = due.max(self.now);
            for side in &mut self.ends {
                side.handle_timeout(self.now);
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }
}

#[test]
fn two_sessions_come_up_and_agree_on_the_slower_interval() {
    let mut pair = Pair::new(settings(50, 3), settings(80, 5));
    pair.run(Duration::from_secs(4));
    assert_eq!(pair.states(), [State::Up, State::Up]);
    for end in &pair.ends {
        assert_eq!(end.interval(), Some(millis(80)));
        // RFC 5882 §4.3.2: ours ends with the process that speaks BGP, and says so.
        assert!(!end.remote_is_control_plane_independent());
    }
    assert_eq!(pair.ends[0].detection_time(), Some(millis(400)));
    assert_eq!(pair.ends[1].detection_time(), Some(millis(240)));
    let ways = [
        (State::Init, Diagnostic::NONE),
        (State::Up, Diagnostic::NONE),
    ];
    assert!(ways.ends_with(&pair.changes[0]) && ways.ends_with(&pair.changes[1]));
}

#[test]
fn nobody_sends_faster_than_once_a_second_before_the_session_is_up() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.cut = [true; 2];
    pair.run(Duration::from_secs(10));
    for sent in &pair.sent {
        assert!((10..=14).contains(&sent.len()), "{}", sent.len());
        assert!(sent.windows(2).all(|two| two[1] - two[0] >= millis(750)));
    }
}

#[test]
fn intervals_are_shortened_by_up_to_a_quarter_and_never_lengthened() {
    for (multiplier, longest) in [(3, 50), (1, 45)] {
        let mut pair = Pair::new(settings(50, multiplier), settings(50, multiplier));
        pair.run(Duration::from_secs(4));
        pair.sent = [const { Vec::new() }; 2];
        pair.run(Duration::from_secs(10));
        for sent in &pair.sent {
            let gaps: Vec<_> = sent.windows(2).map(|two| two[1] - two[0]).collect();
            assert!(gaps.iter().all(|gap| *gap <= millis(longest)), "{gaps:?}");
            assert!(
                gaps.iter().all(|gap| *gap >= Duration::from_micros(37_500)),
                "{gaps:?}"
            );
            assert!(gaps.iter().collect::<std::collections::BTreeSet<_>>().len() > 5);
        }
    }
}

#[test]
fn silence_for_the_detection_time_takes_the_session_down() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::Up, State::Up]);
    pair.changes = [const { Vec::new() }; 2];
    // Both directions at once: neither hears why.
    pair.cut = [true; 2];
    let cut = pair.now;
    pair.run(millis(100));
    assert_eq!(pair.states(), [State::Up, State::Up]);
    pair.run(millis(51));
    assert_eq!(pair.states(), [State::Down, State::Down]);
    let expected = [(State::Down, Diagnostic::TIME_EXPIRED)];
    assert_eq!(pair.changes, [expected, expected]);
    // When the other was there last is known.
    for end in &pair.ends {
        let seen = end.seen_up().unwrap();
        assert!(cut <= seen + millis(50) && seen <= cut);
    }
    pair.cut = [false; 2];
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.states(), [State::Up, State::Up]);
}

#[test]
fn a_wire_cut_one_way_takes_both_sides_down() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    pair.changes = [const { Vec::new() }; 2];
    pair.cut = [true, false];
    pair.run(millis(200));
    assert_eq!(pair.states()[0], State::Down);
    assert_eq!(
        pair.changes[0].first(),
        Some(&(State::Down, Diagnostic::NEIGHBOUR_DOWN))
    );
    assert_eq!(
        pair.changes[1].first(),
        Some(&(State::Down, Diagnostic::TIME_EXPIRED))
    );
}

#[test]
fn a_lost_packet_or_two_do_no_harm() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    pair.changes = [const { Vec::new() }; 2];
    for _ in 0..50 {
        pair.cut = [true; 2];
        pair.run(millis(60));
        pair.cut = [false; 2];
        pair.run(millis(60));
    }
    assert_eq!(pair.changes, [[], []]);
}

#[test]
fn a_session_that_is_held_down_says_so_and_comes_back() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    pair.changes = [const { Vec::new() }; 2];
    let now = pair.now;
    pair.ends[0].handle_event(Event::Disable, now);
    pair.run(millis(1));
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    assert_eq!(pair.changes[1], [(State::Down, Diagnostic::NEIGHBOUR_DOWN)]);
    assert_eq!(pair.ends[1].remote_state(), State::AdminDown);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    let now = pair.now;
    pair.ends[0].handle_event(Event::Enable, now);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.states(), [State::Up, State::Up]);
}

#[test]
fn intervals_that_change_are_polled_for_and_break_nothing() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    pair.changes = [const { Vec::new() }; 2];
    for interval in [300, 20, 1000, 50] {
        let now = pair.now;
        pair.ends[0].handle_event(Event::Settings(settings(interval, 3)), now);
        pair.run(Duration::from_secs(5));
        let agreed = millis(interval.max(50));
        assert_eq!(pair.ends[0].interval(), Some(agreed));
        assert_eq!(pair.ends[1].interval(), Some(agreed));
        assert_eq!(pair.ends[1].detection_time(), Some(agreed * 3));
    }
    assert_eq!(pair.changes, [[], []]);
}

#[test]
fn a_poll_is_answered_at_once() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    let poll = Packet {
        poll: true,
        ..pair.ends[1].packet()
    };
    let now = pair.now;
    pair.ends[0].handle_event(Event::Received(poll), now);
    let Some(Action::Send(answer)) = pair.ends[0].poll_action() else {
        panic!("no answer");
    };
    assert!(answer.is_final && !answer.poll);
}

#[test]
fn a_side_that_can_receive_nothing_is_sent_nothing() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    let deaf = Packet {
        required_min_rx: 0,
        ..pair.ends[1].packet()
    };
    let now = pair.now;
    pair.ends[0].handle_event(Event::Received(deaf), now);
    pair.ends[0].handle_timeout(now + millis(100));
    assert_eq!(pair.ends[0].poll_action(), None);
}

#[test]
fn packets_for_another_session_are_ignored() {
    let mut pair = Pair::new(settings(50, 3), settings(50, 3));
    pair.run(Duration::from_secs(5));
    let other = Packet {
        your_discriminator: 12345,
        state: State::Down,
        ..pair.ends[1].packet()
    };
    let now = pair.now;
    pair.ends[0].handle_event(Event::Received(other), now);
    assert_eq!(pair.states()[0], State::Up);
}
