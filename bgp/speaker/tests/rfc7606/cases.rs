//! 88 malformed UPDATEs and what RFC 7606 has a speaker do about them, as octets.
//!
//! The file needs nothing but the standard library: the speaker's tests feed it to a session on a virtual clock,
//! the daemon's tests include it by path and send it through a real one.
//!
//! Every case announces [`ROUTE`] (or, where the attribute is about IPv6, carries the prefix in itself) with the
//! good attributes of [`update`], of which one is replaced or to which one is added.

/// What becomes of the route and the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is wrong.
    Fine,
    /// The attribute is dropped, the route stays (§2, attribute discard).
    Discard,
    /// The route counts as withdrawn, the session stays (§2, treat-as-withdraw).
    Withdraw,
    /// NOTIFICATION 3 with this subcode.
    Reset(u8),
}

use Fate::{Discard, Fine, Reset, Withdraw};

/// One case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// What is wrong.
    pub(crate) name: &'static str,
    /// The attribute, in hex.
    pub(crate) attribute: &'static str,
    /// What an eBGP session does.
    pub(crate) ebgp: Fate,
    /// What an iBGP session does.
    pub(crate) ibgp: Fate,
}

/// The route under test, as NLRI: 198.51.100.0/24.
pub(crate) const ROUTE: [u8; 4] = [24, 198, 51, 100];
/// The route that must survive every case but a reset, as NLRI: 203.0.113.0/24.
pub(crate) const SENTINEL: [u8; 4] = [24, 203, 0, 113];

const fn case(name: &'static str, attribute: &'static str, ebgp: Fate, ibgp: Fate) -> Case {
    Case {
        name,
        attribute,
        ebgp,
        ibgp,
    }
}

/// All of them: 58 where an iBGP session treats as withdrawn, 26 where an eBGP session discards, 4 resets.
#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    // ORIGIN: §7.1; flags: §3 c.
    case("ORIGIN optional", "c0 01 01 00", Withdraw, Withdraw),
    case("ORIGIN not transitive", "00 01 01 00", Withdraw, Withdraw),
    case("ORIGIN optional and not transitive", "80 01 01 00", Withdraw, Withdraw),
    case("ORIGIN of length 0", "40 01 00", Withdraw, Withdraw),
    case("ORIGIN of length 2", "40 01 02 0000", Withdraw, Withdraw),
    case("ORIGIN 3", "40 01 01 03", Withdraw, Withdraw),
    case("ORIGIN 255", "40 01 01 ff", Withdraw, Withdraw),
    // AS_PATH: §7.2; AS 0: RFC 7607.
    case("AS_PATH optional", "c0 02 06 02 01 0000fde8", Withdraw, Withdraw),
    case("AS_PATH not transitive", "00 02 06 02 01 0000fde8", Withdraw, Withdraw),
    case("AS_PATH segment type 0", "40 02 06 00 01 0000fde8", Withdraw, Withdraw),
    case("AS_PATH segment type 5", "40 02 06 05 01 0000fde8", Withdraw, Withdraw),
    case("AS_PATH segment type 255", "40 02 06 ff 01 0000fde8", Withdraw, Withdraw),
    case("AS_PATH segment of length 0", "40 02 02 02 00", Withdraw, Withdraw),
    case("AS_PATH segment over the end", "40 02 06 02 02 0000fde8", Withdraw, Withdraw),
    case("AS_PATH with one octet left", "40 02 07 02 01 0000fde8 02", Withdraw, Withdraw),
    case("AS_PATH of AS 0", "40 02 06 02 01 00000000", Withdraw, Withdraw),
    case("AS_PATH with AS 0 inside", "40 02 0e 02 03 0000fde8 00000000 0000fde9", Withdraw, Withdraw),
    // NEXT_HOP: §7.3; addresses that no host has: RFC 4271 §6.3, the route is ignored.
    case("NEXT_HOP optional", "c0 03 04 c0000202", Withdraw, Withdraw),
    case("NEXT_HOP not transitive", "00 03 04 c0000202", Withdraw, Withdraw),
    case("NEXT_HOP of length 0", "40 03 00", Withdraw, Withdraw),
    case("NEXT_HOP of length 3", "40 03 03 c00002", Withdraw, Withdraw),
    case("NEXT_HOP of length 5", "40 03 05 c000020200", Withdraw, Withdraw),
    case("NEXT_HOP 0.0.0.0", "40 03 04 00000000", Withdraw, Withdraw),
    case("NEXT_HOP 127.0.0.1", "40 03 04 7f000001", Withdraw, Withdraw),
    case("NEXT_HOP 224.0.0.1", "40 03 04 e0000001", Withdraw, Withdraw),
    // MULTI_EXIT_DISC: §7.4.
    case("MULTI_EXIT_DISC transitive", "c0 04 04 00000001", Withdraw, Withdraw),
    case("MULTI_EXIT_DISC well known", "40 04 04 00000001", Withdraw, Withdraw),
    case("MULTI_EXIT_DISC of length 0", "80 04 00", Withdraw, Withdraw),
    case("MULTI_EXIT_DISC of length 3", "80 04 03 000001", Withdraw, Withdraw),
    case("MULTI_EXIT_DISC of length 5", "80 04 05 0000000001", Withdraw, Withdraw),
    // LOCAL_PREF: §7.5; from eBGP it is discarded however it looks.
    case("LOCAL_PREF optional", "c0 05 04 00000064", Discard, Withdraw),
    case("LOCAL_PREF not transitive", "00 05 04 00000064", Discard, Withdraw),
    case("LOCAL_PREF of length 3", "40 05 03 000064", Discard, Withdraw),
    case("LOCAL_PREF of length 5", "40 05 05 0000006400", Discard, Withdraw),
    // ORIGINATOR_ID: §7.9, likewise.
    case("ORIGINATOR_ID transitive", "c0 09 04 c0000209", Discard, Withdraw),
    case("ORIGINATOR_ID of length 3", "80 09 03 c00002", Discard, Withdraw),
    case("ORIGINATOR_ID of length 5", "80 09 05 c000020900", Discard, Withdraw),
    // CLUSTER_LIST: §7.10, likewise.
    case("CLUSTER_LIST transitive", "c0 0a 04 c0000209", Discard, Withdraw),
    case("CLUSTER_LIST of length 0", "80 0a 00", Discard, Withdraw),
    case("CLUSTER_LIST of length 5", "80 0a 05 c0000209 c0", Discard, Withdraw),
    // COMMUNITIES: §7.8.
    case("COMMUNITIES not transitive", "80 08 04 fde80001", Withdraw, Withdraw),
    case("COMMUNITIES well known", "40 08 04 fde80001", Withdraw, Withdraw),
    case("COMMUNITIES of length 0", "c0 08 00", Withdraw, Withdraw),
    case("COMMUNITIES of length 3", "c0 08 03 fde800", Withdraw, Withdraw),
    case("COMMUNITIES of length 6", "c0 08 06 fde80001 fde8", Withdraw, Withdraw),
    // Extended communities: §7.14.
    case("extended communities not transitive", "80 10 08 0002fde800000001", Withdraw, Withdraw),
    case("extended communities of length 0", "c0 10 00", Withdraw, Withdraw),
    case("extended communities of length 7", "c0 10 07 0002fde8000000", Withdraw, Withdraw),
    // Large communities: RFC 8092 §6.
    case("large communities not transitive", "80 20 0c 0000fde8 00000001 00000002", Withdraw, Withdraw),
    case("large communities of length 0", "c0 20 00", Withdraw, Withdraw),
    case("large communities of length 8", "c0 20 08 0000fde8 00000001", Withdraw, Withdraw),
    // IPv6 address specific extended communities: §7.15.
    case("IPv6 extended communities not transitive", "80 19 14 0002 20010db8000000000000000000000001 0001", Withdraw, Withdraw),
    case("IPv6 extended communities of length 19", "c0 19 13 0002 20010db8000000000000000000000001 00", Withdraw, Withdraw),
    // AS4_PATH with flags it cannot have: §3 c.
    case("AS4_PATH not transitive", "80 11 06 02 01 0000fde8", Withdraw, Withdraw),
    case("AS4_PATH well known", "40 11 06 02 01 0000fde8", Withdraw, Withdraw),
    // PMSI tunnel: RFC 6514 §5; tunnel encapsulation: RFC 9012 §13; only to customer: RFC 9234 §5.
    case("PMSI tunnel of length 4", "c0 16 04 00000000", Withdraw, Withdraw),
    case("tunnel encapsulation, TLV over the end", "c0 17 06 0008 0010 0101", Withdraw, Withdraw),
    case("only to customer of length 3", "c0 23 03 00fde8", Withdraw, Withdraw),
    // ATOMIC_AGGREGATE: §7.6.
    case("ATOMIC_AGGREGATE of length 1", "40 06 01 00", Discard, Discard),
    // AGGREGATOR: §7.7; AS 0: RFC 7607.
    case("AGGREGATOR of length 5", "c0 07 05 0000fde8 c0", Discard, Discard),
    case("AGGREGATOR of length 6", "c0 07 06 fde8 c0000202", Discard, Discard),
    case("AGGREGATOR of length 7", "c0 07 07 0000fde8 c00002", Discard, Discard),
    case("AGGREGATOR of length 9", "c0 07 09 0000fde8 c0000202 00", Discard, Discard),
    case("AGGREGATOR with AS 0", "c0 07 08 00000000 c0000202", Discard, Discard),
    // AS4_AGGREGATOR and AS4_PATH of a speaker that knows long AS numbers: RFC 6793 §4.1, §6.
    case("AS4_AGGREGATOR of a new speaker", "c0 12 08 0000fde8 c0000202", Discard, Discard),
    case("AS4_AGGREGATOR of length 7", "c0 12 07 0000fde8 c00002", Discard, Discard),
    case("AS4_AGGREGATOR with AS 0", "c0 12 08 00000000 c0000202", Discard, Discard),
    case("AS4_PATH of a new speaker", "c0 11 06 02 01 0000fde8", Discard, Discard),
    case("AS4_PATH with segment type 0", "c0 11 06 00 01 0000fde8", Discard, Discard),
    // What only iBGP peers may send: §7.5, §7.9, §7.10.
    case("LOCAL_PREF", "40 05 04 00000064", Discard, Fine),
    case("ORIGINATOR_ID", "80 09 04 c0000209", Discard, Fine),
    case("CLUSTER_LIST", "80 0a 08 c0000209 c000020a", Discard, Fine),
    case("LOCAL_PREF of length 0", "40 05 00", Discard, Withdraw),
    case("ORIGINATOR_ID of length 0", "80 09 00", Discard, Withdraw),
    case("CLUSTER_LIST of length 3", "80 0a 03 c00002", Discard, Withdraw),
    // AIGP where it was not agreed on, right or malformed: RFC 7311 §3.2, §3.3.
    case("AIGP", "80 1a 0b 01 000b 0000000000000001", Discard, Discard),
    case("AIGP of length 2", "80 1a 02 01 00", Discard, Discard),
    case("AIGP, TLV over the end", "80 1a 0b 01 00ff 0000000000000001", Discard, Discard),
    // Prefix-SID: RFC 8669 §6.
    case("prefix-SID of length 2", "c0 28 02 01 00", Discard, Discard),
    case("prefix-SID, TLV over the end", "c0 28 0a 01 00ff 00 0000 00000001", Discard, Discard),
    case("prefix-SID, label index of length 6", "c0 28 09 01 0006 00 0000 000001", Discard, Discard),
    // Unknown and not transitive: RFC 4271 §5; twice: §3 g.
    case("unknown, optional, not transitive", "80 c8 03 010203", Discard, Discard),
    case("unknown, optional, not transitive, empty", "80 c8 00", Discard, Discard),
    case("ORIGIN twice", "40 01 01 00 40 01 01 02", Discard, Discard),
    // MP_REACH_NLRI and MP_UNREACH_NLRI: §7.11, §7.12, §5.3.
    case("MP_REACH_NLRI, next hop of length 17", "80 0e 1d 0002 01 11 20010db800000000000000000000000200 00 30 20010db80001", Reset(9), Reset(9)),
    case("MP_REACH_NLRI, next hop over the end", "80 0e 08 0002 01 10 20010db8", Reset(9), Reset(9)),
    case("MP_REACH_NLRI cut off", "80 0e 02 0002", Reset(9), Reset(9)),
    case("MP_UNREACH_NLRI cut off", "80 0f 02 0002", Reset(9), Reset(9)),
];

/// The octets of a hex string; spaces do not count.
pub(crate) fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|digit| match digit {
            b'0'..=b'9' => digit - b'0',
            _ => digit.to_ascii_lowercase() - b'a' + 10,
        })
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0))
        .collect()
}

/// The whole UPDATE that announces `nlri` with the good attributes of a peer in `asn`, and `attribute` (hex) in
/// place of that of its type, or beside them. iBGP peers (`internal`) send an empty `AS_PATH` and `LOCAL_PREF`.
pub(crate) fn update(
    attribute: &str,
    nlri: &[u8],
    next_hop: [u8; 4],
    asn: u32,
    internal: bool,
) -> Vec<u8> {
    let special = octets(attribute);
    let path = if internal {
        vec![0x40, 2, 0]
    } else {
        [&[0x40, 2, 6, 2, 1][..], &asn.to_be_bytes()].concat()
    };
    let mut good = vec![
        vec![0x40, 1, 1, 0],
        path,
        [&[0x40, 3, 4][..], &next_hop].concat(),
    ];
    if internal {
        good.push(vec![0x40, 5, 4, 0, 0, 0, 100]);
    }
    good.retain(|other| Some(&other[1]) != special.get(1));
    good.push(special);
    let attributes = good.concat();
    let mut message = vec![0xff; 16];
    let length = 19 + 4 + attributes.len() + nlri.len();
    message.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    message.extend_from_slice(&[2, 0, 0]);
    let length = u16::try_from(attributes.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&attributes);
    message.extend_from_slice(nlri);
    message
}
