use std::io;

use super::*;

#[test]
fn a_file_is_read_without_its_line_end_and_again_when_it_changes() {
    let mut passwords = Passwords::default();
    let file = bgp::Password::File("/etc/tor".to_owned());
    let of = |text: &str| Ok(Some(Password::try_from(text.to_owned()).unwrap()));
    let read = |text: &'static str| move |_: &str| Ok(text.to_owned());
    assert_eq!(passwords.of("tor", Some(&file), read("one\n")), of("one"));
    assert_eq!(passwords.of("tor", Some(&file), read("two")), of("two"));
    let gone = |_: &str| Err(io::Error::from(io::ErrorKind::NotFound));
    assert_eq!(
        passwords.of("tor", Some(&file), gone),
        of("two"),
        "what is used stays"
    );
    assert!(
        passwords
            .of("other", Some(&file), gone)
            .unwrap_err()
            .contains("/etc/tor")
    );
    assert!(passwords.of("other", Some(&file), read("")).is_err());
    passwords.retain(|_| false);
    assert!(passwords.of("tor", Some(&file), gone).is_err());
    assert_eq!(passwords.of("tor", None, gone), Ok(None));
}
