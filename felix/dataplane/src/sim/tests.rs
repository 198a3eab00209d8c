use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::ruleset::{Chain, ChainType, Hook, KeyType};

fn packet() -> Packet {
    Packet {
        hook: HookPoint::Forward,
        in_link: Some("mgy0".into()),
        out_link: Some("eth0".into()),
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.2".parse().unwrap(),
        protocol: 6,
        icmp_type: None,
        connection: Some(Connection {
            state: CtState::New,
            direction: CtDirection::Original,
            client: "10.0.0.1".parse().unwrap(),
            server: "10.0.0.2".parse().unwrap(),
            server_port: 80,
            mark: 7,
        }),
    }
}

fn chain(priority: i32, rules: Vec<(Vec<Match>, Action)>) -> Chain {
    let hook = Hook {
        point: HookPoint::Forward,
        priority,
        chain_type: ChainType::Filter,
    };
    Chain {
        hook: Some(hook),
        ..regular(rules)
    }
}

fn regular(rules: Vec<(Vec<Match>, Action)>) -> Chain {
    let rule = |(matches, action)| Rule {
        matches,
        action,
        comment: String::new(),
    };
    Chain {
        hook: None,
        rules: rules.into_iter().map(rule).collect(),
    }
}

fn verdict(verdict: Verdict) -> Action {
    Action::Verdict(verdict)
}

fn ruleset(chains: Vec<(&str, Chain)>) -> Ruleset {
    let chains = chains
        .into_iter()
        .map(|(name, chain)| (name.to_owned(), chain))
        .collect();
    Ruleset {
        sets: BTreeMap::new(),
        chains,
    }
}

fn passes(matches: Match, packet: &Packet) -> bool {
    let rules = vec![
        (vec![matches], verdict(Verdict::Accept)),
        (vec![], verdict(Verdict::Drop)),
    ];
    run(&ruleset(vec![("c", chain(0, rules))]), packet).accepted
}

#[test]
fn jump_comes_back_and_goto_does_not() {
    let after = |enter: Verdict| {
        let base = chain(
            0,
            vec![(vec![], verdict(enter)), (vec![], verdict(Verdict::Drop))],
        );
        let aside = regular(vec![
            (vec![], verdict(Verdict::Return)),
            (vec![], verdict(Verdict::Drop)),
        ]);
        run(&ruleset(vec![("base", base), ("aside", aside)]), &packet())
    };
    let jump = after(Verdict::Jump("aside".into()));
    assert!(!jump.accepted);
    assert_eq!(
        jump.trace,
        [("base".into(), 0), ("aside".into(), 0), ("base".into(), 1)]
    );
    assert!(
        after(Verdict::Goto("aside".into())).accepted,
        "the default verdict"
    );
}

#[test]
fn every_base_chain_of_the_hook_must_accept_in_order_of_priority() {
    let stamp = chain(
        -1,
        vec![
            (vec![], Action::Stamp(3 << 20)),
            (vec![], verdict(Verdict::Accept)),
        ],
    );
    let drop = chain(1, vec![(vec![], verdict(Verdict::Drop))]);
    let outcome = run(&ruleset(vec![("a", drop), ("b", stamp)]), &packet());
    assert!(!outcome.accepted);
    assert_eq!(outcome.mark, 3 << 20 | 7, "the other bits of the mark stay");
    assert_eq!(
        outcome.trace,
        [("b".into(), 0), ("b".into(), 1), ("a".into(), 0)]
    );
}

#[test]
fn what_a_packet_lacks_breaks_the_rule_also_for_a_negative_match() {
    let mut bare = packet();
    bare.connection = None;
    bare.out_link = None;
    assert!(!passes(Match::OurLink(Side::Out, Test::IsNot), &bare));
    assert!(passes(Match::OurLink(Side::In, Test::Is), &bare));
    assert!(!passes(Match::Direction(CtDirection::Original), &bare));
    assert!(!passes(
        Match::In(vec![Field::Epoch], "absent".into(), Test::IsNot),
        &bare
    ));
    assert!(passes(
        Match::In(vec![Field::Epoch], "absent".into(), Test::IsNot),
        &packet()
    ));
    assert!(!passes(Match::Icmp6Types(BTreeSet::from([135])), &packet()));
    let other_family = Match::Address(
        Field::Client(Family::V6),
        "::/0".parse().unwrap(),
        Test::IsNot,
    );
    assert!(!passes(other_family, &packet()));
}

#[test]
fn a_range_set_holds_the_addresses_of_its_prefixes() {
    let nets = ["10.0.0.0/31", "10.0.0.4/32", "10.0.1.0/24"];
    let elements = nets.map(|net| (vec![KeyValue::Prefix(net.parse().unwrap())], None));
    let set = Set {
        key: vec![KeyType::Ip4],
        kind: SetKind::Ranges,
        room: None,
        elements: elements.into(),
    };
    let found =
        |address: &str| find(&set, &vec![KeyValue::Address(address.parse().unwrap())]).is_some();
    let inside = ["10.0.0.0", "10.0.0.1", "10.0.0.4", "10.0.1.0", "10.0.1.255"];
    let outside = [
        "9.255.255.255",
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.5",
        "10.0.2.0",
        "::1",
    ];
    assert!(inside.into_iter().all(found));
    assert!(!outside.into_iter().any(found));
}
