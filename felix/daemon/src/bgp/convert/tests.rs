use super::*;

fn own() -> [IpAddr; 2] {
    ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap())
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_peer_of_which_nothing_is_said_has_the_usual_settings() {
    let usual = BgpPeer::new("192.0.2.254".parse().unwrap(), 65000);
    let (settings, transport) = peer(&usual, &own(), Ok(None));
    let expected = PeerSettings {
        source: Some("192.0.2.1".parse().unwrap()),
        ..PeerSettings::new("192.0.2.254".parse().unwrap(), Asn(65000))
    };
    assert_eq!(settings, expected);
    assert_eq!(transport, Transport::default());
}

/// Nothing as it would be by itself.
fn unusual() -> BgpPeer {
    BgpPeer {
        address: "fe80::254".parse().unwrap(),
        port: 1790,
        asn: 65000,
        hold_time: 9,
        node: None,
        details: Details {
            source: bgp::Source::Any,
            interface: Some("eth0".to_owned()),
            // What could be had of it counts.
            password: None,
            passive: true,
            families: [message::Family::V6].into(),
            export: bgp::Export::All,
            next_hop: bgp::NextHop::Own,
            reflector_client: true,
            distance: bgp::Distance::Security(2),
            bfd: Some(bgp::Bfd {
                interval: 50,
                multiplier: 5,
            }),
            local_as: Some(bgp::LocalAs {
                asn: 65010,
                hide_real: true,
            }),
            allow_own_as: 2,
            as_override: true,
            private_as: bgp::PrivateAs::Replace,
            add_path: bgp::AddPath {
                receive: true,
                send: 8,
            },
            restart: bgp::Restart {
                enabled: false,
                time: 60,
                notification: true,
                long_lived: Some(3600),
            },
            limits: BTreeMap::from([
                (message::Family::V4, limit(10, bgp::LimitAction::Warn)),
                (
                    message::Family::V6,
                    limit(20, bgp::LimitAction::TearDown(Some(30))),
                ),
            ]),
            import: vec![rejecting(bgp::Condition::Family(message::Family::V4))],
            export_rules: vec![rejecting(bgp::Condition::Family(message::Family::V6))],
            shutdown: Some("later".to_owned()),
            graceful_shutdown: true,
        },
    }
}

fn unusual_settings() -> PeerSettings {
    let usual = PeerSettings::new("fe80::254".parse().unwrap(), Asn(65000));
    PeerSettings {
        address: "fe80::254".parse().unwrap(),
        port: 1790,
        asn: Asn(65000),
        hold_time: HoldTime::from_secs(9),
        source: None,
        dial: Dial::Passive,
        families: [Family::Ipv6].into(),
        export: Export::All,
        import_filter: Some(rejected(Family::Ipv4)),
        export_filter: Some(rejected(Family::Ipv6)),
        shut_down: Some("later".to_owned()),
        restart: RestartSettings {
            graceful: Switch::Off,
            time: 60,
            notification: Switch::On,
            long_lived: Some(Duration::from_hours(1)),
        },
        add_path: AddPath {
            receive: Switch::On,
            send: 8,
        },
        reflection: Reflection::Client,
        next_hop: NextHopMode::Own,
        allow_own_as: 2,
        local_as: Some(LocalAs {
            asn: Asn(65010),
            real: OldAs::Hidden,
        }),
        own_as: OwnAs::Override,
        private_as: PrivateAs::Replace,
        prefix_limits: BTreeMap::from([
            (Family::Ipv4, limited(10, LimitAction::Warn)),
            (
                Family::Ipv6,
                limited(
                    20,
                    LimitAction::TearDown {
                        restart: Some(Duration::from_secs(30)),
                    },
                ),
            ),
        ]),
        graceful_shutdown: Switch::On,
        // What a BGPPeer has no word for.
        delay_open: usual.delay_open,
        extended_messages: usual.extended_messages,
        enhanced_refresh: usual.enhanced_refresh,
        extended_next_hop: usual.extended_next_hop,
        keep_received: usual.keep_received,
    }
}

#[test]
fn all_that_is_said_of_a_peer_becomes_a_setting() {
    let password = Password::try_from("secret".to_owned()).unwrap();
    let (settings, transport) = peer(&unusual(), &own(), Ok(Some(password.clone())));
    assert_eq!(settings, unusual_settings());
    let expected = Transport {
        password: Some(password),
        ao: None,
        ttl: Ttl::Security(NonZeroU8::new(2).unwrap()),
        interface: Some("eth0".to_owned()),
        bfd: Some(BfdSettings {
            interval: Duration::from_millis(50),
            multiplier: NonZeroU8::new(5).unwrap(),
        }),
    };
    assert_eq!(transport, expected);
}

#[test]
fn each_choice_is_the_speakers() {
    let with = |change: &dyn Fn(&mut Details)| {
        let mut said = BgpPeer::new("2001:db8::254".parse().unwrap(), 65000);
        change(&mut said.details);
        peer(&said, &own(), Ok(None))
    };
    for (next_hop, expected) in [
        (bgp::NextHop::Auto, NextHopMode::Auto),
        (bgp::NextHop::Own, NextHopMode::Own),
        (bgp::NextHop::Keep, NextHopMode::Unchanged),
    ] {
        let (settings, _) = with(&|details| details.next_hop = next_hop);
        assert_eq!(settings.next_hop, expected);
        assert_eq!(settings.source, Some(own()[1]), "of the peer's family");
    }
    for (private_as, expected) in [
        (bgp::PrivateAs::Keep, PrivateAs::Keep),
        (bgp::PrivateAs::Remove, PrivateAs::Remove),
        (bgp::PrivateAs::Replace, PrivateAs::Replace),
    ] {
        let (settings, _) = with(&|details| details.private_as = private_as);
        assert_eq!(settings.private_as, expected);
    }
    for (distance, expected) in [
        (bgp::Distance::Any, Ttl::Any),
        (
            bgp::Distance::Hops(3),
            Ttl::Hops(NonZeroU8::new(3).unwrap()),
        ),
        (bgp::Distance::Security(1), Ttl::Security(NonZeroU8::MIN)),
    ] {
        let (_, transport) = with(&|details| details.distance = distance);
        assert_eq!(transport.ttl, expected);
    }
    for (action, expected) in [
        (bgp::LimitAction::Warn, LimitAction::Warn),
        (bgp::LimitAction::Block, LimitAction::Block),
        (
            bgp::LimitAction::TearDown(None),
            LimitAction::TearDown { restart: None },
        ),
    ] {
        let limits = BTreeMap::from([(message::Family::V4, limit(1, action))]);
        let (settings, _) = with(&|details| details.limits.clone_from(&limits));
        let expected = BTreeMap::from([(Family::Ipv4, limited(1, expected))]);
        assert_eq!(settings.prefix_limits, expected);
    }
    let (settings, _) = with(&|details| {
        details.local_as = Some(bgp::LocalAs {
            asn: 1,
            hide_real: false,
        });
    });
    assert_eq!(settings.local_as.unwrap().real, OldAs::Shown);
}

#[test]
fn what_comes_from_other_ases_is_kept_back_first_where_only_ours_is_told() {
    let mut said = BgpPeer::new("192.0.2.254".parse().unwrap(), 64512);
    said.details.export = bgp::Export::Internal;
    said.details.export_rules = vec![rejecting(bgp::Condition::Family(message::Family::V4))];
    let (settings, _) = peer(&said, &own(), Ok(None));
    assert_eq!(settings.export, Export::All);
    let mut expected = rejected(Family::Ipv4);
    let external = Condition::Source(RouteSource::External);
    expected.rules.insert(
        0,
        Rule {
            when: vec![external],
            changes: Vec::new(),
            then: Some(Decision::Reject),
        },
    );
    assert_eq!(settings.export_filter, Some(expected));
}

#[test]
fn each_condition_of_a_filter_is_the_speakers() {
    let matches = vec![bgp::PrefixMatch {
        within: prefix("10.0.0.0/8"),
        ge: 24,
        le: 28,
    }];
    let prefixes = || {
        Condition::Prefix(vec![PrefixMatch {
            within: prefix("10.0.0.0/8"),
            ge: 24,
            le: 28,
        }])
    };
    let source = |source| Condition::Source(source);
    for (said, expected) in [
        (bgp::Condition::Prefix(matches.clone()), prefixes()),
        (
            bgp::Condition::NotPrefix(matches),
            Condition::Not(Box::new(prefixes())),
        ),
        (
            bgp::Condition::Family(message::Family::V6),
            Condition::Family(Family::Ipv6),
        ),
        (
            bgp::Condition::Source(bgp::RouteSource::Own),
            source(RouteSource::Own),
        ),
        (
            bgp::Condition::Source(bgp::RouteSource::Aggregate),
            source(RouteSource::Aggregate),
        ),
        (
            bgp::Condition::Source(bgp::RouteSource::External),
            source(RouteSource::External),
        ),
        (
            bgp::Condition::Source(bgp::RouteSource::Internal),
            source(RouteSource::Internal),
        ),
        (
            bgp::Condition::Community(vec![1, 2], vec![]),
            Condition::Community(vec![1, 2]),
        ),
        (
            bgp::Condition::Community(vec![], vec![[1, 2, 3]]),
            Condition::LargeCommunity(vec![[1, 2, 3]]),
        ),
        (
            bgp::Condition::Community(vec![1], vec![[1, 2, 3]]),
            Condition::AnyOf(vec![
                Condition::Community(vec![1]),
                Condition::LargeCommunity(vec![[1, 2, 3]]),
            ]),
        ),
        (
            bgp::Condition::AsPath(vec![None, Some((65000, 65000)), Some((1, 9))]),
            Condition::AsPath(AsPathPattern(vec![
                AsToken::Any,
                AsToken::Range(Asn(65000), Asn(65000)),
                AsToken::Range(Asn(1), Asn(9)),
            ])),
        ),
        (
            bgp::Condition::NextHop(vec![prefix("192.0.2.0/24")]),
            Condition::NextHop(vec![prefix("192.0.2.0/24")]),
        ),
        (
            bgp::Condition::LocalPref(50, 99),
            Condition::LocalPref(50..=99),
        ),
        (bgp::Condition::Med(1, 7), Condition::Med(1..=7)),
    ] {
        assert_eq!(condition(&said), expected, "{said:?}");
    }
}

#[test]
fn each_change_of_a_filter_is_the_speakers() {
    let address = "192.0.2.7".parse().unwrap();
    for (said, expected) in [
        (bgp::Change::LocalPref(7), Change::LocalPref(7)),
        (bgp::Change::Med(8), Change::Med(Some(8))),
        (
            bgp::Change::Prepend(2),
            Change::Prepend {
                asn: None,
                times: 2,
            },
        ),
        (bgp::Change::NextHop(address), Change::NextHop(address)),
        (
            bgp::Change::RemoveCommunity(9),
            Change::RemoveCommunities {
                value: 9,
                mask: u32::MAX,
            },
        ),
        (
            bgp::Change::RemoveLarge([1, 2, 3]),
            Change::RemoveLargeCommunity([1, 2, 3]),
        ),
        (bgp::Change::AddCommunity(10), Change::AddCommunity(10)),
        (
            bgp::Change::AddLarge([4, 5, 6]),
            Change::AddLargeCommunity([4, 5, 6]),
        ),
    ] {
        assert_eq!(change(&said), expected, "{said:?}");
    }
    for (then, expected) in [
        (None, None),
        (Some(bgp::Decision::Accept), Some(Decision::Accept)),
        (Some(bgp::Decision::Reject), Some(Decision::Reject)),
    ] {
        let said = bgp::Rule {
            when: Vec::new(),
            changes: vec![bgp::Change::Med(1), bgp::Change::LocalPref(2)],
            then,
        };
        let expected = Rule {
            when: Vec::new(),
            changes: vec![Change::Med(Some(1)), Change::LocalPref(2)],
            then: expected,
        };
        assert_eq!(rule(&said), expected);
    }
}

fn limit(max: u32, action: bgp::LimitAction) -> bgp::Limit {
    bgp::Limit {
        max,
        warn_percent: 50,
        action,
    }
}

fn limited(max: u32, action: LimitAction) -> PrefixLimit {
    PrefixLimit {
        max,
        warn_percent: 50,
        action,
    }
}

fn rejecting(condition: bgp::Condition) -> bgp::Rule {
    bgp::Rule {
        when: vec![condition],
        changes: Vec::new(),
        then: Some(bgp::Decision::Reject),
    }
}

fn rejected(family: Family) -> Filter {
    Filter {
        rules: vec![Rule {
            when: vec![Condition::Family(family)],
            changes: Vec::new(),
            then: Some(Decision::Reject),
        }],
        default: Decision::Accept,
    }
}
