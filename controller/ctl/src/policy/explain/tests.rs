use super::*;

fn port(text: &str) -> Result<(String, Number), String> {
    text.parse::<Port>()
        .map(|port| (port.protocol.to_string(), port.number))
}

#[test]
fn a_port_is_written_in_several_ways() {
    let number = |protocol: &str, number| Ok((protocol.to_owned(), Number::Number(number)));
    assert_eq!(port("tcp/5432"), number("TCP", 5432));
    assert_eq!(port("5432"), number("TCP", 5432));
    assert_eq!(port("UDP/53"), number("UDP", 53));
    assert_eq!(port("icmp"), number("ICMP", 0));
    assert_eq!(port("47/0"), number("47", 0));
    assert_eq!(
        port("udp/dns"),
        Ok(("UDP".to_owned(), Number::Name("dns".to_owned())))
    );
    assert_eq!(
        port("http"),
        Ok(("TCP".to_owned(), Number::Name("http".to_owned())))
    );
}

#[test]
fn what_is_no_port_is_refused() {
    for text in [
        "",
        "tcp/",
        "tcp/70000",
        "tcp/0",
        "quic/1",
        "icmp/echo",
        "-1",
    ] {
        assert!(port(text).is_err(), "{text}");
    }
}
