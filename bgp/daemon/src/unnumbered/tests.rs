use super::*;

#[test]
fn the_only_router_on_a_link_is_the_peer_and_stays_it_until_another_takes_its_place() {
    let [a, b] = ["fe80::a", "fe80::b"].map(|text| text.parse::<Ipv6Addr>().unwrap());
    let choose = |routers: &[Ipv6Addr], known| {
        let routers = routers.iter().copied().collect();
        super::choose("eth0", Some(routers), known)
    };
    let none = Err(Unknown::NoRouter("eth0".to_owned()));
    assert_eq!(choose(&[], None), none);
    assert_eq!(choose(&[a], None), Ok(a));
    assert_eq!(choose(&[], Some(a)), Ok(a), "nobody needed it for a while");
    assert_eq!(choose(&[a, b], Some(a)), Ok(a));
    assert_eq!(choose(&[b], Some(a)), Ok(b), "the router was replaced");
    let several = choose(&[a, b], None).unwrap_err();
    assert!(
        several.to_string().ends_with("fe80::a, fe80::b"),
        "{several}"
    );
    let nowhere = super::choose("eth9", None, Some(a)).unwrap_err();
    assert_eq!(nowhere, Unknown::NoLink("eth9".to_owned()));
}

/// `struct ndmsg` of the kernel's answer, and `NDA_DST`.
fn told(state: u16, flags: u8, address: &str) -> Vec<u8> {
    let mut octets = vec![10, 0, 0, 0];
    octets.extend_from_slice(&7_u32.to_ne_bytes());
    octets.extend_from_slice(&state.to_ne_bytes());
    octets.extend_from_slice(&[flags, 1]);
    octets.extend_from_slice(&20_u16.to_ne_bytes());
    octets.extend_from_slice(&1_u16.to_ne_bytes());
    octets.extend_from_slice(&address.parse::<Ipv6Addr>().unwrap().octets());
    octets
}

#[test]
fn a_neighbour_is_a_router_if_it_said_so_and_is_there() {
    const ROUTER: u8 = 0x80;
    const STALE: u16 = 4;
    const FAILED: u16 = 0x20;
    const NONE: u16 = 0;
    let a = "fe80::a".parse().unwrap();
    for (state, flags, standing) in [
        (STALE, ROUTER, Standing::Router),
        (STALE, 0, Standing::Other),
        (FAILED, ROUTER, Standing::Other),
        (NONE, 0, Standing::Unheard),
    ] {
        let known = Neighbour {
            link: 7,
            address: a,
            standing,
        };
        assert_eq!(neighbour(&told(state, flags, "fe80::a")), Some(known));
    }
    assert_eq!(neighbour(&told(STALE, ROUTER, "2001:db8::a")), None);
    for end in 0..30 {
        let whole = told(STALE, ROUTER, "fe80::a");
        assert_eq!(neighbour(&whole[..end]), None);
    }
}
