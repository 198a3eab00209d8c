use std::fs;

use super::{keep, load, path};

#[test]
fn claims_are_read_back_as_they_were_kept() {
    let state = tempfile::tempdir().unwrap();
    assert!(load(state.path()).unwrap().is_empty(), "the first start");
    let claims = [("10.244.0.0/26", "n1"), ("fd00::40/122", "n2")];
    let claims = claims
        .into_iter()
        .map(|(block, node)| {
            (
                block.parse().unwrap(),
                margay_policy::model::NodeName(node.to_owned()),
            )
        })
        .collect();
    keep(&path(state.path()), &claims).unwrap();
    assert_eq!(load(state.path()).unwrap(), claims);
}

#[test]
fn damaged_claims_stop_the_start_and_the_message_says_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    fs::write(path(state.path()), "{\"blocks\":{\"10.244.0.0/26\":").unwrap();
    let error = format!("{:#}", load(state.path()).unwrap_err());
    assert!(
        error.contains("claims.json is damaged") && error.contains("restore it"),
        "{error}"
    );
}
