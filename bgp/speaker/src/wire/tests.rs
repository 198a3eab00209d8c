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

/// RFC 4271 §6.1, RFC 2918 §3, RFC 8654 §4: what comes back is the notification, or the length that was taken.
#[test]
fn a_header_that_cannot_be_one_is_answered_with_the_right_subcode() {
    let message = |kind: u8, length: u16| {
        let mut octets = vec![0xff; 16];
        octets.extend_from_slice(&length.to_be_bytes());
        octets.push(kind);
        octets.resize(usize::from(length).max(HEADER_LEN), 0);
        octets
    };
    let taken = |octets: &[u8], max| {
        let mut rest = octets;
        take_frame_of(&mut rest, max).map(|frame| frame.map(|frame| HEADER_LEN + frame.body.len()))
    };
    let [open, update, notification, keepalive, refresh] = [1, 2, 3, 4, 5];
    let cases: [(u8, usize, &[u16], &[u16]); 9] = [
        (open, MAX_MESSAGE, &[29, 4096], &[0, 18, 28, 4097]),
        (open, MAX_EXTENDED, &[29, 4096], &[4097, 65535]),
        (update, MAX_MESSAGE, &[23, 4096], &[19, 22, 4097]),
        (update, MAX_EXTENDED, &[23, 4097, 65535], &[22]),
        (notification, MAX_MESSAGE, &[21, 4096], &[20, 4097]),
        (notification, MAX_EXTENDED, &[4097], &[20]),
        (keepalive, MAX_MESSAGE, &[19], &[18, 20]),
        (keepalive, MAX_EXTENDED, &[19], &[20, 4097]),
        (refresh, MAX_MESSAGE, &[23, 24], &[19, 22]),
    ];
    for (kind, max, good, bad) in cases {
        for &length in good {
            let (octets, length) = (message(kind, length), usize::from(length));
            assert_eq!(taken(&octets, max), Ok(Some(length)), "type {kind}");
            assert_eq!(taken(&octets[..length - 1], max), Ok(None), "not whole yet");
        }
        for &length in bad {
            // The header alone is enough to tell.
            let octets = message(kind, length);
            let error = taken(&octets[..HEADER_LEN], max).unwrap_err();
            let expected = Notification::new(1, 2, &length.to_be_bytes());
            assert_eq!(error.notification(), expected, "type {kind}");
        }
    }
    for kind in [0, 6, 255] {
        let error = taken(&message(kind, 23), MAX_MESSAGE).unwrap_err();
        assert_eq!(error.notification(), Notification::new(1, 3, &[kind]));
    }
    let mut octets = message(keepalive, 19);
    octets[15] = 0xfe;
    for end in [16, 19] {
        let error = taken(&octets[..end], MAX_MESSAGE).unwrap_err();
        assert_eq!(error.notification(), Notification::new(1, 1, &[]));
    }
    assert_eq!(taken(&octets[..15], MAX_MESSAGE), Ok(None));
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}
