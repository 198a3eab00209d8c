use super::*;

#[test]
fn a_status_is_written_when_it_changes_and_then_rests() {
    let begun = clock::now();
    let status = |pods| NodeStatusStatus {
        pods,
        ..NodeStatusStatus::default()
    };
    assert!(is_due(None, &status(1), begun), "nothing was written yet");
    let last = (status(1), begun);
    let due = |pods, after| is_due(Some(&last), &status(pods), begun + after);
    assert!(!due(1, REST * 100), "it says the same");
    assert!(!due(2, Duration::ZERO));
    assert!(!due(2, REST / 2));
    assert!(due(2, REST));
}
