use serde_json::json;

use super::*;

fn said(stdout: &str, stderr: &str) -> Said {
    Said {
        success: false,
        stdout: stdout.into(),
        stderr: stderr.into(),
    }
}

#[test]
fn findings_are_taken_whatever_the_exit_status() {
    let finding = json!({
        "id": "MGY-D010", "level": "failure", "what": "w", "reason": "r", "fix": "f",
    });
    let page = json!({ "n1.example": [finding] }).to_string();
    let found = read(&said(&page, "")).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, "MGY-D010");
    assert_eq!(read(&said(r#"{"n1": []}"#, "")).unwrap(), []);
}

#[test]
fn an_answer_that_is_none_is_told_in_its_own_words() {
    let error = read(&said("", "unexpected argument '--in-pod'")).unwrap_err();
    assert_eq!(error.to_string(), "unexpected argument '--in-pod'");
    let error = read(&said("Hello", "")).unwrap_err();
    assert!(error.to_string().contains("same version"), "{error}");
}
