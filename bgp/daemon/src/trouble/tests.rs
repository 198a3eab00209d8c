use super::*;
use crate::transport::Password;

const BEFORE: &str =
    "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPMinTTLDrop
TcpExt: 7 1 2 3 4
IpExt: InNoRoutes
IpExt: 0
";

fn transport(password: bool, ttl: Ttl) -> Transport {
    Transport {
        password: password.then(|| Password::try_from("secret".to_owned()).unwrap()),
        ttl,
        ..Transport::default()
    }
}

#[test]
fn what_the_kernel_counts_is_told_of_the_peers_that_it_fits() {
    let before = Counters::parse(BEFORE);
    let security = Ttl::Security(std::num::NonZeroU8::MIN);
    let found = |after: &str, password, ttl| {
        let after = Counters::parse(&BEFORE.replace("7 1 2 3 4", after));
        after.since(before, &transport(password, ttl))
    };
    assert_eq!(found("7 1 2 3 4", true, security), None);
    assert_eq!(
        found("7 1 2 4 4", true, Ttl::Any),
        Some(Trouble::OtherPassword)
    );
    assert_eq!(found("7 1 2 4 4", false, Ttl::Any), None);
    assert_eq!(found("7 2 2 3 4", true, Ttl::Any), Some(Trouble::Unsigned));
    assert_eq!(found("7 1 3 3 4", false, Ttl::Any), Some(Trouble::Signed));
    assert_eq!(found("7 1 3 3 4", true, Ttl::Any), None);
    let far = Trouble::TooFar { ttl: None };
    assert_eq!(found("7 1 2 3 5", true, security), Some(far));
    assert_eq!(found("7 1 2 3 5", true, Ttl::Any), None);
}

#[test]
fn a_file_that_is_something_else_counts_nothing() {
    for text in [
        "",
        "TcpExt:",
        "TcpExt: TCPMD5Failure",
        "a\nb\nc",
        "TCPMD5Failure\nx",
    ] {
        assert_eq!(Counters::parse(text), Counters::default());
    }
}
