//! What was encoded is what is read back.

use std::collections::BTreeSet;

use crate::{
    Batch, Chain, Element, FieldType, PlacedRule, Role, Rule, Set, SetOrder, SetValue, Socket,
    TableFlags, Verdict,
};

use super::scratch::{commit, element, in_netns, nft_script, set, table, world};

fn elements(socket: &mut Socket, set: &str) -> Vec<Element> {
    socket
        .steadily(|socket| socket.elements(&table(), set))
        .unwrap()
        .1
}

/// As [`Set`]s are read: without what only nft needs.
fn as_read(set: &Set) -> Set {
    let mut set = set.clone();
    set.key.byte_order = None;
    set
}

fn rules_of(rules: &[PlacedRule], chain: &str) -> Vec<Rule> {
    rules
        .iter()
        .filter(|rule| rule.chain == chain)
        .map(|rule| rule.rule.clone())
        .collect()
}

#[test]
fn every_object_is_read_back_as_it_was_written() {
    in_netns(|| {
        let world = world();
        let mut socket = Socket::open().unwrap();
        socket.commit(world.batch()).unwrap();

        let by_name = |mut chains: Vec<Chain>| {
            chains.sort_by(|a, b| a.name.cmp(&b.name));
            chains
        };
        assert_eq!(
            by_name(socket.chains(&table()).unwrap()),
            by_name(world.chains.clone())
        );

        let rules = socket.rules(&table()).unwrap();
        for chain in &world.chains {
            let written: Vec<Rule> = world
                .rules
                .iter()
                .filter(|(of, _)| *of == chain.name)
                .map(|(_, rule)| rule.clone())
                .collect();
            assert_eq!(
                rules_of(&rules, &chain.name),
                written,
                "chain {}",
                chain.name
            );
        }

        let sets = socket.sets(&table()).unwrap();
        assert_eq!(sets.len(), world.sets.len());
        for (set, written) in &world.sets {
            assert!(sets.contains(&as_read(set)), "{set:?} among {sets:?}");
            let mut written = written.clone();
            written.sort_by_key(|element| (element.key, element.role));
            assert_eq!(
                elements(&mut socket, &set.name),
                written,
                "set {}",
                set.name
            );
        }
    });
}

#[test]
fn rules_that_nft_makes_of_the_same_words_are_the_same() {
    in_netns(|| {
        let world = world();
        commit(world.batch());
        let mut socket = Socket::open().unwrap();
        let ours = socket.rules(&table()).unwrap();
        // `judge` has a constant in a concatenation, `known` sets a mark: nft's language has no, or other, words for them.
        let same = ["raw", "forward", "nat"];
        nft_script(
            r#"flush chain inet scratch raw; flush chain inet scratch forward; flush chain inet scratch nat
            add rule inet scratch raw iifname != "mgy*" accept comment "not ours"
            add rule inet scratch raw iifname . ip saddr != @pod_source counter drop
            add rule inet scratch forward ct state invalid,untracked drop
            add rule inet scratch forward ct original ip saddr vmap @from_pod
            add rule inet scratch forward jump judge
            add rule inet scratch nat masquerade comment "leaves the pools""#,
        )
        .unwrap();
        let theirs = socket.rules(&table()).unwrap();
        for chain in same {
            assert_eq!(
                rules_of(&theirs, chain),
                rules_of(&ours, chain),
                "chain {chain}"
            );
        }
    });
}

#[test]
fn a_hundred_thousand_elements_go_in_one_batch_and_come_back() {
    in_netns(|| {
        let all = || (0..100_000_u32).map(|i| element(&(0x0a00_0000 + i).to_be_bytes(), None));
        let mut batch = Batch::new(table(), None);
        batch.add_table(TableFlags::default());
        batch.add_set(&set(
            "many",
            &[FieldType::IPV4],
            SetOrder::Keys,
            SetValue::Nothing,
        ));
        batch.add_elements("many", all());
        assert!(batch.octets() > 1 << 20);
        commit(batch);

        let mut socket = Socket::open().unwrap();
        let read: BTreeSet<_> = elements(&mut socket, "many")
            .into_iter()
            .map(|element| element.key)
            .collect();
        assert_eq!(read, all().map(|element| element.key).collect());

        let mut batch = Batch::new(table(), None);
        batch.delete_elements("many", all().skip(1));
        socket.commit(batch).unwrap();
        assert_eq!(
            elements(&mut socket, "many"),
            [element(&[10, 0, 0, 0], None)]
        );
    });
}

#[test]
fn rules_are_replaced_inserted_and_deleted_by_handle() {
    in_netns(|| {
        commit(world().batch());
        let mut socket = Socket::open().unwrap();
        let rule = |comment: &str| Rule::new(vec![crate::Expr::Verdict(Verdict::Accept)], comment);
        let rules = socket.rules(&table()).unwrap();
        let handles: Vec<u64> = rules
            .iter()
            .filter(|rule| rule.chain == "forward")
            .map(|rule| rule.handle)
            .collect();

        let mut batch = Batch::new(table(), None);
        batch.replace_rule("forward", handles[1], &rule("replaced"));
        batch.insert_rule_before("forward", handles[0], &rule("first"));
        batch.delete_rule("forward", handles[2]);
        batch.flush_chain("raw");
        batch.flush_set("from_pod");
        socket.commit(batch).unwrap();

        let rules = socket.rules(&table()).unwrap();
        let comments: Vec<String> = rules_of(&rules, "forward")
            .iter()
            .map(|rule| rule.comment().to_owned())
            .collect();
        assert_eq!(comments, ["first", "", "replaced"]);
        assert_eq!(rules_of(&rules, "raw"), []);
        assert_eq!(elements(&mut socket, "from_pod"), []);
    });
}

#[test]
fn destroying_what_is_not_there_is_fine() {
    in_netns(|| {
        let mut batch = world().batch();
        batch.destroy_chain("absent");
        batch.destroy_set("absent");
        batch.destroy_elements(
            "from_pod",
            [element(&[1, 2, 3, 4], None), element(&[10, 0, 0, 1], None)],
        );
        commit(batch);
        let mut socket = Socket::open().unwrap();
        assert_eq!(elements(&mut socket, "from_pod").len(), 1);
        for _ in 0..2 {
            let mut batch = Batch::new(table(), None);
            batch.destroy_table();
            socket.commit(batch).unwrap();
        }
        assert_eq!(socket.tables().unwrap(), []);
    });
}

#[test]
fn what_others_put_there_is_told_apart_and_not_an_error() {
    in_netns(|| {
        nft_script(
            r#"table inet scratch {
                map ports { typeof tcp dport : ip daddr; elements = { 80 : 10.0.0.1 } }
                set everything { type ipv4_addr; flags interval; elements = { * } }
                set timed { type ipv4_addr; timeout 1h; elements = { 10.0.0.1 } }
                chain c { type filter hook input priority 0; policy drop; limit rate 5/second log prefix "x" reject; }
            }"#,
        )
        .unwrap();
        let mut socket = Socket::open().unwrap();
        let sets = socket.sets(&table()).unwrap();
        assert!(
            sets.iter()
                .any(|set| set.name == "ports" && matches!(set.value, SetValue::Other(_))),
            "{sets:?}"
        );
        let timed = sets.iter().find(|set| set.name == "timed").unwrap();
        assert!(matches!(timed.order, SetOrder::Other(_)), "{timed:?}");
        assert!(
            elements(&mut socket, "everything")
                .iter()
                .any(|element| element.role == Role::Other)
        );
        assert_eq!(
            elements(&mut socket, "timed"),
            [element(&[10, 0, 0, 1], None)]
        );
        let rules = socket.rules(&table()).unwrap();
        let names: Vec<&str> = rules[0]
            .rule
            .exprs()
            .iter()
            .map(crate::Expr::name)
            .collect();
        assert_eq!(names, ["limit", "log", "reject"]);
    });
}

#[test]
fn reading_is_repeated_until_nothing_changed_meanwhile() {
    in_netns(|| {
        commit(world().batch());
        let mut socket = Socket::open().unwrap();
        let mut reads = 0;
        let (generation, rules) = socket
            .steadily(|socket| {
                reads += 1;
                let rules = socket.rules(&table())?;
                if reads == 1 {
                    let mut batch = Batch::new(table(), None);
                    batch.flush_chain("forward");
                    commit(batch);
                }
                Ok(rules)
            })
            .unwrap();
        assert_eq!(reads, 2);
        assert_eq!(generation, socket.generation().unwrap());
        assert_eq!(rules_of(&rules, "forward"), []);
        let never = socket.steadily(|_| {
            let mut batch = Batch::new(table(), None);
            batch.add_rule("forward", &Rule::new(vec![], "another"));
            commit(batch);
            Ok(())
        });
        let error = never.unwrap_err().to_string();
        assert_eq!(
            error,
            "the ruleset changed during each of 10 attempts to read it"
        );
    });
}
