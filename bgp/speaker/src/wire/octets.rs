//! Numbers off the front of a slice, and onto the end of a vector.

/// Takes `count` octets, or nothing if there are fewer.
pub(crate) fn take_bytes<'a>(octets: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = octets.split_at_checked(count)?;
    *octets = rest;
    Some(taken)
}

fn take_array<const N: usize>(octets: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = octets.split_first_chunk()?;
    *octets = rest;
    Some(*taken)
}

/// Takes one octet.
pub(crate) fn take_u8(octets: &mut &[u8]) -> Option<u8> {
    take_array(octets).map(u8::from_be_bytes)
}

/// Takes two octets.
pub(crate) fn take_u16(octets: &mut &[u8]) -> Option<u16> {
    take_array(octets).map(u16::from_be_bytes)
}

/// Takes four octets.
pub(crate) fn take_u32(octets: &mut &[u8]) -> Option<u32> {
    take_array(octets).map(u32::from_be_bytes)
}

/// Takes an IPv4 address.
pub(crate) fn take_ipv4(octets: &mut &[u8]) -> Option<std::net::Ipv4Addr> {
    take_array::<4>(octets).map(Into::into)
}

/// Takes an IPv6 address.
pub(crate) fn take_ipv6(octets: &mut &[u8]) -> Option<std::net::Ipv6Addr> {
    take_array::<16>(octets).map(Into::into)
}

/// Appends two octets.
pub(crate) fn put_u16(to: &mut Vec<u8>, value: u16) {
    to.extend_from_slice(&value.to_be_bytes());
}

/// Appends four octets.
pub(crate) fn put_u32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_be_bytes());
}

/// A length that our encoders keep below 65536.
pub(crate) fn len16(length: usize) -> u16 {
    u16::try_from(length).expect("encoders stop at the longest message")
}

/// A length that our encoders keep below 256.
pub(crate) fn len8(length: usize) -> u8 {
    u8::try_from(length).expect("encoders split before 256")
}
