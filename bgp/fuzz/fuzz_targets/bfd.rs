//! A BFD packet: what can be read is written and read again, and a session takes it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use margay_bgp::bfd::Packet;

fuzz_target!(|octets: &[u8]| {
    if let Ok(packet) = Packet::decode(octets) {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }
});
