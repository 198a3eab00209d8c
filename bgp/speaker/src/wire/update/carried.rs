//! Attributes that are checked and passed on, but not looked into.

use crate::wire::attrs::code;
use crate::wire::octets::{take_bytes, take_u8, take_u16};

/// Whether an attribute that is carried and not looked into has the shape that its RFC gives it.
pub(super) fn is_well_formed(code: u8, value: &[u8]) -> bool {
    match code {
        code::PMSI_TUNNEL => value.len() >= 5, // RFC 6514 §5
        code::TUNNEL_ENCAPSULATION => {
            // RFC 9012 §2: type and length of two octets each.
            tlvs(value, take_u16).is_some_and(|tlvs| !tlvs.is_empty())
        }
        code::IPV6_EXTENDED_COMMUNITIES => !value.is_empty() && value.len().is_multiple_of(20), // RFC 5701 §2
        code::ONLY_TO_CUSTOMER => value.len() == 4, // RFC 9234 §5
        code::PREFIX_SID => {
            // RFC 8669 §3: type of one octet, length of two; a label index (1) has seven.
            let take_type = |octets: &mut &[u8]| take_u8(octets).map(u16::from);
            tlvs(value, take_type).is_some_and(|tlvs| {
                !tlvs.is_empty() && tlvs.iter().all(|tlv| *tlv != (1, tlv.1) || tlv.1 == 7)
            })
        }
        _ => true,
    }
}

/// Types and lengths of a row of TLVs; `None` if the last runs over the end.
fn tlvs(
    mut value: &[u8],
    take_type: impl Fn(&mut &[u8]) -> Option<u16>,
) -> Option<Vec<(u16, usize)>> {
    let mut tlvs = Vec::new();
    while !value.is_empty() {
        let kind = take_type(&mut value)?;
        let length = usize::from(take_u16(&mut value)?);
        take_bytes(&mut value, length)?;
        tlvs.push((kind, length));
    }
    Some(tlvs)
}
