//! Addresses and blocks in the spellings that stored objects have.
//!
//! Kubernetes accepts what Go's old parsers accepted: leading zeros (decimal), IPv4 mapped into
//! IPv6, host bits set. They are read as Kubernetes reads them.

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
    // ::ffff:10.0.0.0/112 names the block 10.0.0.0/16, as Go's net.IPNet compares it.
    let (address, length) = match address {
        IpAddr::V6(v6) if (96..=128).contains(&length) => match v6.to_ipv4_mapped() {
            Some(v4) => (IpAddr::V4(v4), length - 96),
            None => (address, length),
        },
        IpAddr::V4(_) | IpAddr::V6(_) => (address, length),
    };
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
