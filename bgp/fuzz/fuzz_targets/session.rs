//! A whole speaker with an established peer that says anything, and another that is told what becomes of it.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use margay_bgp_fuzz::stream;
use margay_bgp::settings::Reflection;
use margay_bgp::wire::{Capability, Open, RestartState, encode_keepalive};
use margay_bgp::{
    Action, Asn, BgpId, ConnectionId, Dial, Event, Export, Family, HoldTime, PeerSettings, Settings,
    Speaker, Switch,
};

const US: Asn = Asn(64512);

fuzz_target!(|octets: &[u8]| {
    let octets = stream(octets);
    let start = Instant::now();
    let mut settings = Settings::new(US, BgpId([192, 0, 2, 1].into()));
    for number in [2, 3] {
        let mut peer = PeerSettings::new([192, 0, 2, number].into(), US);
        peer.dial = Dial::Passive;
        peer.export = Export::All;
        peer.reflection = Reflection::Client;
        peer.add_path.receive = Switch::On;
        peer.add_path.send = 2;
        settings.peers.insert(format!("p{number}").into(), peer);
    }
    let mut speaker = Speaker::new(settings, 1, start);
    for number in [2, 3] {
        let connection = ConnectionId::Accepted(number.into());
        speaker.handle_event(
            Event::Accepted {
                connection,
                local: [192, 0, 2, 1].into(),
                remote: [192, 0, 2, number].into(),
            },
            start,
        );
        let families = Family::ALL.into();
        let id = BgpId([192, 0, 2, number].into());
        let running = RestartState::Running;
        let mut open = Open::new(US, HoldTime::from_secs(90), id, &families, running);
        open.capabilities.push(Capability::ExtendedMessage);
        let octets = [open.encode(), encode_keepalive()].concat();
        speaker.handle_event(Event::Received { connection, octets: &octets }, start);
    }
    let connection = ConnectionId::Accepted(2);
    // In two pieces, and with the clock going on between them.
    let (first, second) = octets.split_at(octets.len() / 2);
    for (piece, seconds) in [(first, 1), (second, 40)] {
        let now = start + Duration::from_secs(seconds);
        speaker.handle_timeout(now);
        speaker.handle_event(Event::Received { connection, octets: piece }, now);
        while let Some(action) = speaker.poll_action() {
            if let Action::Send { connection, octets } = action {
                let octets = octets.len();
                speaker.handle_event(Event::Sent { connection, octets }, now);
            }
        }
    }
    let status = speaker.status();
    assert_eq!(status.len(), 2);
    assert_eq!(status["p3"].sessions, 1, "another's session is untouched");
});
