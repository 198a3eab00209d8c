//! Every rule and element is recognised again.

use std::collections::BTreeSet;

use margay_dataplane::diff::ActualRule;
use margay_dataplane::ruleset::{
    Action, CtDirection, CtState, Family, Field, KeyValue, Match, Rule, Side, Test, Verdict,
};
use margay_nftnl as nft;

use crate::nft::encode;
use crate::nft::read::actual_rule;

fn fields() -> Vec<Field> {
    let mut fields = vec![
        Field::InLink,
        Field::OutLink,
        Field::Protocol,
        Field::ServerPort,
        Field::Id(u128::MAX - 5),
        Field::Epoch,
    ];
    for family in Family::BOTH {
        fields.extend([
            Field::Source(family),
            Field::Destination(family),
            Field::Client(family),
            Field::Server(family),
        ]);
    }
    fields
}

/// Keys of one and of two fields.
fn keys() -> Vec<Vec<Field>> {
    let family = |field: &Field| encode::header_family(*field);
    let mut keys: Vec<Vec<Field>> = fields().into_iter().map(|field| vec![field]).collect();
    for first in fields() {
        for second in fields() {
            // a packet has one family
            if family(&first).is_none()
                || family(&second).is_none()
                || family(&first) == family(&second)
            {
                keys.push(vec![first, second]);
            }
        }
    }
    keys.push(vec![
        Field::Id(1),
        Field::Client(Family::V6),
        Field::Protocol,
        Field::ServerPort,
    ]);
    keys
}

fn matches() -> Vec<Match> {
    let tests = [Test::Is, Test::IsNot];
    let prefixes = [
        "10.0.0.0/8",
        "10.1.2.3/32",
        "0.0.0.0/0",
        "10.128.0.0/9",
        "fe80::/10",
        "::/128",
        "2001:db8::/33",
    ];
    let mut all = vec![
        Match::Protocol(6),
        Match::Protocol(0),
        Match::ServerPort(80, 80),
        Match::ServerPort(0, 65535),
        Match::ServerPort(1024, 2047),
    ];
    for types in [
        vec![],
        vec![0],
        vec![255],
        vec![133, 135, 136],
        vec![131, 132, 133, 135, 136, 143],
        (0..=255).collect(),
    ] {
        all.push(Match::Icmp6Types(
            types.into_iter().collect::<BTreeSet<u8>>(),
        ));
    }
    for test in tests {
        all.extend([Side::In, Side::Out].map(|side| Match::OurLink(side, test)));
        all.extend(
            keys()
                .into_iter()
                .map(|key| Match::In(key, "a-set".into(), test)),
        );
        for prefix in prefixes {
            let prefix: ipnet::IpNet = prefix.parse().unwrap();
            let family = Family::of(&prefix.addr());
            for field in [
                Field::Source(family),
                Field::Destination(family),
                Field::Client(family),
                Field::Server(family),
            ] {
                all.push(Match::Address(field, prefix, test));
            }
        }
    }
    all.extend(Family::BOTH.map(Match::Family));
    all.extend([CtDirection::Original, CtDirection::Reply].map(Match::Direction));
    all.extend(CtState::ALL.map(|state| Match::CtStates([state].into())));
    all.push(Match::CtStates(CtState::ALL.into()));
    all
}

fn actions() -> Vec<Action> {
    let verdicts = [
        Verdict::Accept,
        Verdict::Drop,
        Verdict::Return,
        Verdict::Jump("there".into()),
        Verdict::Goto("there".into()),
    ];
    let mut actions: Vec<Action> = verdicts.into_iter().map(Action::Verdict).collect();
    actions.extend([
        Action::Stamp(0),
        Action::Stamp(0x0010_0000),
        Action::Masquerade,
    ]);
    actions.extend(
        keys()
            .into_iter()
            .map(|key| Action::Map(key, "a-map".into())),
    );
    actions
}

fn recognised(rule: &Rule) {
    let kernel = encode::rule(rule);
    assert_eq!(
        actual_rule(&kernel),
        ActualRule::Known(rule.clone()),
        "{kernel:?}"
    );
}

#[test]
fn every_match_with_every_action_is_recognised() {
    let actions = actions();
    for matches in matches() {
        for action in &actions {
            let comment = String::from("shop/web ingress[0]");
            recognised(&Rule {
                matches: vec![matches.clone()],
                action: action.clone(),
                comment,
            });
        }
    }
    for action in actions {
        recognised(&Rule {
            matches: Vec::new(),
            action,
            comment: String::new(),
        });
    }
}

#[test]
fn every_two_matches_in_a_row_are_recognised() {
    // all of the first kind with some of each kind, both ways round
    let some: Vec<Match> = matches()
        .into_iter()
        .step_by(7)
        .chain(Family::BOTH.map(Match::Family))
        .collect();
    for first in &some {
        for second in &some {
            for matches in [
                vec![first.clone(), second.clone()],
                vec![second.clone(), first.clone()],
            ] {
                recognised(&Rule {
                    matches,
                    action: Action::Verdict(Verdict::Drop),
                    comment: String::new(),
                });
            }
        }
    }
}

#[test]
fn different_rules_have_different_encodings() {
    let mut seen = std::collections::HashMap::new();
    for matches in matches() {
        let rule = Rule {
            matches: vec![matches],
            action: Action::Masquerade,
            comment: String::new(),
        };
        if let Some(other) = seen.insert(encode::rule(&rule), rule.clone()) {
            assert_eq!(other, rule);
        }
    }
}

#[test]
fn an_altered_rule_is_foreign_or_another() {
    let rule = Rule {
        matches: vec![
            Match::In(
                vec![Field::Id(7), Field::Client(Family::V4)],
                "members4".into(),
                Test::Is,
            ),
            Match::ServerPort(80, 90),
        ],
        action: Action::Verdict(Verdict::Goto("stamp".into())),
        comment: "web".into(),
    };
    let kernel = encode::rule(&rule);
    for at in 0..kernel.exprs().len() {
        let mut exprs = kernel.exprs().to_vec();
        exprs.remove(at);
        assert_ne!(
            actual_rule(&nft::Rule::new(exprs, "web")),
            ActualRule::Known(rule.clone()),
            "without {at}"
        );
        let mut exprs = kernel.exprs().to_vec();
        exprs.insert(
            at,
            nft::Expr::Counter {
                packets: 0,
                octets: 0,
            },
        );
        assert_eq!(
            actual_rule(&nft::Rule::new(exprs, "web")),
            ActualRule::Foreign,
            "with a counter at {at}"
        );
    }
    let commented = nft::Rule::new(kernel.exprs().to_vec(), "somebody else");
    assert_ne!(actual_rule(&commented), ActualRule::Known(rule));
}

#[test]
fn a_range_is_where_it_begins_and_the_first_address_behind_it() {
    let elements = |prefix: &str| -> Vec<String> {
        let key = [KeyValue::Prefix(prefix.parse().unwrap())];
        encode::element(&key, None)
            .map(|element| format!("{:?} {:?}", element.role, element.key))
            .collect()
    };
    assert_eq!(
        elements("10.0.0.0/24"),
        ["Key 0x0a000000", "End 0x0a000100"]
    );
    assert_eq!(
        elements("10.0.0.1/32"),
        ["Key 0x0a000001", "End 0x0a000002"]
    );
    assert_eq!(
        elements("128.0.0.0/1"),
        ["Key 0x80000000"],
        "nothing is behind the last address"
    );
    assert_eq!(elements("0.0.0.0/0"), ["Key 0x00000000"]);
    assert_eq!(
        elements("2001:db8::/32"),
        [
            "Key 0x20010db8000000000000000000000000",
            "End 0x20010db9000000000000000000000000"
        ]
    );
}

#[test]
fn a_key_of_several_fields_is_padded() {
    let key = [
        KeyValue::Link("mgy1".into()),
        KeyValue::Protocol(6),
        KeyValue::Port(80),
        KeyValue::Mark(8),
    ];
    let element = encode::element(&key, Some(&Verdict::Return))
        .next()
        .unwrap();
    let fields = ["6d677931000000000000000000000000", "06000000", "00500000"].concat();
    let mark = u32::from_be_bytes(8_u32.to_ne_bytes());
    let expected = format!("0x{fields}{mark:08x}");
    assert_eq!(format!("{:?}", element.key), expected);
    assert_eq!(element.verdict, Some(nft::Verdict::Return));
}
