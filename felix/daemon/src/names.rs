//! Names and hardware addresses of links.

use margay_cni::request::Attachment;
use margay_dataplane::ruleset::LINK_PREFIX;
use margay_netlink::Mac;
use sha2::{Digest, Sha256};

/// Hardware address of every host end: pods have it as their permanent neighbour, so it never changes.
pub(crate) const HOST_MAC: Mac = Mac([0xee; 6]);

/// Name of an attachment's host end: `mgy` and 11 hex digits of a hash of sandbox and interface.
pub(crate) fn link(attachment: &Attachment) -> String {
    let digits = hash(attachment)[..6]
        .iter()
        .fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
    format!("{LINK_PREFIX}{}", &digits[..11])
}

/// Hardware address of an attachment's pod end: locally administered.
pub(crate) fn pod_mac(attachment: &Attachment) -> Mac {
    let hash = hash(attachment);
    Mac([0x02, hash[6], hash[7], hash[8], hash[9], hash[10]])
}

fn hash(attachment: &Attachment) -> [u8; 32] {
    let Attachment {
        container,
        interface,
    } = attachment;
    // A container id has no slash, so different attachments are different texts.
    Sha256::digest(format!("{container}/{interface}")).into()
}
