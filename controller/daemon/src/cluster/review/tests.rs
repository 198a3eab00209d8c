use serde_json::json;

use super::*;

const AGENTS: &str = "system:serviceaccount:margay-system:margay-felix";

#[test]
fn a_token_of_an_agents_pod_is_good_for_its_node() {
    assert_eq!(
        judge(&answered(|_| ()), AGENTS),
        Ok(NodeName("n1".to_owned()))
    );
}

#[test]
fn every_claim_is_needed() {
    let refused = |change: fn(&mut serde_json::Value)| {
        judge(&answered(change), AGENTS).unwrap_err().to_string()
    };
    for (change, words) in [
        (
            (|status| status["authenticated"] = json!(false)) as fn(&mut serde_json::Value),
            "does not accept",
        ),
        (|status| status["audiences"] = json!(["other"]), "audience"),
        (|status| status["audiences"] = json!(null), "audience"),
        (
            |status| status["user"]["username"] = json!("system:serviceaccount:shop:web"),
            "belongs to system:serviceaccount:shop:web",
        ),
        (
            |status| status["user"]["username"] = json!("system:serviceaccount:shop:margay-felix"),
            "belongs to",
        ),
        (|status| status["user"]["extra"] = json!({}), "which node"),
        (
            |status| status["user"]["extra"][NODE_CLAIM] = json!(["n1", "n2"]),
            "which node",
        ),
        (
            |status| status["user"]["extra"][NODE_CLAIM] = json!([""]),
            "which node",
        ),
    ] {
        let reason = refused(change);
        assert!(reason.contains(words), "{reason}");
    }
    let nothing = TokenReview::default();
    assert!(judge(&nothing, AGENTS).is_err());
}

#[test]
fn a_token_says_when_it_expires() {
    // {"alg":"none"} . {"exp":1893456000,"sub":"ü?>"} . x
    let token = "eyJhbGciOiJub25lIn0.eyJleHAiOjE4OTM0NTYwMDAsInN1YiI6IsO8Pz4ifQ.x";
    assert_eq!(expiry(token), Some(1_893_456_000));
    for odd in ["", "a", "a.b", "a.!!.c", "a.e30.c"] {
        assert_eq!(expiry(odd), None, "{odd}");
    }
}

fn answered(change: impl Fn(&mut serde_json::Value)) -> TokenReview {
    let mut status = json!({
        "authenticated": true,
        "audiences": ["margay"],
        "user": {"username": AGENTS, "extra": {NODE_CLAIM: ["n1"]}},
    });
    change(&mut status);
    serde_json::from_value(json!({"spec": {"token": ""}, "metadata": {}, "status": status}))
        .unwrap()
}
