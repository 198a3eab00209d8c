use super::*;

/// As `nft -j list table` prints it, with a forward chain of this policy and these rules in it.
fn findings(policy: &str, rules: &[&str]) -> Vec<&'static str> {
    let place = r#""family":"inet","table":"fw","chain":"forward","handle":9"#;
    let rules: Vec<String> = rules
        .iter()
        .map(|rule| format!(r#",{{"rule":{{{place},"expr":[{rule}]}}}}"#))
        .collect();
    let rules = rules.concat();
    let text = format!(
        r#"{{"nftables":[
            {{"metainfo":{{"version":"1.0.6","release_name":"x","json_schema_version":1}}}},
            {{"table":{{"family":"inet","name":"fw","handle":1}}}},
            {{"chain":{{"family":"inet","table":"fw","name":"forward","handle":2,"type":"filter","hook":"forward","prio":0,"policy":"{policy}"}}}},
            {{"chain":{{"family":"inet","table":"fw","name":"deeper","handle":3}}}},
            {{"rule":{{"family":"inet","table":"fw","chain":"deeper","handle":4,"expr":[{{"drop":null}}]}}}}
            {rules}]}}"#
    );
    let table: Nftables<'static> = serde_json::from_str(&text).unwrap();
    judge(&table).iter().map(|finding| finding.id).collect()
}

const SPARE_IN: &str =
    r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"mgy*"}},{"accept":null}"#;
const SPARE_OUT: &str =
    r#"{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"mgy*"}},{"accept":null}"#;

#[test]
fn a_chain_that_accepts_has_no_finding() {
    assert_eq!(findings("accept", &[]), [""; 0]);
    assert_eq!(findings("accept", &[r#"{"accept":null}"#]), [""; 0]);
}

#[test]
fn a_chain_that_drops_by_default_is_a_failure_unless_it_spares_our_links() {
    assert_eq!(findings("drop", &[]), ["MGY-D040"]);
    assert_eq!(findings("drop", &[SPARE_IN]), ["MGY-D040"]);
    assert_eq!(findings("drop", &[SPARE_IN, SPARE_OUT]), [""; 0]);
}

#[test]
fn rules_that_drop_are_a_warning_also_behind_a_jump() {
    assert_eq!(findings("accept", &[r#"{"drop":null}"#]), ["MGY-D041"]);
    assert_eq!(
        findings("accept", &[r#"{"jump":{"target":"deeper"}}"#]),
        ["MGY-D041"]
    );
    assert_eq!(
        findings("accept", &[r#"{"jump":{"target":"absent"}}"#]),
        [""; 0]
    );
}
