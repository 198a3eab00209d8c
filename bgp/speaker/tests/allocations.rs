//! What an UPDATE costs in memory whose attributes and prefixes are known: nothing.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::net::IpAddr;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use margay_bgp::wire::update::{put_announcements, put_withdrawals};
use margay_bgp::wire::{self, AsWidth, PathAttrs, PathIds, Shape};
use margay_bgp::{
    Action, Asn, BgpId, ConnectionId, Dial, Event, Export, Family, HoldTime, PeerSettings,
    Settings, Speaker, Switch,
};

/// How many UPDATEs make a difference.
const MANY: usize = 100;

/// A speaker with an established peer, which has one prefix in each UPDATE.
struct Lab {
    speaker: Speaker,
    now: Instant,
}

const PEER: [u8; 4] = [192, 0, 2, 2];
const CONNECTION: ConnectionId = ConnectionId::Accepted(0);

impl Lab {
    fn new() -> Self {
        let now = epoch();
        let mut settings = Settings::new(Asn(65000), BgpId([192, 0, 2, 1].into()));
        let mut peer = PeerSettings::new(IpAddr::from(PEER), Asn(65001));
        (peer.dial, peer.export) = (Dial::Passive, Export::All);
        settings.peers.insert("peer".into(), peer);
        settings.tell_routes = Switch::Off;
        let mut lab = Self {
            speaker: Speaker::new(settings, 1, now),
            now,
        };
        lab.event(Event::Accepted {
            connection: CONNECTION,
            local: IpAddr::from([192, 0, 2, 1]),
            remote: IpAddr::from(PEER),
        });
        let open = wire::Open::new(
            Asn(65001),
            HoldTime::default(),
            BgpId(PEER.into()),
            &Family::ALL.into(),
            wire::RestartState::Running,
        );
        lab.receive(&open.encode());
        lab.receive(&wire::encode_keepalive());
        lab
    }

    fn event(&mut self, event: Event<'_>) {
        self.speaker.handle_event(event, self.now);
        while let Some(action) = self.speaker.poll_action() {
            if let Action::Send { connection, octets } = action {
                let octets = octets.len();
                self.speaker
                    .handle_event(Event::Sent { connection, octets }, self.now);
            }
        }
    }

    fn receive(&mut self, octets: &[u8]) {
        self.event(Event::Received {
            connection: CONNECTION,
            octets,
        });
    }

    /// How often memory is asked for while these octets are taken in.
    fn allocations(&mut self, octets: &[u8]) -> u64 {
        allocation_counter::measure(|| self.receive(octets)).count_total
    }
}

fn path(n: usize) -> (u32, IpNet) {
    let network = 0x0a00_0000 + (u32::try_from(n).unwrap() << 8);
    (0, Ipv4Net::new_assert(network.into(), 24).into())
}

/// UPDATEs of one prefix each; MEDs say how many different attributes there are.
fn updates(count: usize, med: impl Fn(usize) -> usize) -> Vec<u8> {
    let mut octets = Vec::new();
    for n in 0..count {
        let mut attrs = PathAttrs {
            med: Some(u32::try_from(med(n)).unwrap()),
            ..PathAttrs::default()
        };
        attrs.as_path = attrs.as_path.prepended(Asn(65001));
        let hop = IpAddr::from(PEER).into();
        let shape = Shape::plain(AsWidth::Four);
        put_announcements(&mut octets, &attrs, hop, Family::Ipv4, &[path(n)], shape);
    }
    octets
}

fn withdrawals(count: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    for n in 0..count {
        put_withdrawals(&mut octets, Family::Ipv4, &[path(n)], 4096, PathIds::Absent);
    }
    octets
}

#[test]
fn an_update_with_known_attributes_takes_no_memory() {
    let mut lab = Lab::new();
    // Both sets of attributes are known for all prefixes, which change from one to the other.
    let (odd, even) = (|n: usize| n % 2, |n: usize| (n + 1) % 2);
    for _ in 0..3 {
        lab.receive(&updates(MANY, odd));
        lab.receive(&updates(MANY, even));
    }
    // What one event costs, however much is in it: messages to peers, and the like.
    let one = lab.allocations(&updates(2, odd));
    lab.receive(&updates(MANY, even));
    let many = lab.allocations(&updates(MANY, odd));
    assert_eq!(many, one, "for {MANY} UPDATEs, and for two");
    let same = lab.allocations(&updates(MANY, odd));
    assert!(same <= one, "{same}: nothing changes");
    // Prefixes that come back find their places.
    lab.receive(&withdrawals(MANY));
    lab.receive(&updates(MANY, odd));
    let gone = lab.allocations(&withdrawals(MANY));
    let back = lab.allocations(&updates(MANY, odd));
    println!("two {one}, many {many}, gone {gone}, back {back}");
    // New attributes cost something: the count can tell.
    let new = lab.allocations(&updates(MANY, |n| 1000 + n));
    assert!(new > many + u64::try_from(MANY).unwrap(), "{new}");
}

/// Some moment.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; it is never read again"
)]
fn epoch() -> Instant {
    Instant::now()
}
