//! Addresses and blocks in the spellings that stored objects have.
//!
//! Kubernetes accepted what Go's old parsers did: leading zeros (decimal) and host bits are read as
//! they were meant. A block of IPv4-mapped IPv6 addresses is refused: it is what new API servers
//! refuse, and peers read it in two ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Reads an address; an IPv4-mapped one is the IPv4 address.
///
/// # Errors
/// What is wrong, for people.
pub fn address(text: &str) -> Result<IpAddr, String> {
    parse(text)
        .map(|address| address.to_canonical())
        .ok_or_else(|| format!("`{text}` is not an IP address"))
}

/// Reads `address/length` and clears the host bits.
///
/// # Errors
/// What is wrong, for people.
pub fn block(text: &str) -> Result<IpNet, String> {
    let wrong = || format!("`{text}` is not a CIDR");
    let Some((address, length)) = text.split_once('/') else {
        return Err(match parse(text) {
            Some(_) => format!("`{text}` is not a CIDR: it has no prefix length"),
            None => wrong(),
        });
    };
    let address = parse(address).ok_or_else(wrong)?;
    if length.is_empty() || length.len() > 3 || !length.bytes().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let length: u8 = length.parse().map_err(|_| wrong())?;
    // No packet has such an address, and readers differ in what they take it for: not to be used.
    if let IpAddr::V6(v6) = address
        && let (Some(v4), 96..=128) = (v6.to_ipv4_mapped(), length)
    {
        let meant = IpNet::new(IpAddr::V4(v4), length - 96).map_err(|_| wrong())?;
        return Err(format!(
            "`{text}` is an IPv4 block written as IPv6; write {}",
            meant.trunc()
        ));
    }
    IpNet::new(address, length)
        .map(|block| block.trunc())
        .map_err(|_| wrong())
}

fn parse(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    } else {
        let mut octets = [0; 4];
        let mut parts = text.split('.');
        for octet in &mut octets {
            let part = parts.next()?;
            if part.is_empty() || !part.bytes().all(|c| c.is_ascii_digit()) {
                return None;
            }
            *octet = part.parse().ok()?;
        }
        parts
            .next()
            .is_none()
            .then_some(IpAddr::V4(Ipv4Addr::from(octets)))
    }
}
