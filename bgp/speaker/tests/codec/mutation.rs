//! Right messages with octets changed, dropped, doubled or cut: any octets give a value or an error.

use margay_bgp::Family;
use margay_bgp::wire::{
    AsWidth, Context, MessageType, Notification, Open, PeerKind, RouteRefresh, Update, take_frame,
};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::strategies::message;

/// Random changes, the same in every run.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    /// Changes a message behind its header; the header's length is made to fit, so that the change is seen.
    pub(crate) fn mutate(&mut self, message: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            if message.len() <= 19 {
                break;
            }
            let at = 19 + self.below(message.len() - 19);
            match self.below(7) {
                0 => message[at] ^= 1 << self.below(8),
                1 => message[at] = 0,
                2 => message[at] = 0xff,
                3 => message[at] = u8::try_from(self.below(40)).unwrap(),
                4 => message.truncate(at),
                5 => {
                    message.remove(at);
                }
                _ => {
                    let end = at + self.below(message.len() - at);
                    let copy = message[at..end].to_vec();
                    message.splice(at..at, copy);
                }
            }
        }
        message.truncate(4096);
        let length = u16::try_from(message.len()).unwrap();
        message[16..18].copy_from_slice(&length.to_be_bytes());
    }
}

/// Decodes everything there is, in every context.
fn decode_all(mut octets: &[u8]) {
    while let Ok(Some(frame)) = take_frame(&mut octets) {
        match frame.kind {
            MessageType::Open => {
                if let Ok(open) = Open::decode(frame.body) {
                    let again = open.encode();
                    let frame = take_frame(&mut again.as_slice()).unwrap().unwrap();
                    assert_eq!(Open::decode(frame.body), Ok(open));
                }
            }
            MessageType::Update => {
                for as_width in [AsWidth::Two, AsWidth::Four] {
                    for (peer, agreed) in [
                        (PeerKind::Ibgp, false),
                        (PeerKind::Ebgp, false),
                        (PeerKind::Ibgp, true),
                    ] {
                        // Path identifiers and foreign next hops, where both sides agreed on them.
                        let families = Family::ALL.into_iter().filter(|_| agreed);
                        let context = Context {
                            add_path: families.collect(),
                            extended_next_hop: agreed.into(),
                            ..Context::new(as_width, peer)
                        };
                        if let Ok(update) = Update::decode(frame.body, context) {
                            update.withdrawn.prefixes().for_each(drop);
                            update.nlri.prefixes().for_each(drop);
                        }
                    }
                }
            }
            MessageType::Notification => {
                let notification = Notification::decode(frame.body);
                assert!(!notification.to_string().is_empty());
            }
            MessageType::Keepalive => {}
            MessageType::RouteRefresh => {
                let _ = RouteRefresh::decode(frame.body);
            }
        }
    }
}

/// How many mutated messages a test looks at: `MARGAY_CODEC_MESSAGES`, or `default`.
pub(crate) fn messages(default: usize) -> usize {
    let number = std::env::var("MARGAY_CODEC_MESSAGES");
    number.map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn no_octets_make_the_decoder_panic() {
    let mut runner = TestRunner::deterministic();
    let mut noise = Noise::new(0x6d61_7267_6179);
    for _ in 0..messages(100_000) / 50 {
        let message = message().new_tree(&mut runner).unwrap().current();
        decode_all(&message);
        for _ in 0..50 {
            let mut mutated = message.clone();
            noise.mutate(&mut mutated);
            decode_all(&mutated);
        }
        // The header as well.
        let mut mutated = message.clone();
        for _ in 0..4 {
            let at = noise.below(mutated.len());
            if let Some(octet) = mutated.get_mut(at) {
                *octet = octet.wrapping_add(u8::try_from(noise.below(256)).unwrap());
            }
        }
        decode_all(&mutated);
    }
}
