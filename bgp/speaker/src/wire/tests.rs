use std::collections::BTreeSet;

use super::*;
use crate::settings::HoldTime;
use crate::types::{Asn, BgpId};

#[test]
fn an_open_in_octets() {
    let families: BTreeSet<_> = Family::ALL.into();
    let id = BgpId("192.0.2.1".parse().unwrap());
    let open = Open::new(
        Asn(4_200_000_001),
        HoldTime::default(),
        id,
        &families,
        RestartState::Restarted,
    );
    let octets = open.encode();
    assert_eq!(
        hex(&octets),
        "ffffffffffffffffffffffffffffffff 003f 01 04 5ba0 005a c0000201 22 02 20 \
         0104 0001 0001 0104 0002 0001 0200 4104 fa56ea01 400a 8078 0001 01 80 0002 01 80"
            .replace(' ', "")
    );
    let mut rest = octets.as_slice();
    let frame = take_frame(&mut rest).unwrap().unwrap();
    assert_eq!(frame.kind, MessageType::Open);
    assert_eq!(Open::decode(frame.body), Ok(open));
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}
