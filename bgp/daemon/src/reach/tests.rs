use std::net::Ipv6Addr;

use super::*;

const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;

/// A route (`struct rtmsg`) of this kind and length, and these attributes.
fn answer(kind: u8, length: u8, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut octets = vec![2, length, 0, 0, 254, 4, 0, kind];
    octets.extend_from_slice(&flags.to_ne_bytes());
    for (kind, value) in attributes {
        octets.extend_from_slice(&row(*kind, value));
    }
    octets
}

fn read(octets: &[u8]) -> Reach {
    read_answer(RTM_NEWROUTE, octets)
}

fn row(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    octets.extend_from_slice(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn via(metric: u32, gateways: &[&str]) -> Reach {
    Reach::Via {
        metric,
        gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

#[test]
fn a_route_says_how_far_it_goes_and_by_whom() {
    assert_eq!(read(&answer(1, 24, 0, &[])), via(0, &[]));
    let metric = 7_u32.to_ne_bytes();
    let attributes: [(u16, &[u8]); 3] = [
        (RTA_DST, &[10, 0, 0, 0]),
        (RTA_PRIORITY, &metric),
        (RTA_GATEWAY, &[192, 0, 2, 1]),
    ];
    let expected = via(7, &["192.0.2.1"]);
    assert_eq!(read(&answer(1, 8, 0, &attributes)), expected);
    let mut six = vec![10, 0];
    six.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
    let through_six = answer(1, 8, 0, &[(RTA_VIA, &six)]);
    assert_eq!(read(&through_six), via(0, &["::1"]));
}

#[test]
fn a_default_route_and_routes_that_lead_nowhere_are_no_way() {
    let blackhole = 6;
    for (kind, length, flags) in [
        (1, 0, 0),
        (blackhole, 24, 0),
        (1, 24, RTNH_F_DEAD),
        (1, 24, RTNH_F_LINKDOWN),
    ] {
        let octets = answer(kind, length, flags, &[]);
        assert_eq!(read(&octets), Reach::Unreachable);
    }
    // Another message, and less than one.
    assert_eq!(
        read_answer(RTM_GETROUTE, &answer(1, 24, 0, &[])),
        Reach::Unreachable
    );
    for end in 0..12 {
        let whole = answer(1, 24, 0, &[]);
        assert_eq!(read(&whole[..end]), Reach::Unreachable);
    }
}

#[test]
fn of_several_ways_those_that_are_up_count() {
    let way = |flags: u8, gateway: [u8; 4]| {
        let attribute = row(RTA_GATEWAY, &gateway);
        let length = u16::try_from(8 + attribute.len()).unwrap();
        let mut octets = length.to_ne_bytes().to_vec();
        octets.extend_from_slice(&[flags, 0, 1, 0, 0, 0]);
        octets.extend_from_slice(&attribute);
        octets
    };
    let two = [way(0, [192, 0, 2, 1]), way(16, [192, 0, 2, 2])].concat();
    let octets = answer(1, 24, 0, &[(RTA_MULTIPATH, &two)]);
    assert_eq!(read(&octets), via(0, &["192.0.2.1"]));
    let none = way(1, [192, 0, 2, 1]);
    let octets = answer(1, 24, 0, &[(RTA_MULTIPATH, &none)]);
    assert_eq!(read(&octets), Reach::Unreachable);
    // Lengths that are none end nothing but the reading.
    for length in [0_u8, 3, 7, 8, 200] {
        let broken = [[length, 0, 0, 0, 1, 0, 0, 0].as_slice(), &two].concat();
        read(&answer(1, 24, 0, &[(RTA_MULTIPATH, &broken)]));
        read(&answer(1, 24, 0, &[(length.into(), &broken)]));
    }
    let octets = answer(1, 24, 0, &[(RTA_MULTIPATH, &[0, 0, 1])]);
    assert_eq!(read(&octets), Reach::Unreachable);
}

#[test]
fn the_kernel_knows_the_way_to_itself() {
    let kernel = Kernel::open().unwrap();
    let local = reach(&kernel, "127.0.0.1".parse().unwrap());
    assert!(matches!(local, Reach::Via { .. }), "{local:?}");
}
