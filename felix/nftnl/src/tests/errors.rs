//! Errors name the operation that failed.

use crate::{
    Batch, Error, Expr, FieldType, Generation, Kind, Rule, SetOrder, SetValue, Socket, TableFlags,
    TableId, Test, Verb, Verdict,
};
use nix::errno::Errno;

use super::scratch::{base, commit, element, in_netns, plain, set, table};

/// An own table with a base chain, a chain and a set.
fn prepared() -> Batch {
    let mut batch = Batch::new(table(), None);
    batch.add_table(TableFlags::default());
    batch.add_chain(&base("forward", 2, 0, "filter"));
    batch.add_chain(&plain("one"));
    batch.add_set(&set(
        "addresses",
        &[FieldType::IPV4],
        SetOrder::Keys,
        SetValue::Nothing,
    ));
    batch.add_set(&set(
        "jumps",
        &[FieldType::IPV4],
        SetOrder::Keys,
        SetValue::Verdict,
    ));
    batch
}

fn refused(batch: Batch) -> Error {
    Socket::open().unwrap().commit(batch).unwrap_err()
}

#[test]
fn a_jump_to_a_chain_that_is_not_there_is_named() {
    in_netns(|| {
        let mut batch = prepared();
        batch.add_rule(
            "one",
            &Rule::new(vec![Expr::Verdict(Verdict::Accept)], "fine"),
        );
        batch.add_rule(
            "forward",
            &Rule::new(vec![Expr::Verdict(Verdict::Goto("nowhere".into()))], ""),
        );
        batch.add_rule(
            "one",
            &Rule::new(vec![Expr::Verdict(Verdict::Drop)], "also fine"),
        );
        let error = refused(batch);
        let Error::Refused { subject, errno, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(
            (subject.verb, subject.kind, subject.name.as_str()),
            (Verb::Add, Kind::Rule, "forward")
        );
        assert_eq!(*errno, Errno::ENOENT);
        assert_eq!(
            error.to_string(),
            "cannot add rule (goto nowhere) of chain forward in table inet scratch: no such object (or something it refers to \
             is missing) (ENOENT)"
        );
        assert_eq!(
            Socket::open().unwrap().tables().unwrap(),
            [],
            "nothing of the batch was done"
        );
    });
}

#[test]
fn a_lookup_in_a_set_that_is_not_there_is_named() {
    in_netns(|| {
        let mut batch = prepared();
        let key = crate::Register::FIRST;
        let exprs = vec![
            Expr::Meta {
                key: crate::MetaKey::Mark,
                to: key,
            },
            Expr::Lookup {
                set: "none".into(),
                key,
                test: Test::Is,
            },
        ];
        batch.add_rule("one", &Rule::new(exprs, ""));
        let error = refused(batch).to_string();
        assert!(
            error.starts_with(
                "cannot add rule (lookup in @none) of chain one in table inet scratch: "
            ),
            "{error}"
        );
    });
}

#[test]
fn a_set_with_another_key_under_a_taken_name_is_named() {
    in_netns(|| {
        commit(prepared());
        let mut batch = Batch::new(table(), None);
        batch.add_set(&set(
            "addresses",
            &[FieldType::IPV6],
            SetOrder::Keys,
            SetValue::Nothing,
        ));
        assert_eq!(
            refused(batch).to_string(),
            "cannot add set addresses in table inet scratch: it exists already, with other properties (EEXIST)"
        );
    });
}

#[test]
fn an_element_among_many_is_named() {
    in_netns(|| {
        commit(prepared());
        let mut batch = Batch::new(table(), None);
        let jump =
            |last: u8, chain: &str| element(&[10, 0, 0, last], Some(Verdict::Goto(chain.into())));
        batch.add_elements("jumps", [jump(1, "one"), jump(2, "two"), jump(3, "one")]);
        assert_eq!(
            refused(batch).to_string(),
            "cannot add element 0x0a000002 : goto two of set jumps in table inet scratch: no such object (or something it \
             refers to is missing) (ENOENT)"
        );
        let mut batch = Batch::new(table(), None);
        batch.delete_elements("addresses", [element(&[10, 0, 0, 7], None)]);
        let error = refused(batch).to_string();
        assert!(
            error.starts_with("cannot delete element 0x0a000007 of set addresses in"),
            "{error}"
        );
    });
}

#[test]
fn chains_in_a_loop_are_named() {
    in_netns(|| {
        let mut batch = prepared();
        batch.add_chain(&plain("two"));
        let jump = |to: &str| Rule::new(vec![Expr::Verdict(Verdict::Jump(to.into()))], "");
        batch.add_rule("forward", &jump("one"));
        batch.add_rule("one", &jump("two"));
        batch.add_rule("two", &jump("one"));
        let error = refused(batch);
        assert_eq!(error.errno(), Some(Errno::EMLINK));
        assert!(
            error
                .to_string()
                .contains("chains form a loop or nest too deep"),
            "{error}"
        );
    });
}

#[test]
fn a_chain_in_use_cannot_be_deleted() {
    in_netns(|| {
        let mut batch = prepared();
        batch.add_rule(
            "forward",
            &Rule::new(vec![Expr::Verdict(Verdict::Jump("one".into()))], ""),
        );
        commit(batch);
        let mut batch = Batch::new(table(), None);
        batch.delete_chain("one");
        assert_eq!(
            refused(batch).to_string(),
            "cannot delete chain one in table inet scratch: it is still in use (EBUSY)"
        );
    });
}

#[test]
fn a_batch_for_an_old_generation_is_stale_and_does_nothing() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let old = socket.generation().unwrap();
        commit(prepared());
        let mut batch = Batch::new(table(), Some(old));
        batch.delete_table();
        assert_eq!(socket.commit(batch), Err(Error::Stale));
        assert_eq!(socket.tables().unwrap().len(), 1);
        let present = socket.generation().unwrap();
        assert_eq!(present, old.next());
        let mut batch = Batch::new(table(), Some(present));
        batch.delete_table();
        assert_eq!(socket.commit(batch), Ok(()));
        assert_eq!(Generation(u32::MAX).next(), Generation(1));
    });
}

#[test]
fn many_errors_at_once_give_the_first() {
    in_netns(|| {
        let mut batch = prepared();
        for i in 0..5000 {
            batch.delete_chain(&format!("chain{i}"));
        }
        let error = refused(batch).to_string();
        assert!(
            error.starts_with("cannot delete chain chain0 in table inet scratch: "),
            "{error}"
        );
    });
}

#[test]
fn a_table_that_is_not_there_has_no_sets() {
    in_netns(|| {
        let mut socket = Socket::open().unwrap();
        let absent = TableId::inet("absent");
        assert_eq!(
            socket.sets(&absent).unwrap_err().errno(),
            Some(Errno::ENOENT)
        );
        assert_eq!(socket.rules(&absent).unwrap(), []);
        assert_eq!(socket.chains(&absent).unwrap(), []);
        assert_eq!(socket.table(&absent).unwrap(), None);
    });
}
