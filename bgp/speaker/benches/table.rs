//! What the speaker costs without sockets: a full table in and out, one route more, and a reflector's clients.
//!
//! `cargo bench -p margay-bgp` prints a line per size. Routes are /24s of IPv4, 8 to an attribute set, as in the system
//! benchmark. Seconds of processor time; memory is what the process grew by.
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![expect(clippy::print_stdout, reason = "this is what it is for")]
#![expect(
    clippy::cast_precision_loss,
    reason = "nobody reads more than three digits"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use margay_bgp::filter::{Condition, Decision, PrefixMatch, Rule};
use margay_bgp::settings::Reflection;
use margay_bgp::wire::update::put_announcements;
use margay_bgp::wire::{self, AsPath, AsWidth, NextHop, PathAttrs, Segment, SegmentKind, Shape};
use margay_bgp::{
    Action, Asn, BgpId, ConnectionId, Event, Export, Family, Filter, HoldTime, PeerSettings,
    Settings, Speaker, State, Switch,
};

const US: Asn = Asn(65000);

/// A speaker whose peers are octets; what it sends is taken at once.
struct Lab {
    speaker: Speaker,
    start: Instant,
    /// Octets sent to each connection.
    sent: Vec<u64>,
}

fn address(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc000_0202 + u32::try_from(peer).unwrap())
}

fn id(peer: usize) -> ConnectionId {
    ConnectionId::Accepted(peer as u64)
}

impl Lab {
    fn new(peers: Vec<PeerSettings>) -> Self {
        let mut settings = Settings::new(US, BgpId([192, 0, 2, 1].into()));
        settings.tell_routes = Switch::Off;
        let count = peers.len();
        for (number, mut peer) in peers.into_iter().enumerate() {
            peer.dial = margay_bgp::Dial::Passive;
            peer.address = address(number).into();
            settings.peers.insert(format!("p{number:03}").into(), peer);
        }
        let start = clock();
        Self {
            speaker: Speaker::new(settings, 1, start),
            start,
            sent: vec![0; count],
        }
    }

    fn event(&mut self, event: Event<'_>) {
        self.speaker.handle_event(event, self.start);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.speaker.poll_action() {
            if let Action::Send { connection, octets } = action {
                if let ConnectionId::Accepted(peer) = connection {
                    self.sent[usize::try_from(peer).unwrap()] += octets.len() as u64;
                }
                let octets = octets.len();
                self.speaker
                    .handle_event(Event::Sent { connection, octets }, self.start);
            }
        }
    }

    fn dial(&mut self, peer: usize, asn: Asn) {
        let connection = id(peer);
        self.event(Event::Accepted {
            connection,
            local: IpAddr::from([192, 0, 2, 1]),
            remote: address(peer).into(),
        });
        let families = [Family::Ipv4].into();
        let (hold, bgp_id) = (HoldTime::default(), BgpId(address(peer)));
        let open = wire::Open::new(asn, hold, bgp_id, &families, wire::RestartState::Running);
        self.receive(peer, &open.encode());
        self.receive(peer, &wire::encode_keepalive());
        let status = self.speaker.status();
        assert_eq!(
            status[format!("p{peer:03}").as_str()].state,
            State::Established
        );
    }

    fn receive(&mut self, peer: usize, octets: &[u8]) {
        for octets in octets.chunks(64 * 1024) {
            let connection = id(peer);
            self.event(Event::Received { connection, octets });
        }
    }

    fn close(&mut self, peer: usize) {
        let octets =
            wire::Notification::cease(wire::notification::Cease::AdministrativeShutdown, "");
        self.receive(peer, &octets.encode());
    }
}

fn peer(asn: Asn) -> PeerSettings {
    let mut peer = PeerSettings::new(IpAddr::from([192, 0, 2, 2]), asn);
    peer.families = [Family::Ipv4].into();
    peer.export = Export::All;
    peer
}

fn attrs(set: u32) -> PathAttrs {
    let asns = [65001, 3356, 1000 + set % 50_000, 100_000 + set].map(Asn);
    PathAttrs {
        as_path: AsPath(vec![Segment {
            kind: SegmentKind::Sequence,
            asns: asns.to_vec(),
        }]),
        med: Some(set),
        communities: vec![0xfde8_0000 + set % 1000, 7],
        ..PathAttrs::default()
    }
}

/// UPDATEs of `count` routes, 8 to each.
fn table(count: u32) -> Vec<u8> {
    let mut octets = Vec::new();
    let hop = NextHop::V4(address(0));
    for set in 0..count / 8 {
        let paths: Vec<(u32, IpNet)> = (0..8).map(|n| (0, net(set * 8 + n))).collect();
        let shape = Shape::plain(AsWidth::Four);
        put_announcements(&mut octets, &attrs(set), hop, Family::Ipv4, &paths, shape);
    }
    octets
}

fn net(n: u32) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0100_0000 + (n << 8)), 24).into()
}

/// Seconds of processor time, so that what else the machine does counts less.
fn timed<T>(of: impl FnOnce() -> T) -> (f64, T) {
    let before = processor();
    let result = of();
    ((processor() - before) as f64 / 1e9, result)
}

/// Nanoseconds that this thread has run.
fn processor() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

/// Resident octets of this process.
fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn bulk(count: u32) {
    let octets = table(count);
    let (injector, probe, sink) = (Asn(65001), Asn(65002), Asn(65003));
    let mut filtered = peer(probe);
    let few = PrefixMatch {
        within: "198.18.0.0/16".parse().unwrap(),
        ge: 24,
        le: 24,
    };
    filtered.export_filter = Some(Filter {
        rules: vec![Rule {
            when: vec![Condition::Prefix(vec![few])],
            changes: Vec::new(),
            then: Some(Decision::Accept),
        }],
        default: Decision::Reject,
    });
    let peers = || vec![peer(injector), filtered.clone(), peer(sink)];
    let before = memory();
    let mut lab = Lab::new(peers());
    lab.dial(1, probe);
    lab.dial(0, injector);
    let (ingest, ()) = timed(|| lab.receive(0, &octets));
    let loaded = (memory() - before) / u64::from(count);
    let (dump, ()) = timed(|| lab.dial(2, sink));
    let dumped = lab.sent[2];
    let with_sink = (memory() - before) / u64::from(count);
    let (again, ()) = timed(|| lab.receive(0, &octets));
    let (withdraw, ()) = timed(|| lab.close(0));
    let withdrawn = lab.sent[2] - dumped;
    drop(lab);
    let mut lab = Lab::new(peers());
    lab.dial(1, probe);
    lab.dial(2, sink);
    lab.dial(0, injector);
    let (through, ()) = timed(|| lab.receive(0, &octets));
    // One route over the table, announced and withdrawn in turn.
    let mut times: Vec<Duration> = (0..2000_u32)
        .map(|n| {
            let mut one = Vec::new();
            let (hop, shape) = (NextHop::V4(address(0)), Shape::plain(AsWidth::Four));
            let paths = [(0, "198.18.7.0/24".parse().unwrap())];
            put_announcements(&mut one, &attrs(n), hop, Family::Ipv4, &paths, shape);
            let before = clock();
            lab.receive(0, &one);
            clock().duration_since(before)
        })
        .collect();
    times.sort();
    println!(
        "{count:>8} routes: ingest {ingest:.3}, dump {dump:.3}, through {through:.3}, again {again:.3}, \
         withdraw {withdraw:.3} s; {loaded} octets a route, {with_sink} with a sink; one route {:?} / {:?}; \
         {:.1} MB dumped, {:.1} MB withdrawn",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        dumped as f64 / 1e6,
        withdrawn as f64 / 1e6,
    );
}

/// 100 clients of a reflector with 64 prefixes each.
fn reflector(clients: usize) {
    let mut client = peer(US);
    client.reflection = Reflection::Client;
    let mut lab = Lab::new(vec![client; clients]);
    let routes: Vec<Vec<u8>> = (0..clients)
        .map(|n| {
            let base = u32::try_from(n).unwrap() * 64;
            let paths: Vec<_> = (0..64).map(|k| (0, net(base + k))).collect();
            let attrs = PathAttrs {
                local_pref: Some(100),
                ..PathAttrs::default()
            };
            let (mut octets, shape) = (Vec::new(), Shape::plain(AsWidth::Four));
            let hop = NextHop::V4(address(n));
            put_announcements(&mut octets, &attrs, hop, Family::Ipv4, &paths, shape);
            octets
        })
        .collect();
    let before = memory();
    let (up, ()) = timed(|| (0..clients).for_each(|n| lab.dial(n, US)));
    let (cold, ()) = timed(|| (0..clients).for_each(|n| lab.receive(n, &routes[n])));
    let (loss, ()) = timed(|| lab.close(7));
    println!(
        "{clients} clients: all up {up:.4}, cold {cold:.4}, loss {loss:.4} s; {:.1} MiB",
        (memory() - before) as f64 / 1_048_576.0
    );
}

fn main() {
    // `cargo test --benches` runs it small.
    let small = std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions);
    let sizes: &[u32] = if small {
        &[1_000]
    } else {
        &[100_000, 500_000, 1_000_000]
    };
    for count in sizes {
        bulk(*count);
    }
    reflector(if small { 5 } else { 100 });
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> Instant {
    Instant::now()
}
