//! One session (RFC 5880 §6.8), without socket or clock.

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use super::packet::{Diagnostic, Packet, State};
use crate::jitter::Jitter;

/// While a session is not up nobody sends faster than this (§6.8.3).
const SLOW: Duration = Duration::from_secs(1);

/// What a session is told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often to send, at most (bfd.DesiredMinTxInterval).
    pub min_tx: Duration,
    /// How often packets may come, at most (bfd.RequiredMinRxInterval).
    pub min_rx: Duration,
    /// After how many of our packets that did not come the other side gives us up (bfd.DetectMult).
    pub multiplier: NonZeroU8,
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet of the other side came.
    Received(Packet),
    /// These settings hold now.
    Settings(Settings),
    /// It is to be down on purpose, and tells the other side.
    Disable,
    /// It may come up again.
    Enable,
}

/// What a session wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Packet),
    /// The state is another one now.
    StateChanged {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why, if it went down.
        diagnostic: Diagnostic,
    },
}

/// What the other side has said.
#[derive(Clone, Copy, Debug, Default)]
struct Remote {
    /// Its name for the session; 0 as long as it is silent.
    discriminator: u32,
    state: State,
    min_tx: Duration,
    /// `None` until it has spoken: then anything goes (§6.8.1).
    min_rx: Option<Duration>,
    multiplier: u8,
    control_plane_independent: bool,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    /// The intervals in force (§6.8.3). To send slower, or to expect packets faster, takes the other side's answer
    /// to a poll first.
    tx: Duration,
    rx: Duration,
    /// A poll is under way.
    polling: bool,
    send_at: Instant,
    detect_at: Option<Instant>,
    /// When a packet of the other side last found, or made, the session Up.
    seen_up: Option<Instant>,
    jitter: Jitter,
    actions: VecDeque<Action>,
}

impl Session {
    /// A session that begins to speak; `discriminator` is no other session's here, `seed` makes its timing
    /// differ from others'.
    pub fn new(settings: Settings, discriminator: NonZeroU32, seed: u64, now: Instant) -> Self {
        Self {
            settings,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::default(),
            tx: settings.min_tx.max(SLOW),
            rx: settings.min_rx,
            polling: false,
            send_at: now,
            detect_at: None,
            seen_up: None,
            jitter: Jitter::new(seed),
            actions: VecDeque::new(),
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it left Up last.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// The state that the other side told last.
    pub fn remote_state(&self) -> State {
        self.remote.state
    }

    /// Our name for it.
    pub fn discriminator(&self) -> NonZeroU32 {
        self.discriminator
    }

    /// Whether the other side's BFD outlives its control plane: then its going down says more than that BGP is
    /// gone (RFC 5882 §4.3.2).
    pub fn remote_is_control_plane_independent(&self) -> bool {
        self.remote.control_plane_independent
    }

    /// When the other side last said something that left the session Up; none if it never was.
    pub fn seen_up(&self) -> Option<Instant> {
        self.seen_up
    }

    /// After how long silence the other side counts as gone (§6.8.4); none as long as it has not spoken.
    pub fn detection_time(&self) -> Option<Duration> {
        let interval = self.rx.max(self.remote.min_tx);
        (self.remote.multiplier > 0).then(|| interval * u32::from(self.remote.multiplier))
    }

    /// How often we send (§6.8.7), before jitter; `None` if the other side wants nothing.
    pub fn interval(&self) -> Option<Duration> {
        match self.remote.min_rx {
            Some(Duration::ZERO) => None,
            Some(wanted) => Some(self.tx.max(wanted)),
            None => Some(self.tx),
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Session::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let send = self.interval().map(|_| self.send_at);
        send.into_iter().chain(self.detect_at).min()
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.detect_at.is_some_and(|at| at <= now) {
            self.silence(now);
        }
        if self.interval().is_some() && self.send_at <= now {
            self.send(now);
        }
    }

    /// Acts on one event.
    pub fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Received(packet) => self.received(packet, now),
            Event::Settings(settings) => self.set_settings(settings, now),
            Event::Disable => {
                if self.state != State::AdminDown {
                    self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now);
                }
            }
            Event::Enable => {
                if self.state == State::AdminDown {
                    self.enter(State::Down, Diagnostic::NONE, now);
                }
            }
        }
    }

    /// §6.8.4.
    fn silence(&mut self, now: Instant) {
        self.detect_at = None;
        // §6.8.1: who is not heard any more has no name, and may come back as somebody else.
        self.remote.discriminator = 0;
        match self.state {
            State::Init | State::Up => self.enter(State::Down, Diagnostic::TIME_EXPIRED, now),
            State::AdminDown | State::Down => {}
        }
    }

    /// §6.8.6, from where the packet is known to be ours.
    fn received(&mut self, packet: Packet, now: Instant) {
        let Packet {
            diagnostic: _,
            state: remote,
            poll,
            is_final,
            control_plane_independent,
            demand: _,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx,
            required_min_rx,
            required_min_echo_rx: _,
        } = packet;
        if your_discriminator != 0 && your_discriminator != self.discriminator.get() {
            return;
        }
        let interval = self.interval();
        self.remote = Remote {
            discriminator: my_discriminator.get(),
            state: remote,
            min_tx: micros(desired_min_tx),
            min_rx: Some(micros(required_min_rx)),
            multiplier,
            control_plane_independent,
        };
        if is_final && self.polling {
            self.polling = false;
            self.tx = self.wanted_tx();
            self.rx = self.settings.min_rx;
        }
        self.detect_at = self.detection_time().map(|time| now + time);
        if self.interval() != interval {
            self.schedule(now);
        }
        match (self.state, remote) {
            (State::AdminDown, _) => return,
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.enter(State::Down, Diagnostic::NEIGHBOUR_DOWN, now);
            }
            (State::Down, State::Down) => self.enter(State::Init, self.diagnostic, now),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.enter(State::Up, Diagnostic::NONE, now);
            }
            (State::Down, State::AdminDown | State::Up)
            | (State::Init, State::Down)
            | (State::Up, State::Init | State::Up) => {}
        }
        if self.state == State::Up {
            self.seen_up = Some(now);
        }
        if poll {
            // §6.5: at once, whatever the interval, and never with a poll of our own.
            let answer = Packet {
                poll: false,
                is_final: true,
                ..self.packet()
            };
            self.actions.push_back(Action::Send(answer));
        }
    }

    fn set_settings(&mut self, settings: Settings, now: Instant) {
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        self.renegotiate(now);
    }

    /// Tells the other side what has changed, and has what may hold at once hold at once (§6.8.3).
    fn renegotiate(&mut self, now: Instant) {
        let wanted = self.wanted_tx();
        if self.state == State::Up {
            self.tx = self.tx.min(wanted);
            self.rx = self.rx.max(self.settings.min_rx);
            self.polling = true;
        } else {
            self.tx = wanted;
            self.rx = self.settings.min_rx;
            self.polling = false;
        }
        self.send(now);
    }

    fn wanted_tx(&self) -> Duration {
        match self.state {
            State::Up => self.settings.min_tx,
            State::AdminDown | State::Down | State::Init => self.settings.min_tx.max(SLOW),
        }
    }

    fn enter(&mut self, to: State, diagnostic: Diagnostic, now: Instant) {
        let from = std::mem::replace(&mut self.state, to);
        self.diagnostic = diagnostic;
        self.actions.push_back(Action::StateChanged {
            from,
            to,
            diagnostic,
        });
        // §6.8.7: what changes is told at once; and the intervals are others in Up.
        self.renegotiate(now);
    }

    fn send(&mut self, now: Instant) {
        if self.interval().is_some() {
            self.actions.push_back(Action::Send(self.packet()));
        }
        self.schedule(now);
    }

    /// §6.8.7: up to a quarter earlier, so that nobody falls into step; with multiplier 1 at least a tenth.
    fn schedule(&mut self, now: Instant) {
        let interval = self.interval().unwrap_or(SLOW);
        let longest = if self.settings.multiplier.get() == 1 {
            interval * 9 / 10
        } else {
            interval
        };
        self.send_at = now + self.jitter.shorten(interval).min(longest);
    }

    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling,
            is_final: false,
            // Our BFD ends with this process, and BGP with it.
            control_plane_independent: false,
            demand: false,
            multiplier: self.settings.multiplier.get(),
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: in_micros(self.wanted_tx()),
            required_min_rx: in_micros(self.settings.min_rx),
            required_min_echo_rx: 0,
        }
    }
}

fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

fn in_micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
