use serde_json::json;

use super::*;

#[test]
fn a_path_is_one_row_with_its_marks() {
    let path = json!({
        "peer": "tor", "next_hop": "192.0.2.1", "as_path": "65000 65001", "local_pref": 200,
        "communities": ["1:2"], "large_communities": ["1:2:3"], "selected": true, "stale": true,
        "why": "higher LOCAL_PREF",
    });
    let expected = [
        "*s",
        "10.0.0.0/26",
        "192.0.2.1",
        "tor",
        "65000 65001",
        "200",
        "-",
        "1:2 1:2:3",
        "higher LOCAL_PREF",
    ];
    assert_eq!(
        row(&json!("10.0.0.0/26"), &path),
        expected.map(str::to_owned)
    );
}

#[test]
fn what_is_not_there_is_a_dash() {
    assert_eq!(word(&json!(null)), "-");
    assert_eq!(word(&json!("")), "-");
    assert_eq!(word(&json!(7)), "7");
    assert_eq!(words(&json!(["IPv4", "IPv6"]), " "), "IPv4 IPv6");
    assert_eq!(words(&json!([]), " "), "-");
}
