//! Our messages as another implementation reads and writes them: `netlink-packet-netfilter`.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_netfilter::nftables::{ListAttribute, NfTablesMessage, RuleAttribute};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};

use crate::wire::{Head, take_message};
use crate::{Batch, Expr, Rule, Verdict};

use super::scratch::{element, table, world};

/// All messages of a batch: their heads, what follows the netlink header, and what the other implementation makes of it.
fn messages(batch: Batch) -> Vec<(Head, Vec<u8>, NetfilterMessage)> {
    let octets = batch.finish().unwrap().octets;
    let mut rest = octets.as_slice();
    let mut messages = Vec::new();
    while let Some((head, payload)) = take_message(&mut rest).unwrap() {
        let mut header = NetlinkHeader::default();
        header.message_type = head.kind;
        let message = NetfilterMessage::deserialize(&header, payload).unwrap();
        messages.push((head, payload.to_vec(), message));
    }
    messages
}

/// One of everything.
fn everything() -> Batch {
    let mut batch = world().batch();
    let rule = Rule::new(vec![Expr::Verdict(Verdict::Accept)], "a comment");
    batch.replace_rule("forward", 5, &rule);
    batch.insert_rule_before("forward", u64::MAX, &rule);
    batch.delete_rule("forward", 6);
    batch.flush_chain("forward");
    batch.flush_set("from_pod");
    batch.delete_elements("from_pod", [element(&[10, 0, 0, 1], None)]);
    batch.delete_set("from_pod");
    batch.delete_chain("judge");
    batch.delete_table();
    batch
}

#[test]
fn the_other_implementation_writes_the_same_octets() {
    for (head, payload, message) in messages(everything()) {
        let mut theirs = vec![0; message.buffer_len()];
        message.serialize(&mut theirs);
        assert_eq!(theirs, payload, "{head:?}: {message:?}");
    }
}

#[test]
fn the_other_implementation_finds_every_expression_and_nothing_unknown() {
    let mut rules = Vec::new();
    for (_, _, message) in messages(world().batch()) {
        if let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = message.inner {
            rules.push(rule);
        }
    }
    let ours = world().rules;
    assert_eq!(rules.len(), ours.len());
    for (rule, (chain, ours)) in rules.iter().zip(&ours) {
        let mut names = Vec::new();
        for attribute in &rule.attributes {
            let RuleAttribute::Expressions(list) = attribute else {
                continue;
            };
            for element in list {
                let ListAttribute::Element(attributes) = element else {
                    panic!("{element:?}")
                };
                names.push(format!("{:?}", attributes[0]));
            }
        }
        let expected: Vec<String> = ours
            .exprs()
            .iter()
            .map(|expr| format!("Name({:?})", expr.name()))
            .collect();
        assert_eq!(names, expected, "chain {chain}");
        assert!(
            rule.attributes
                .contains(&RuleAttribute::Table(table().name))
        );
        assert!(
            !rule
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, RuleAttribute::Other(_))),
            "{rule:?}"
        );
    }
}
