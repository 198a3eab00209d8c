//! What fuzz targets share.

/// Octets as a stream of messages: their markers are right, so that a fuzzer need not guess them; their types, lengths
/// and bodies are what it says. An odd first octet says that all is taken as it is.
pub fn stream(octets: &[u8]) -> Vec<u8> {
    let Some((first, mut rest)) = octets.split_first() else {
        return Vec::new();
    };
    if first % 2 == 1 {
        return rest.to_vec();
    }
    let mut stream = Vec::new();
    while let [kind, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (body, after) = after.split_at(length.min(after.len()));
        // A little more or less than there is, now and then.
        let wrong = usize::from(kind / 100);
        let length = u16::try_from(19 + body.len() + wrong).unwrap_or(u16::MAX);
        stream.extend_from_slice(&[0xff; 16]);
        stream.extend_from_slice(&length.to_be_bytes());
        stream.push(kind % 7);
        stream.extend_from_slice(body);
        rest = after;
    }
    stream
}
