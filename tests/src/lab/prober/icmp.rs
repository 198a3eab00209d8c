//! Echo requests and replies, both families.

use std::net::IpAddr;

/// An echo request; IPv6 checksums are the kernel's work.
pub(super) fn request(destination: IpAddr, id: u16, sequence: u16) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = if destination.is_ipv4() { 8 } else { 128 };
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[8..].copy_from_slice(b"margay-p");
    if destination.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Whether a packet from a raw socket is the reply to our request (raw IPv4 sockets give the IP header too).
pub(super) fn is_reply(destination: IpAddr, packet: &[u8], id: u16) -> bool {
    let (kind, start) = match destination {
        IpAddr::V4(_) => (
            0,
            packet
                .first()
                .map_or(0, |first| usize::from(first & 15) * 4),
        ),
        IpAddr::V6(_) => (129, 0),
    };
    let message = packet.get(start..).unwrap_or_default();
    message.first() == Some(&kind) && message.get(4..6) == Some(&id.to_be_bytes())
}

/// The Internet checksum (RFC 1071).
fn checksum(octets: &[u8]) -> u16 {
    let mut sum = octets
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum & 0xffff).unwrap_or(u16::MAX)
}
