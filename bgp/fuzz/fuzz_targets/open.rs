//! The body of an OPEN with its capabilities: what can be read is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use margay_bgp::wire::Open;

fuzz_target!(|octets: &[u8]| {
    match Open::decode(octets) {
        Ok(open) => {
            for capability in &open.capabilities {
                assert!(!capability.name().is_empty());
            }
            let again = open.encode();
            assert_eq!(Open::decode(&again[19..]), Ok(open));
        }
        Err(error) => assert!(!error.notification().to_string().is_empty()),
    }
});
