use super::*;

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let octet = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// What the peer is told of the OPEN with this body: code and subcode; none if it is good.
fn answer(hex: &str) -> Option<(u8, u8)> {
    let error = Open::decode(&octets(hex)).err()?;
    Some(error.notification().numbers())
}

/// RFC 4271 §6.2 and what amends it. The fields: version, AS, hold time, identifier, optional parameters.
#[test]
#[rustfmt::skip]
fn an_open_that_cannot_be_used_is_answered_with_the_right_subcode() {
    for (what, body, expected) in [
        ("as short as it may be", "04 fde8 005a c0000202 00", None),
        ("no keepalives", "04 fde8 0000 c0000202 00", None),
        ("the least hold time", "04 fde8 0003 c0000202 00", None),
        ("the most hold time", "04 fde8 ffff c0000202 00", None),
        ("an identifier that is no address of a host (RFC 6286 §2.1)", "04 fde8 005a e0000001 00", None),
        ("version 3", "03 fde8 005a c0000202 00", Some((2, 1))),
        ("version 5", "05 fde8 005a c0000202 00", Some((2, 1))),
        ("AS 0 (RFC 7607 §2)", "04 0000 005a c0000202 00", Some((2, 2))),
        ("AS 0 in the capability", "04 fde8 005a c0000202 08 02 06 41 04 00000000", Some((2, 2))),
        ("identifier 0 (RFC 6286 §2.2)", "04 fde8 005a 00000000 00", Some((2, 3))),
        ("an unknown parameter", "04 fde8 005a c0000202 02 01 00", Some((2, 4))),
        ("hold time 1", "04 fde8 0001 c0000202 00", Some((2, 6))),
        ("hold time 2", "04 fde8 0002 c0000202 00", Some((2, 6))),
        ("nothing where the length of parameters belongs", "04 fde8 005a c0000202", Some((2, 0))),
        ("parameters that are not there", "04 fde8 005a c0000202 04 02", Some((2, 0))),
        ("more than the parameters", "04 fde8 005a c0000202 00 02 00", Some((2, 0))),
        ("a parameter over the end", "04 fde8 005a c0000202 02 02 06", Some((2, 0))),
        ("a capability over the end", "04 fde8 005a c0000202 04 02 02 41 04", Some((2, 0))),
        ("half a capability", "04 fde8 005a c0000202 03 02 01 41", Some((2, 0))),
        ("an AS number of three octets", "04 fde8 005a c0000202 07 02 05 41 03 000001", Some((2, 0))),
        ("a capability that nobody knows (RFC 5492 §3)", "04 fde8 005a c0000202 06 02 04 c8 02 0102", None),
        ("one of length 0", "04 fde8 005a c0000202 04 02 02 02 00", None),
        ("an empty parameter of capabilities", "04 fde8 005a c0000202 02 02 00", None),
        ("extended lengths (RFC 9072 §2)", "04 fde8 005a c0000202 ff ff 0005 02 0002 02 00", None),
        ("the same, over the end", "04 fde8 005a c0000202 ff ff 0006 02 0003 02 00", Some((2, 0))),
        ("the same, cut off", "04 fde8 005a c0000202 ff ff 00", Some((2, 0))),
    ] {
        assert_eq!(answer(body), expected, "{what}");
    }
    // The largest version that we know goes with the complaint.
    let version = Open::decode(&octets("03 fde8 005a c0000202 00")).unwrap_err();
    assert_eq!(version.notification().data, [0, 4]);
}

/// RFC 5492 §4: capabilities may share a parameter or have one each. RFC 9072 §2: the length of the old format counts for
/// nothing, unless it is 0.
#[test]
fn capabilities_are_the_same_however_they_are_wrapped() {
    let together = "04 5ba0 005a c0000202 0a 02 08 02 00 41 04 fa56ea01";
    let apart = "04 5ba0 005a c0000202 0c 02 02 02 00 02 06 41 04 fa56ea01";
    let extended = "04 5ba0 005a c0000202 ff ff 000e 02 0002 02 00 02 0006 41 04 fa56ea01";
    let odd = "04 5ba0 005a c0000202 01 ff 000e 02 0002 02 00 02 0006 41 04 fa56ea01";
    let expected = [
        Capability::RouteRefresh,
        Capability::FourOctetAs(Asn(4_200_000_001)),
    ];
    for body in [together, apart, extended, odd] {
        let open = Open::decode(&octets(body)).unwrap();
        assert_eq!(open.capabilities, expected);
        assert_eq!(open.asn(), Asn(4_200_000_001), "not AS_TRANS");
    }
}

/// RFC 9072 §2: only what does not fit otherwise is wrapped so.
#[test]
fn many_capabilities_need_the_extended_lengths_and_few_do_not() {
    let open = |count: usize| Open {
        my_as: 65000,
        hold_time: HoldTime::default(),
        bgp_id: BgpId([192, 0, 2, 2].into()),
        capabilities: vec![Capability::RouteRefresh; count],
    };
    for (count, extended) in [(0, false), (126, false), (127, true), (500, true)] {
        let message = open(count).encode();
        let body = &message[crate::wire::HEADER_LEN..];
        assert_eq!(body[9..].starts_with(&[255, 255]), extended, "{count}");
        assert_eq!(Open::decode(body), Ok(open(count)));
    }
}
