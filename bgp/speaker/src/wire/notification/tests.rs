use super::*;

/// RFC 9003 §2: at most 255 octets of UTF-8, none of them half a character.
#[test]
fn the_operators_words_are_cut_between_characters() {
    let said = |text: &str| {
        let octets = Notification::cease(Cease::AdministrativeShutdown, text).encode();
        Notification::decode(&octets[HEADER_LEN..])
            .shutdown_text()
            .unwrap_or_default()
    };
    assert_eq!(said("moved to rack 7"), "moved to rack 7");
    assert_eq!(said(&"x".repeat(255)).len(), 255);
    assert_eq!(said(&"x".repeat(256)).len(), 255);
    // Three octets each: 85 of them fit.
    assert_eq!(said(&"€".repeat(100)), "€".repeat(85));
    assert_eq!(
        said(&format!("x{}", "€".repeat(100))),
        format!("x{}", "€".repeat(84))
    );
    assert_eq!(said(""), "");
}

/// RFC 9003 §2 and §4: what others write is shown as far as it can be, and does nothing to a terminal.
#[test]
fn the_other_operators_words_are_shown_without_harm() {
    let shown = |subcode, data: &[u8]| Notification::new(6, subcode, data).shutdown_text();
    assert_eq!(shown(2, b"\x02hi").as_deref(), Some("hi"));
    assert_eq!(shown(4, b"\x02hi").as_deref(), Some("hi"));
    assert_eq!(shown(2, b"\x08\x1b[31mred").as_deref(), Some("[31mred"));
    assert_eq!(shown(2, b"\x03a\xffb").as_deref(), Some("a\u{fffd}b"));
    // More than there is, nothing, and where no words belong.
    for (subcode, data) in [
        (2, &b"\x09hi"[..]),
        (2, b"\0"),
        (2, b""),
        (3, b"\x02hi"),
        (9, b"\x02hi"),
    ] {
        assert_eq!(shown(subcode, data), None, "{subcode} {data:?}");
    }
    let other = Notification::new(3, 2, b"\x02hi");
    assert_eq!(other.shutdown_text(), None);
}

/// RFC 4486 §3 and the subcodes that were added to it, with the data that they are sent with.
#[test]
fn a_cease_says_why() {
    let octets = |cease| Notification::cease(cease, "bye").encode()[HEADER_LEN..].to_vec();
    assert_eq!(octets(Cease::AdministrativeShutdown), b"\x06\x02\x03bye");
    assert_eq!(octets(Cease::AdministrativeReset), b"\x06\x04\x03bye");
    for (cease, subcode) in [
        (Cease::PeerDeconfigured, 3),
        (Cease::ConnectionRejected, 5),
        (Cease::ConnectionCollision, 7),
        (Cease::BfdDown, 10),
    ] {
        assert_eq!(octets(cease), [6, subcode]);
    }
    let limit = Notification::too_many_prefixes(Family::Ipv6, 1000).encode();
    assert_eq!(limit[HEADER_LEN..], [6, 1, 0, 2, 1, 0, 0, 3, 0xe8]);
}

/// RFC 8538 §3.1: a Hard Reset holds what is meant.
#[test]
fn a_hard_reset_holds_what_is_meant() {
    let meant = Notification::cease(Cease::AdministrativeShutdown, "bye");
    let hard = meant.hardened();
    assert_eq!(hard.encode()[HEADER_LEN..], *b"\x06\x09\x06\x02\x03bye");
    assert!(hard.is_hard() && !meant.is_hard());
    assert_eq!(hard.meant(), meant);
    assert_eq!(hard.to_string(), meant.to_string());
    assert!(hard.to_string().ends_with("(6/2): “bye”"), "{hard}");
    // Without anything in it, and one in another, it means itself.
    for odd in [Notification::new(6, 9, &[]), hard.hardened()] {
        assert_eq!(odd.meant(), odd);
        assert!(odd.to_string().contains("hard reset (6/9)"), "{odd}");
    }
}
