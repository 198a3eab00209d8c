//! Communities of three kinds, and those that mean the same everywhere.

/// A large community (RFC 8092): global administrator, then two words of its own.
pub type LargeCommunity = [u32; 3];

/// An extended community (RFC 4360): type, subtype and value, as on the wire.
pub type ExtendedCommunity = [u8; 8];

/// In the type of an extended community: it does not leave the AS (RFC 4360 §2).
pub(crate) const NOT_TRANSITIVE: u8 = 0x40;

/// Not to eBGP peers (RFC 1997).
pub const NO_EXPORT: u32 = 0xffff_ff01;
/// To nobody (RFC 1997).
pub const NO_ADVERTISE: u32 = 0xffff_ff02;
/// Not out of a confederation's member (RFC 1997); without confederations as [`NO_EXPORT`].
pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
/// The sender is about to leave (RFC 8326 §5).
pub const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
/// The route is kept from a session that is over for long (RFC 9494 §4).
pub const LLGR_STALE: u32 = 0xffff_0006;
/// The route is not to be kept for long (RFC 9494 §4).
pub const NO_LLGR: u32 = 0xffff_0007;
