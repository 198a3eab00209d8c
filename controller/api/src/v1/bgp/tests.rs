use super::*;

#[test]
fn communities_are_written_as_they_are_read() {
    for text in ["64512:100", "0:65535", "64512:100:4294967295", "no-export"] {
        let community = Community::try_from(text.to_owned()).unwrap();
        assert_eq!(String::from(community), text);
    }
    let known = Community::try_from("65535:65281".to_owned()).unwrap();
    assert_eq!(known, Community::Standard(0xffff_ff01));
    for text in ["", "64512", "65536:1", "1:2:3:4", "a:b", "1:-1"] {
        let why = Community::try_from(text.to_owned()).unwrap_err();
        assert!(why.contains("is no community"), "{why}");
    }
}

#[test]
fn patterns_over_as_paths_are_written_as_they_are_read() {
    for text in ["* 65000", "64512-65534 ? *", ""] {
        let pattern = AsPathPattern::try_from(text.to_owned()).unwrap();
        assert_eq!(String::from(pattern), text);
    }
    for text in ["x", "1-", "4294967296"] {
        assert!(AsPathPattern::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn a_password_is_in_one_place() {
    let secret = SecretKeyRef {
        name: "tor".to_owned(),
        key: "password".to_owned(),
    };
    let source = |secret_key_ref, file: Option<&str>| PasswordSource {
        secret_key_ref,
        file: file.map(str::to_owned),
    };
    assert_eq!(source(Some(secret.clone()), None).check("p"), Ok(()));
    assert_eq!(source(None, Some("/etc/tor")).check("p"), Ok(()));
    for wrong in [
        source(None, None),
        source(Some(secret), Some("/etc/tor")),
        source(None, Some("tor")),
        source(Some(SecretKeyRef::default()), None),
    ] {
        assert!(wrong.check("p").is_err(), "{wrong:?}");
    }
}
