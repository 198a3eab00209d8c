use std::fs;

use margay_policy::model::NodeName;

use super::{Denied, Tokens};

#[test]
fn a_token_is_good_for_its_own_node_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(
        &path,
        "# nodes\nn1 secret-one\nn1 new-secret # rotation\nn2 secret-two\nodd line here\n",
    )
    .unwrap();
    let tokens = Tokens::open(&path).unwrap();
    for good in ["secret-one", "new-secret"] {
        assert_eq!(tokens.check(&node("n1"), good), Ok(()));
    }
    for wrong in ["", "secret-on", "secret-one ", "line", "here", "#"] {
        assert_eq!(
            tokens.check(&node("n1"), wrong),
            Err(Denied::Wrong(node("n1"))),
            "{wrong}"
        );
    }
    let other = tokens.check(&node("n2"), "secret-one").unwrap_err();
    assert_eq!(
        other.to_string(),
        "the token belongs to node n1, which may not speak for node n2"
    );
}

#[test]
fn a_token_that_two_nodes_share_is_good_for_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, "n1 same\nn2 same\nn3 same\n").unwrap();
    let tokens = Tokens::open(&path).unwrap();
    for name in ["n1", "n2", "n3"] {
        assert_eq!(tokens.check(&node(name), "same"), Ok(()));
    }
}

#[test]
fn new_tokens_are_read_without_restart_and_a_lost_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    fs::write(&path, "n1 secret-one\n").unwrap();
    let tokens = Tokens::open(&path).unwrap();
    assert!(tokens.check(&node("n2"), "secret-two").is_err());
    fs::write(&path, "n1 secret-one\nn2 secret-two\n").unwrap();
    assert_eq!(tokens.check(&node("n2"), "secret-two"), Ok(()));
    fs::remove_file(&path).unwrap();
    assert_eq!(tokens.check(&node("n2"), "secret-two"), Ok(()));
}

fn node(name: &str) -> NodeName {
    NodeName(name.to_owned())
}
