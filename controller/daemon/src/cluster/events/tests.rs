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
