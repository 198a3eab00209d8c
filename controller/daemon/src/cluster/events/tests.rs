use super::*;

#[test]
fn what_stays_true_is_said_again_once_the_api_server_may_have_forgotten_it() {
    let mut written = Written::default();
    let begun = clock::now();
    written.0.insert("shop/a.1".to_owned(), begun);
    written.0.insert("shop/b.2".to_owned(), begun + STANDS / 2);
    written.expire(begun + STANDS / 2);
    assert_eq!(written.0.len(), 2);
    written.expire(begun + STANDS);
    assert_eq!(written.0.keys().collect::<Vec<_>>(), ["shop/b.2"]);
    written.expire(begun + STANDS * 2);
    assert!(written.0.is_empty(), "nothing is remembered for ever");
}

#[test]
fn an_events_name_is_one_however_long_the_objects_is() {
    let digest = "0123456789abcdef";
    assert_eq!(event_name("web", digest), "web.0123456789abcdef");
    let longest = "a".repeat(253);
    let whole = event_name(&longest, digest);
    assert_eq!(whole.len(), 253);
    assert!(whole.ends_with("a.0123456789abcdef"), "{whole}");
    // The cut falls behind signs that no part of a name ends with.
    for end in [".", "-", "-.", "--"] {
        let name = format!("{}{end}{}", "a".repeat(236 - end.len()), "b".repeat(17));
        let cut = event_name(&name, digest);
        let expected = format!("{}.{digest}", "a".repeat(236 - end.len()));
        assert_eq!(cut, expected);
    }
}

#[test]
fn an_event_that_is_refused_keeps_no_other_back() {
    for code in [400, 403, 404, 409, 413, 422] {
        assert!(is_about_this_one(code), "{code}");
    }
    for code in [401, 408, 429, 500, 503] {
        assert!(!is_about_this_one(code), "{code}");
    }
}

#[test]
fn only_what_closes_something_is_said_to_fail_closed() {
    let kinds = ["NetworkPolicy", "Pod", "Node", "IPPool", "BGPPeer"];
    let reasons = kinds.map(reason_of);
    let expected = [
        "FailsClosed",
        "Ignored",
        "UnclearAddress",
        "SelectsNothing",
        "SelectsNothing",
    ];
    assert_eq!(reasons, expected);
}
